"""`hashfold predict`: label names and scores for the rows of a file, or of standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from hashfold.cli import options
from hashfold.cli.app import Invocation, common, show_json
from hashfold.cli.explain import show

if TYPE_CHECKING:
    from hashfold.model import HashfoldModel
    from hashfold.model.explain import Explanation
    from hashfold.model.pipeline import Rows

_BLOCK_ROWS = 4096


@click.command()
@click.argument("model")
@click.argument("data", default="-")
@click.option("-k", type=click.IntRange(min=1), help="Labels a row; by default 5, explained 1.")
@options.reading
@options.look_up
@options.scoring
@click.option("--explain", is_flag=True, help="Say which features, hidden units and neighbours spoke for a label.")
@click.option("--feature-names", metavar="FILE", help="For --explain: one name a line, of features with numbers.")
@options.machine
@common
def predict(
    invocation: Invocation,
    model: str,
    data: str,
    k: int | None,
    lookup: bool,
    without: tuple[str, ...],
    rare: float,
    explain: bool,
    feature_names: str | None,
    threads: int | None,
    **reading: Any,
) -> None:
    """Rank labels for DATA with the model folder MODEL; `-` (the default) reads standard input.

    Standard input holds one text a line if the model takes texts (or a table, with --format), else rows in the
    format of the model's training data. Python source on standard input is completed at its end.

    One line a row: the best label, its score, the next label, its score ..., separated by tabs. Scores are the
    log-odds that a label is true, or the logits of a softmax where the deep path is alone.
    """
    from hashfold.model import HashfoldModel

    options.use_threads(threads)
    trained = HashfoldModel.load(model)
    k = k if k is not None else 1 if explain else 5
    parts = options.parts_left(trained, without)
    blocks = _rows(trained, data, options.given(**reading))
    if explain:
        if lookup or rare:
            raise click.UsageError("--explain explains scores without --lookup and --rare; leave these out.")
        show(invocation, model, _explained(trained, blocks, k, parts, feature_names))
        return
    way = {"lookup": lookup, "parts": parts, "rare": rare}
    ranked = _ranked(trained, blocks, k, way)
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


def _explained(
    model: HashfoldModel, blocks: Iterator[Rows], k: int, parts: list[str] | None, names_file: str | None
) -> Iterator[Explanation]:
    from hashfold.data import read_names

    names = None if names_file is None else read_names(names_file)
    first = 0
    for block in blocks:
        for told in model.explain(block, k, parts=parts, feature_names=names):
            yield replace(told, row=first + told.row)
        first += len(block)
