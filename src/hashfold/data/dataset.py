"""Examples and their labels, and what can be said about them before training."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hashfold import checks
from hashfold.sparse import CsrBatch, Float32, Int64, RaggedIds


@dataclass(frozen=True)
class Dataset:
    """Rows x (rows, features) with their label sets y (rows, labels).

    `label_names` and `feature_names`, where the source has them, are indexed by id. `vectorizer` is
    what turned text or code into x (a `TextVectorizer` or a `CodeVectorizer`), to be stored with the
    model; None if the source had features. `reading`: the options with which `read` reads another file
    the same way.
    """

    x: CsrBatch
    y: RaggedIds
    label_names: list[str] | None = None
    feature_names: list[str] | None = None
    vectorizer: Any = None
    reading: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def num_features(self) -> int:
        return self.x.num_cols

    @property
    def num_labels(self) -> int:
        return self.y.num_ids

    def take(self, rows: npt.ArrayLike) -> Dataset:
        """The given rows, in the given order."""
        return replace(self, x=self.x.take(rows), y=self.y.take(rows))


@dataclass(frozen=True)
class Statistics:
    """What the rules that choose settings look at. Counts, means per row, shares in [0, 1].

    `label_count_quantiles`: rows of a label, over the labels that occur, at 0, 25, 50, 75, 90, 99 and
    100 %.
    """

    rows: int
    features: int
    labels: int
    nnz: int
    features_per_row: float
    labels_per_row: float
    max_labels_per_row: int
    labels_seen: int
    label_count_quantiles: dict[str, float]
    rows_without_labels: int
    rows_without_features: int
    values_are_counts: bool
    values_below_zero: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def label_counts(y: RaggedIds) -> Int64:
    """How many rows have each label: int64 (num_labels,)."""
    return np.bincount(y.ids, minlength=y.num_ids).astype(np.int64)


def are_counts(values: Float32) -> bool:
    """Every value is a positive whole number, as in a bag of words."""
    return bool(((values > 0) & (values == np.floor(values))).all())


def statistics(dataset: Dataset) -> Statistics:
    rows, nnz = len(dataset), dataset.x.nnz
    counts = label_counts(dataset.y)
    seen = counts[counts > 0]
    percents = (0, 25, 50, 75, 90, 99, 100)
    at = np.percentile(seen, percents) if seen.size else np.zeros(len(percents))
    per_row = dataset.y.counts
    return Statistics(
        rows=rows,
        features=dataset.num_features,
        labels=dataset.num_labels,
        nnz=nnz,
        features_per_row=nnz / max(1, rows),
        labels_per_row=len(dataset.y.ids) / max(1, rows),
        max_labels_per_row=int(per_row.max()) if rows else 0,
        labels_seen=int(seen.size),
        label_count_quantiles={str(p): float(q) for p, q in zip(percents, at, strict=True)},
        rows_without_labels=int((per_row == 0).sum()),
        rows_without_features=int((np.diff(dataset.x.indptr) == 0).sum()),
        values_are_counts=are_counts(dataset.x.values),
        values_below_zero=bool(nnz) and bool(dataset.x.values.min() < 0),
    )


@dataclass(frozen=True)
class Dropped:
    """Rows left out because nothing can be learned from them. A row that lacks both is `without_labels`."""

    without_labels: int
    without_features: int

    @property
    def total(self) -> int:
        return self.without_labels + self.without_features


def drop_unusable(dataset: Dataset) -> tuple[Dataset, Dropped]:
    """The rows that have a label and a feature, and how many had not."""
    labelled = dataset.y.counts > 0
    described = np.diff(dataset.x.indptr) > 0
    dropped = Dropped(int((~labelled).sum()), int((labelled & ~described).sum()))
    return (dataset.take(np.flatnonzero(labelled & described)) if dropped.total else dataset), dropped


def split_validation(dataset: Dataset, fraction: float = 0.1, seed: int = 0) -> tuple[Dataset, Dataset]:
    """(train, validation): `fraction` of the rows, drawn by `seed`, is held out. Both keep the row order.

    Raises:
        InputError: fewer than two rows.
    """
    fraction = checks.number("split_validation", "fraction", fraction, low=0.0, high=1.0)
    if len(dataset) < 2:
        checks.fail("split_validation", "at least 2 rows are needed to hold some out", len(dataset))
    held = min(max(1, round(fraction * len(dataset))), len(dataset) - 1)
    order = np.random.default_rng(seed).permutation(len(dataset))
    return dataset.take(np.sort(order[held:])), dataset.take(np.sort(order[:held]))
