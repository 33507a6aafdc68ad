"""`hashfold eval`: how well a model ranks the labels of rows whose labels are known."""

from __future__ import annotations

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
@options.machine
@common
def evaluate(
    invocation: Invocation, model: str, data: str, lookup: bool, threads: int | None, **reading: Any
) -> None:
    """Score the model folder MODEL on DATA, whose labels are known.

    P@k, nDCG@k, recall@k, and P@k weighted by propensity (PSP@k), each for k = 1 to 5.
    """
    from hashfold.model import HashfoldModel

    options.use_threads(threads)
    trained = HashfoldModel.load(model)
    rows = trained.read(data, **options.given(**reading))
    answer = {"model": model, "data": data, **trained.evaluate(rows, KS, lookup=lookup)}
    answer |= {"lookup": lookup, "peak_memory_bytes": peak_bytes()}
    if invocation.json:
        show_json(answer)
    else:
        _tell(answer)


def _tell(answer: dict[str, Any]) -> None:
    click.echo("k".ljust(8) + "".join(f"{k:>9}" for k in KS))
    for name in ("P", "nDCG", "R", "PSP"):
        click.echo(f"{name + '@k':8}" + "".join(f"{answer[f'{name}@{k}']:9.4f}" for k in KS))
    click.echo(
        f"{answer['rows']:,} rows in {answer['seconds']:.2f} s, {answer['ms_per_row']:.3f} ms a row, "
        f"{answer['active_fraction']:.1%} of the labels scored"
    )
