"""`hashfold train`: from a file of examples to a model folder."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hashfold.cli import options
from hashfold.cli.app import Invocation, common, show_json
from hashfold.errors import FileFormatError

if TYPE_CHECKING:
    from hashfold.data import Dataset
    from hashfold.model import HashfoldModel
    from hashfold.train import Callback, TrainResult

_CHECKPOINT = ".checkpoint"
_OVERRIDES = {
    *("hidden", "loss", "dropout", "negatives", "hard_negatives", "index", "label_norm", "lr", "storage"),
    "optimizer",
    *("epochs", "batch_size", "patience", "max_seconds", "seed", "threads"),
    *("buckets", "weights", "least_rows", "rare"),
}

_combining = (
    click.option(
        "--effort",
        type=click.Choice(["low", "normal", "high"]),
        default="normal",
        show_default=True,
        help="Accuracy for time: low trains half as long; high, on many rows, a wider network for longer.",
    ),
    click.option(
        "--without",
        type=click.Choice(options.PARTS),
        multiple=True,
        help="Train without deep (the network), wide (weights of a feature for a label) or near (the most similar "
        "rows); repeatable. Deep or near has to be left, to propose labels.",
    ),
    click.option(
        "--with",
        "kept",
        type=click.Choice(["deep"]),
        multiple=True,
        help="Train with deep also where labels have too few rows for it to learn, and it would be left out.",
    ),
    click.option(
        "--rare",
        type=float,
        help="Favour labels seen rarely: where scores are combined, labels count 1 / propensity to this power; "
        "0.5 is a good try.",
    ),
    click.option("--buckets", type=int, help="Cross weights of the wide look-up, a byte each."),
    click.option(
        "--weights",
        type=int,
        help="Keep so many cross weights, the largest, each its own, instead of sharing buckets: smaller and more "
        "accurate on many rows, three times as long to train.",
    ),
    click.option(
        "--least-rows",
        type=int,
        help="Of a label that the network learns; wide and near alone know the others, or they join it.",
    ),
)
_network = (
    click.option("--hidden", type=int, help="Width of the hidden vector."),
    click.option("--loss", type=click.Choice(["softmax", "sigmoid"]), help="sigmoid: rows have several labels."),
    click.option("--dropout", type=float, help="Share of hidden units dropped in training."),
    click.option("--negatives", type=int, help="Uniform negative labels a batch; 0 computes all labels."),
    click.option("--hard-negatives", type=int, help="Labels looked up for each row as negatives; 0 for none."),
    click.option(
        "--index", type=click.Choice(["exact", "clustered", "tree", "lsh"]), help="How labels are looked up."
    ),
    click.option(
        "--label-norm",
        type=float,
        help="Hold label vectors to this length (12, say): predicting with --lookup then finds nearly all that "
        "scoring every label does, at a fortieth of the labels.",
    ),
    click.option("--lr", type=float, help="The peak learning rate."),
    click.option(
        "--optimizer",
        type=click.Choice(["adam", "rowwise_adam", "compact_adam", "rowwise_adagrad"]),
        help="Of the network. State while training: 8, 4, 2 or 0 bytes a weight.",
    ),
    click.option("--storage", type=click.Choice(["fp32", "fp16", "int8"]), help="Of the trained weights."),
)
_training = (
    click.option("--epochs", type=int, help="Passes over the training rows."),
    click.option("--batch-size", type=int, help="Rows a step."),
    click.option("--patience", type=int, help="Stop after so many validations without a new best P@1."),
    click.option("--max-seconds", type=float, help="Stop after this time."),
    click.option("--seed", type=int, default=0, show_default=True, help="Of weights, order, dropout, negatives."),
)


def _all(*decorators: Callable[..., Any]) -> Callable[..., Any]:
    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


@click.command()
@click.argument("data")
@click.option("--valid", metavar="DATA", help="Held-out rows: scored after each epoch.")
@click.option("-o", "--output", required=True, metavar="MODEL", help="The model folder to write.")
@click.option("--overwrite", is_flag=True, help="Replace an older model there, when the new one is complete.")
@click.option("--resume", is_flag=True, help="Go on with the interrupted run of the same command.")
@options.reading
@click.option("--label-names", metavar="FILE", help="One name a line, for files whose labels are numbers.")
@click.option("--min-df", type=int, default=2, show_default=True, help="Drop words in fewer texts.")
@click.option("--max-features", type=int, help="Keep the so many most frequent words.")
@click.option(
    "--weighting",
    type=click.Choice(["auto", "tfidf", "normalize", "none"]),
    default="auto",
    show_default=True,
    help="Of the input; auto: tfidf for counts, else rows of length 1.",
)
@_all(*_combining, *_network, *_training)
@options.machine
@click.option("--tensorboard", metavar="FOLDER", help="Write TensorBoard events.")
@click.option("--quiet", is_flag=True, help="No progress, no chosen settings.")
@common
def train(invocation: Invocation, data: str, output: str, **chosen: Any) -> None:
    """Train a model on DATA and write it to the folder MODEL.

    DATA is a file in the Extreme Classification format (.txt), svmlight, CSV, TSV, JSON lines or Parquet, plain,
    .gz or .xz; or a folder of Python source. What is not set here is chosen from the data, and printed.

    Ctrl-C saves the run beside MODEL; the same command with --resume goes on. Without deep there is none to save.
    """
    job = _Job(data, Path(output), **chosen)
    model, result = job.run()
    answer = {
        "model": output,
        "seconds": job.seconds(),
        "train_seconds": result.train_seconds,
        "peak_memory_bytes": result.peak_memory_bytes,
        "settings": {
            "network": None if model.network is None else model.network.config.to_dict(),
            "training": model.training,
        },
        "data": model.data,
        "metrics": result.metrics,
        "stopped": result.stopped,
        "epochs": result.epochs,
        "steps": result.steps,
        "examples_per_second": result.examples_per_second,
        "history": result.history,
    }
    if invocation.json:
        show_json(answer)
    else:
        _tell(answer)


class _Job:
    """One training run: what the options say, in the order in which it is needed."""

    def __init__(self, data: str, output: Path, **chosen: Any) -> None:
        self._start = time.perf_counter()
        self.data, self.output, self.chosen = data, output, chosen
        self.checkpoint = output.with_name(output.name + _CHECKPOINT)

    def seconds(self) -> float:
        return time.perf_counter() - self._start

    def run(self) -> tuple[HashfoldModel, TrainResult]:
        from hashfold.io import CHECKPOINT, check_destination
        from hashfold.train import Checkpoints, fit_model, remove_checkpoint

        options.use_threads(self.chosen["threads"])
        parts = self._parts()
        check_destination(self.output, overwrite=self.chosen["overwrite"])
        check_destination(self.checkpoint, CHECKPOINT, overwrite=True)
        training, validation = self._read()
        model, result = fit_model(
            training,
            validation,
            weighting=self.chosen["weighting"],
            overrides=self._overrides(),
            parts=parts,
            without=self.chosen["without"],
            effort=self.chosen["effort"],
            callbacks=self._callbacks(),
            checkpoints=Checkpoints(self.checkpoint),
            resume=self.chosen["resume"],
            say=self._say,
        )
        model.save(self.output, overwrite=self.chosen["overwrite"])
        remove_checkpoint(self.checkpoint)
        return model, result

    def _read(self) -> tuple[Dataset, Dataset | None]:
        from hashfold import data

        options_of_text = {name: self.chosen[name] for name in ("min_df", "max_features")}
        training = data.read(self.data, **self._reading(), **options_of_text)
        training = _with_names(training, self.chosen["label_names"])
        if self.chosen["valid"] is None:
            return training, None
        names = training.label_names
        held_out = data.read(
            self.chosen["valid"],
            **self._reading(),
            vectorizer=training.vectorizer,
            label_vocabulary=data.LabelVocabulary(names) if names is not None else None,
            num_features=training.num_features,
            num_labels=training.num_labels,
        )
        return training, held_out

    def _reading(self) -> dict[str, Any]:
        names = ("format", "text_columns", "label_column", "label_separator", "label_key")
        return options.given(**{name: self.chosen[name] for name in names})

    def _parts(self) -> tuple[str, ...] | None:
        """The look-ups asked for, before some are left out; None: those that the data is fit for."""
        from hashfold import checks

        if both := set(self.chosen["kept"]) & set(self.chosen["without"]):
            checks.fail("train", "--with and --without must name different look-ups", ", ".join(both))
        if {"deep", "near"} <= set(self.chosen["without"]):
            checks.fail("train", "deep or near must be left to propose labels", "--without deep --without near")
        return options.PARTS if self.chosen["kept"] else None

    def _overrides(self) -> dict[str, Any]:
        return options.given(**{name: value for name, value in self.chosen.items() if name in _OVERRIDES})

    def _callbacks(self) -> list[Callback]:
        from hashfold.train import TensorBoard, progress

        chosen: list[Callback] = [] if self.chosen["quiet"] else [progress()]
        return [*chosen, TensorBoard(self.chosen["tensorboard"])] if self.chosen["tensorboard"] else chosen

    def _say(self, line: str) -> None:
        if not self.chosen["quiet"]:
            print(line, file=sys.stderr, flush=True)


def _with_names(training: Dataset, path: str | None) -> Dataset:
    """The data set with the label names of a file, one a line."""
    from hashfold import checks
    from hashfold.data import read_names

    if path is None:
        return training
    if training.label_names is not None:
        checks.fail("train", "--label-names is for data whose labels are ids", "labels with names", "leave it out")
    names = read_names(path)
    if len(names) < training.num_labels:
        raise FileFormatError(
            path, f"must have a name for each of the {training.num_labels} labels; got {len(names)}."
        )
    return replace(training, label_names=names, y=replace(training.y, num_ids=len(names)))


def _tell(answer: dict[str, Any]) -> None:
    for name in ("P@1", "P@3", "P@5"):
        if name in answer["metrics"]:
            click.echo(f"{name:12}{answer['metrics'][name]:.4f}")
    click.echo(f"{'seconds':12}{answer['seconds']:.1f}")
    click.echo(f"{'peak memory':12}{answer['peak_memory_bytes'] / 2**30:.2f} GiB")
    click.echo(f"{'model':12}{answer['model']}")
