"""Options that several commands share, in groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from hashfold.model import HashfoldModel

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_FORMATS = ("csv", "jsonl", "parquet", "python", "svmlight", "tsv", "xmc")


def _together(*options: Decorator) -> Decorator:
    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


reading = _together(
    click.option("--format", type=click.Choice(_FORMATS), help="Of the data; by default, as its name ends."),
    click.option("--text-column", "text_columns", multiple=True, metavar="NAME", help="Text to read; repeatable."),
    click.option("--label-column", metavar="NAME", help="Where the labels are."),
    click.option("--label-separator", metavar="TEXT", help="What separates several labels in a cell."),
    click.option("--label-key", "label_key", multiple=True, metavar="NAME", help="Names labels that are objects."),
)
"""How tables are read: the values go to `hashfold.data.read` as they are."""

machine = _together(
    click.option("--threads", type=click.IntRange(min=1), help="By default as many as there are cores."),
)

look_up = click.option(
    "--lookup/--exact",
    default=False,
    help="Score only the labels that the index finds, or (by default) all of them.",
)

PARTS = ("deep", "wide", "near")

scoring = _together(
    click.option(
        "--without",
        type=click.Choice(PARTS),
        multiple=True,
        help="Leave out a look-up that the model has; repeatable.",
    ),
    click.option(
        "--rare",
        type=click.FloatRange(min=0),
        default=0.0,
        metavar="FLOAT",
        help="Favour labels seen rarely: add so many times log(1 / propensity) to their scores.",
    ),
)
"""How scores come about; `parts_left` makes of `without` what `HashfoldModel.top_k` takes."""


def parts_left(model: HashfoldModel, without: Sequence[str]) -> list[str] | None:
    """The model's look-ups but those left out; None for all of them."""
    left = [part for part in model.lookups.parts if part not in without]
    return left if without else None


def given(**options: Any) -> dict[str, Any]:
    """The options that were given: without None and empty tuples."""
    return {name: value for name, value in options.items() if value is not None and value != ()}


def use_threads(count: int | None) -> None:
    """Both torch and the compiled core run `count` threads from now on."""
    if count is None:
        return
    import torch

    from hashfold.kernels import native

    torch.set_num_threads(count)
    native.set_num_threads(count)
