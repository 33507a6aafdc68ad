"""`hashfold eval`: how well a model ranks the labels of rows whose labels are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import click

from hashfold.cli import options
from hashfold.cli.app import Invocation, common, show_json
from hashfold.memory import peak_bytes

KS = (1, 2, 3, 4, 5)


@click.command("eval")
@click.argument("model")
@click.argument("data")
@options.reading
@options.look_up
@options.scoring
@options.machine
@common
def evaluate(
    invocation: Invocation,
    model: str,
    data: str,
    lookup: bool,
    without: tuple[str, ...],
    rare: float,
    threads: int | None,
    **reading: Any,
) -> None:
    """Score the model folder MODEL on DATA, whose labels are known.

    P@k, nDCG@k, recall@k, and P@k weighted by propensity (PSP@k), each for k = 1 to 5; the share of the labels
    that are among the candidates (recall@100); how far probabilities are off (ECE); recall by how often labels
    occurred in training; and P@k with each look-up left out in turn.
    """
    from hashfold.model import HashfoldModel

    options.use_threads(threads)
    trained = HashfoldModel.load(model)
    rows = trained.read(data, **options.given(**reading))
    parts = options.parts_left(trained, without)
    found = trained.evaluate(rows, KS, lookup=lookup, parts=parts, rare=rare, bands=True, contributions=True)
    answer = {"model": model, "data": data, **found}
    answer |= {"lookup": lookup, "without": without, "rare": rare, "peak_memory_bytes": peak_bytes()}
    if invocation.json:
        show_json(answer)
    else:
        _tell(answer)


def _tell(answer: dict[str, Any]) -> None:
    _line("k", KS)
    for name in ("P", "nDCG", "R", "PSP"):
        _line(f"{name}@k", [answer[f"{name}@{k}"] for k in KS])
    for name in ("recall@100", "ECE@1", "ECE@5"):
        if name in answer:
            _line(name, [answer[name]])
    _tell_bands(answer["bands"])
    if len(answer["contributions"]) > 1:
        _tell_contributions(answer["contributions"])
    click.echo(
        f"\n{answer['rows']:,} rows in {answer['seconds']:.2f} s, {answer['ms_per_row']:.3f} ms a row, "
        f"{answer['active_fraction']:.1%} of the labels scored"
    )


def _tell_bands(bands: Sequence[dict[str, Any]]) -> None:
    click.echo("\nby a label's training rows")
    ks = [name for name in bands[0] if name.startswith("R@")]
    _line("rows", ["labels", "in DATA", *ks])
    for band in bands:
        if band["labels"]:
            _line(_range(band["low"], band["high"]), [band["labels"], band["occurrences"], *(band[k] for k in ks)])


def _range(low: int, high: int | None) -> str:
    if high is None:
        return f"{low:,} or more"
    return f"{low:,}" if high == low else f"{low:,} to {high:,}"


def _tell_contributions(tables: dict[str, dict[str, float]]) -> None:
    names = list(next(iter(tables.values())))
    click.echo("\nby the look-ups used")
    _line("", names)
    for key, scores in tables.items():
        _line(key.replace("+", " + "), [scores[name] for name in names])


def _line(name: str, cells: Sequence[int | float | str]) -> None:
    click.echo(f"{name:20}" + "".join(f"{_cell(cell):>10}" for cell in cells))


def _cell(value: float | str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    return "-" if math.isnan(value) else f"{value:.4f}"
