"""`hashfold predict`: label names and scores for the rows of a file, or of standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from hashfold.cli import options
from hashfold.cli.app import Invocation, common, show_json

if TYPE_CHECKING:
    from hashfold.model import HashfoldModel
    from hashfold.model.pipeline import Rows

_BLOCK_ROWS = 4096


@click.command()
@click.argument("model")
@click.argument("data", default="-")
@click.option("-k", type=click.IntRange(min=1), default=5, show_default=True, help="Labels a row.")
@options.reading
@options.look_up
@options.scoring
@options.machine
@common
def predict(
    invocation: Invocation,
    model: str,
    data: str,
    k: int,
    lookup: bool,
    without: tuple[str, ...],
    rare: float,
    threads: int | None,
    **reading: Any,
) -> None:
    """Rank labels for DATA with the model folder MODEL; `-` (the default) reads standard input.

    Standard input holds one text a line if the model takes texts (or a table, with --format), else rows in the
    format of the model's training data. Python source on standard input is completed at its end.

    One line a row: the best label, its score, the next label, its score ..., separated by tabs.
    """
    from hashfold.model import HashfoldModel

    options.use_threads(threads)
    trained = HashfoldModel.load(model)
    way = {"lookup": lookup, "parts": options.parts_left(trained, without), "rare": rare}
    ranked = _ranked(trained, _rows(trained, data, options.given(**reading)), k, way)
    if invocation.json:
        rows = [[{"label": label, "score": score} for label, score in row] for row in ranked]
        show_json({"model": model, "k": k, "lookup": lookup, "rows": len(rows), "predictions": rows})
        return
    for row in ranked:
        click.echo("\t".join(f"{label}\t{score:.6g}" for label, score in row))


def _rows(model: HashfoldModel, data: str, reading: dict[str, Any]) -> Iterator[Rows]:
    """The rows to predict, in blocks that fit in memory."""
    from hashfold.data import CodeVectorizer
    from hashfold.data.streams import lines

    if data != "-":
        yield model.read(data, labels=False, **reading).x
    elif isinstance(model.vectorizer, CodeVectorizer):
        yield ["".join(lines(sys.stdin.buffer))]
    elif model.takes_texts and "format" not in reading:
        block: list[str] = []
        for line in lines(sys.stdin.buffer):
            block.append(line.rstrip("\r\n"))
            if len(block) == _BLOCK_ROWS:
                yield block
                block = []
        if block:
            yield block
    else:
        yield model.read(sys.stdin.buffer, labels=False, **{"format": model.reading.get("format"), **reading}).x


def _ranked(
    model: HashfoldModel, blocks: Iterator[Rows], k: int, way: dict[str, Any]
) -> Iterator[list[tuple[Any, float]]]:
    """(label, score) of each row, best first, only those that were found."""
    for block in blocks:
        ids, scores = model.top_k(block, k, **way)
        for row_ids, row_scores in zip(ids.tolist(), scores.tolist(), strict=True):
            yield [
                (model.targets.label(label_id), score)
                for label_id, score in zip(row_ids, row_scores, strict=True)
                if label_id >= 0
            ]
