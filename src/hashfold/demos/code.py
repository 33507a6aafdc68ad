"""Completing Python code, learned from the interpreter's own standard library.

The tokens before an identifier are the input, the identifier is the label: tens of thousands of classes
on every machine that has Python. The output layer is looked up, in training and in predicting, and the
same weights scored exactly are what the lookup is compared with.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hashfold import metrics
from hashfold.data import Dataset, python_source, typed
from hashfold.model import HashfoldModel
from hashfold.sparse import CsrBatch
from hashfold.train import Callback, fit_model

if TYPE_CHECKING:
    from rich.console import Console

CONTEXTS = (
    "import os\n\npath = os.path.",
    "def __init__(self, name):\n    self.name = ",
    "with open(path) as f:\n    data = json.",
    "import re\n\npattern = re.",
    "if not isinstance(value, ",
    "except KeyError:\n    raise ",
    "for line in sys.st",
    "logger = logging.getL",
)


@dataclass(frozen=True)
class Recipe:
    """How much is learned, and the settings that are not chosen from the data: a minute on two cores."""

    max_examples: int = 500_000
    epochs: int = 3
    overrides: Mapping[str, Any] = field(
        default_factory=lambda: {
            **{"hidden": 128, "negatives": 1024, "hard_negatives": 4, "index": "clustered"},
            "max_seconds": 80.0,  # on a slow machine it learns less rather than longer
        }
    )


def run(
    seed: int = 0,
    recipe: Recipe | None = None,
    *,
    roots: Sequence[Any] | None = None,
    callbacks: Sequence[Callback] = (),
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Reads the source, trains, and measures on files that training did not see.

    Args:
        seed: of the examples drawn, the weights and the order of training.
        recipe: how much and how long.
        roots: folders of Python source; None: the standard library.
        callbacks: watch the training. say: told what was found and chosen.

    Returns: a JSON-able dict: sizes, `P@1` and `P@5` with all labels scored (`exact`) and with those
    looked up (`lookup`), each with milliseconds a row, one row at a time; `active_fraction` of the labels
    computed in training and in predicting; `completions` of a few contexts.
    """
    recipe = recipe or Recipe()
    start = time.perf_counter()
    task = python_source(roots, max_examples=recipe.max_examples, seed=seed)
    say(f"{task.files:,} files, {len(task.train):,} examples, {task.train.num_labels:,} names to choose from")
    overrides = {"epochs": recipe.epochs, "seed": seed, **recipe.overrides}
    model, trained = fit_model(task.train, overrides=overrides, parts=("deep",), callbacks=callbacks, say=say)
    some = _some(task.test, 5_000, seed)
    exact, lookup = measure(model, some, lookup=False), measure(model, some, lookup=True)
    return {
        "demo": "code",
        "files": task.files,
        "train_examples": len(task.train),
        "test_examples": len(some),
        "classes": task.train.num_labels,
        "exact": exact,
        "lookup": lookup,
        "same_best": float((exact.pop("best") == lookup.pop("best")).mean()),
        "active_fraction": {
            "training": trained.history[-1]["active_fraction"],
            "predicting": model.active_fraction(some.x.take(np.arange(min(len(some), 1000)))),
        },
        "completions": [{"context": text, "names": complete(model, text)} for text in CONTEXTS],
        "train_seconds": trained.train_seconds,
        "examples_per_second": trained.examples_per_second,
        "seconds": time.perf_counter() - start,
    }


def complete(model: HashfoldModel, text: str, k: int = 5) -> list[tuple[str, float]]:
    """The k most likely identifiers at the end of `text` with their scores, found by lookup.

    A word that `text` ends in is still being typed: only names that begin with it count, and they are
    picked from the scores of all names.
    """
    begun = typed(text)
    ids, scores = (
        model.top_k([text], model.num_labels, lookup=False) if begun else model.top_k([text], k, lookup=True)
    )
    found = [
        (str(model.targets.label(label_id)), score)
        for label_id, score in zip(ids[0].tolist(), scores[0].tolist(), strict=True)
        if label_id >= 0
    ]
    return [(name, score) for name, score in found if name.startswith(begun)][:k]


def measure(model: HashfoldModel, rows: Dataset, *, lookup: bool) -> dict[str, Any]:
    """P@1 and P@5 over all rows, and the median time of a row by itself."""
    ids, _ = model.top_k(rows.x, 5, lookup=lookup)
    scored = metrics.evaluate(ids, rows.y, ks=(1, 5))
    return {
        "P@1": scored["P@1"],
        "R@5": scored["R@5"],
        "ms_per_row": _milliseconds(model, rows.x, lookup),
        "best": ids[:, 0],
    }


def _milliseconds(model: HashfoldModel, x: CsrBatch, lookup: bool, rows: int = 200) -> float:
    times = []
    for row in range(min(rows, len(x))):
        one = x.take(np.array([row]))
        start = time.perf_counter()
        model.top_k(one, 5, lookup=lookup)
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def _some(data: Dataset, limit: int, seed: int) -> Dataset:
    chosen = np.random.default_rng(seed).permutation(len(data))[:limit]
    return data.take(np.sort(chosen))


def show(result: Mapping[str, Any], console: Console) -> None:
    """Prints what `run` returned."""
    from rich.table import Table
    from rich.text import Text

    for completion in result["completions"]:
        context = completion["context"].replace("\n", " ⏎ ")
        names = "  ".join(name for name, _ in completion["names"])
        console.print(Text.assemble((context, "dim"), ("▏", "bold"), " ", (names, "bold green")))
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("", "P@1", "in the top 5", "ms a row", "labels scored"):
        table.add_column(column, justify="left" if not column else "right")
    shares = {"exact": 1.0, "lookup": result["active_fraction"]["predicting"]}
    for way, share in shares.items():
        figures = result[way]
        table.add_row(
            way, f"{figures['P@1']:.3f}", f"{figures['R@5']:.3f}", f"{figures['ms_per_row']:.3f}", f"{share:.1%}"
        )
    console.print(table)
    computed = result["active_fraction"]["training"]
    console.print(
        f"{result['classes']:,} names; training computed {computed:.1%} of them a batch, "
        f"{result['examples_per_second']:,.0f} examples/s; {result['seconds']:.0f} s in all",
        highlight=False,
    )
