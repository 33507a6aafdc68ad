"""How `hashfold predict --explain` tells why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from hashfold.cli.app import Invocation, show_json

if TYPE_CHECKING:
    from hashfold.model.explain import Explanation, Feature


def show(invocation: Invocation, model: str, told: Iterable[Explanation]) -> None:
    if invocation.json:
        show_json({"model": model, "explanations": [asdict(explanation) for explanation in told]})
        return
    for explanation in told:
        click.echo("\n".join(_lines(explanation)))


def _lines(told: Explanation) -> Iterator[str]:
    chance = "" if told.probability is None else f", probability {told.probability:.3f}"
    yield f"row {told.row}: {told.label}  score {told.score:.3f}{chance}"
    if told.terms:
        yield _line("terms", (f"{term.name} {term.amount:+.2f}" for term in told.terms))
    for name, features in (("wide", told.wide), ("deep", told.deep)):
        if features:
            yield _line(name, map(_feature, features))
    if told.hidden:
        yield _line("hidden", (f"unit {unit.unit} {unit.amount:+.3f}" for unit in told.hidden))
    if told.neighbours:
        yield _line(
            "neighbours",
            (f"row {n.row} ({n.similarity:.2f}, {'has' if n.has_label else 'lacks'} it)" for n in told.neighbours),
        )


def _feature(feature: Feature) -> str:
    name = f"feature {feature.feature}" if feature.name is None else feature.name
    return f"{name} {feature.amount:+.3f}"


def _line(name: str, words: Iterable[str]) -> str:
    return f"  {name:12}" + ", ".join(words)
