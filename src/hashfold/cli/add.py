"""`hashfold add`: new training rows for a model, without training it again."""

from __future__ import annotations

import time
from typing import Any

import click

from hashfold.cli import options
from hashfold.cli.app import Invocation, common, show_json


@click.command()
@click.argument("model")
@click.argument("data")
@click.option("-o", "--output", metavar="NEWMODEL", help="The model folder to write; by default MODEL itself.")
@click.option("--overwrite", is_flag=True, help="Replace the model there, when the new one is complete.")
@options.reading
@options.machine
@common
def add(
    invocation: Invocation,
    model: str,
    data: str,
    output: str | None,
    overwrite: bool,
    threads: int | None,
    **reading: Any,
) -> None:
    """Add the rows of DATA, whose labels are known, to the model folder MODEL.

    Nothing is trained: the new rows are looked up as neighbours from now on, and vote for their labels, also for
    labels that the model has not seen before. Write the model to NEWMODEL, or over MODEL with --overwrite.
    """
    from hashfold.io import check_destination
    from hashfold.model import HashfoldModel

    start = time.perf_counter()
    options.use_threads(threads)
    destination = model if output is None else output
    check_destination(destination, overwrite=overwrite)
    trained = HashfoldModel.load(model)
    labels = trained.num_labels
    rows = trained.add(trained.read(data, **options.given(**reading)))
    trained.save(destination, overwrite=overwrite)
    answer = {
        "model": destination,
        "rows_added": rows,
        "labels_added": trained.num_labels - labels,
        "rows": trained.num_rows,
        "labels": trained.num_labels,
        "seconds": time.perf_counter() - start,
    }
    if invocation.json:
        show_json(answer)
        return
    click.echo(f"added {rows:,} rows and {answer['labels_added']:,} new labels to {destination}")
