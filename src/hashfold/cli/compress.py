"""`hashfold compress`: a model folded into fewer shared values."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from hashfold.cli import options
from hashfold.cli.app import Invocation, common, show_json


@click.command()
@click.argument("model")
@click.option("-o", "--output", required=True, metavar="SMALL", help="The model folder to write.")
@click.option("--overwrite", is_flag=True, help="Replace an older model there, when the new one is complete.")
@click.option(
    "--megabytes", type=click.FloatRange(min=0, min_open=True), help="Of the look-ups in memory, at most."
)
@click.option("--ratio", type=click.FloatRange(min=1), help="The same as a share of MODEL's bytes; default 4.")
@click.option("--bits", type=click.IntRange(1, 8), help="Of a weight of the deep path.")
@click.option("--label-bits", type=click.IntRange(1, 8), help="Of a label's weights there; default as --bits.")
@click.option("--buckets", type=click.IntRange(min=1), help="Cross weights of the wide path, hashed, a byte each.")
@click.option("--weights", type=click.IntRange(min=1), help="Instead: so many not hashed, the largest ones.")
@click.option("--near-bits", type=click.IntRange(1, 8), help="Of a value of near's stored rows, then packed.")
@click.option(
    "--near-share", type=float, help="Of each stored row's squared length, what its entries kept make up."
)
@click.option("--without", type=click.Choice(["deep"]), help="Leave the deep path out.")
@options.machine
@common
def compress(
    invocation: Invocation,
    model: str,
    output: str,
    overwrite: bool,
    megabytes: float | None,
    ratio: float | None,
    bits: int | None,
    label_bits: int | None,
    buckets: int | None,
    weights: int | None,
    near_bits: int | None,
    near_share: float | None,
    without: str | None,
    threads: int | None,
) -> None:
    """Fold the model folder MODEL into a smaller one, SMALL, on disk and in memory.

    Weights of the deep path become packed codes for shared values, of the cross weights the largest are kept and
    trained again (or all, in fewer buckets), and stored rows keep their heaviest terms, in packed lists. Say how
    small by --megabytes or --ratio, or part by part by the other options (what is not named stays). No data is
    needed: the model's own rows are used.
    """
    from hashfold.io import check_destination
    from hashfold.model import HashfoldModel
    from hashfold.train import Fold, fold_model, fold_within

    start = time.perf_counter()
    options.use_threads(threads)
    asked: dict[str, Any] = {"bits": bits, "label_bits": label_bits, "buckets": buckets, "weights": weights}
    asked |= {"near_bits": near_bits, "near_share": near_share, "without_deep": True if without else None}
    parts = options.given(**asked)
    if sum((bool(parts), megabytes is not None, ratio is not None)) > 1:
        raise click.UsageError("give one of --megabytes, --ratio, and the parts (--bits, --buckets, ...)")
    check_destination(output, overwrite=overwrite)
    whole = HashfoldModel.load(model)
    before = _bytes(model)
    most = before / (ratio or 4.0) if megabytes is None else megabytes * 1e6
    fold = Fold(**parts) if parts else fold_within(whole, int(most))
    small = fold_model(whole, fold, lambda line: None if invocation.json else print(line, file=sys.stderr))
    small.save(output, overwrite=overwrite)
    answer = {
        "model": output,
        "fold": vars(fold),
        "bytes": _bytes(output),
        "bytes_before": before,
        "seconds": time.perf_counter() - start,
    }
    if invocation.json:
        show_json(answer)
        return
    click.echo(f"{_bytes(output) / 1e6:.1f} MB instead of {before / 1e6:.1f}: {output}")


def _bytes(folder: str) -> int:
    return sum(file.stat().st_size for file in Path(folder).iterdir())
