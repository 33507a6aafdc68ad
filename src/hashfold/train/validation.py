"""Scoring held-out rows, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hashfold import checks, metrics
from hashfold.train.protocol import Examples, Trainable

KS = (1, 3, 5)


def check_valid(valid: Examples, train: Examples, metric: str) -> None:
    """Held-out rows fit the training rows and give the metric. Raises InputError.

    They may have labels beyond the training data's: unseen ones, which count as misses.
    """
    if not len(valid.x) or len(valid.x) != len(valid.y):
        checks.fail(
            "validation", "x and y must have the same rows, at least one", f"{len(valid.x)}, {len(valid.y)}"
        )
    if valid.x.num_cols != train.x.num_cols:
        checks.fail(
            "validation",
            f"rows must have the training data's {train.x.num_cols} features",
            valid.x.num_cols,
            "read them with num_features of the training data",
        )
    checks.one_of("TrainConfig", "metric", metric, metric_names(train.y.num_ids))


def metric_names(num_labels: int) -> list[str]:
    return [f"{name}@{k}" for name in ("P", "nDCG", "R") for k in _ks(num_labels)]


def validate(
    model: Trainable,
    valid: Examples,
    batch_size: int,
    num_labels: int,
    *,
    lookup: bool,
    on_batch: Callable[[int, int], None],
    abandon: Callable[[], bool],
) -> dict[str, float] | None:
    """The metrics of `model` on `valid`; None if `abandon` asked to stop in the middle."""
    ks = _ks(num_labels)
    tops = []
    for start in range(0, len(valid.x), batch_size):
        rows = np.arange(start, min(start + batch_size, len(valid.x)))
        tops.append(model.top_k(valid.x.take(rows), max(ks), lookup)[0])
        on_batch(int(rows[-1]) + 1, len(valid.x))
        if abandon():
            return None
    return metrics.evaluate(np.concatenate(tops), valid.y, ks=ks)


def _ks(num_labels: int) -> tuple[int, ...]:
    return tuple(k for k in KS if k <= max(1, num_labels))
