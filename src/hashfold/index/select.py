"""From candidates and true labels to the active set of a batch.

In training the whole batch shares one set (`select_shared`): the layer becomes a dense tile product
over the gathered rows. Hidden layers and predicting use one set a row (`select_rows`). Labels come
first in both, so that no true label is ever left out.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hashfold import checks
from hashfold.index.base import Candidates
from hashfold.kernels.native import core
from hashfold.sparse import MAX_IDS, ActiveSet, Int64, LookupStats, RaggedIds

Fill = Literal["none", "uniform"]


def select_shared(
    candidates: Candidates | None,
    labels: RaggedIds | None,
    num_items: int,
    uniform: int,
    seed: int,
    num_rows: int,
) -> ActiveSet:
    """One active set for the batch: true labels, then candidates, then uniform negatives.

    Args:
        candidates: what the index found for each row; None if no index was asked.
        labels: the true labels of each row; None when predicting.
        num_items: neurons of the layer.
        uniform: negatives to draw without replacement from the neurons that are in neither; all of
            those if fewer are left.
        seed: of the draw; the same seed gives the same set on any number of threads.
        num_rows: rows of the batch.

    Returns: an ActiveSet with `indptr` None. Labels and candidates (`num_certain`) weigh 1, each drawn
    negative (num_items - num_certain) / drawn. `stats.labels_missed` counts a row's labels that its own
    candidates lack; labels are counted only when there are candidates.

    Cost: O(labels + candidates + drawn), independent of num_items unless more than half are active.
    """
    op = "select_shared"
    found, wanted = _checked(op, candidates, labels, num_items, num_rows)
    uniform = checks.integer(op, "uniform", uniform, low=0)
    room = min(num_items, len(wanted.ids) + len(found.ids) + uniform)
    ids, weights = np.empty(room, np.int32), np.empty(room, np.float32)
    positions = np.empty(len(wanted.ids), np.int64)
    count, certain, missed = core.select_shared(
        wanted.indptr,
        wanted.ids,
        found.indptr,
        found.ids,
        num_items,
        uniform,
        _seed(op, seed),
        ids,
        weights,
        positions,
    )
    asked = candidates is not None
    stats = LookupStats(
        rows=num_rows,
        num_items=num_items,
        candidates=len(found.ids),
        active=count * num_rows,
        truncated=found.truncated,
        labels_missed=missed if asked else 0,
        labels=len(wanted.ids) if asked else 0,
    )
    return ActiveSet(
        num_items,
        _trimmed(ids, count),
        _trimmed(weights, count),
        num_rows,
        num_certain=certain,
        label_indptr=None if labels is None else labels.indptr,
        label_positions=None if labels is None else positions,
        stats=stats,
    )


def select_rows(
    candidates: Candidates,
    labels: RaggedIds | None,
    num_items: int,
    budget: int,
    minimum: int = 0,
    fill: Fill = "uniform",
    seed: int = 0,
) -> ActiveSet:
    """One active set a row: its true labels, then its candidates best first up to `budget` ids in all.

    A row with fewer than `minimum` ids is filled up with uniform draws from the neurons it lacks where
    `fill` is "uniform", and left short where it is "none"; `stats.filled` and `stats.rows_filled` count
    the fills. Filled entries weigh (num_items - certain) / drawn, all others 1.

    Args:
        candidates: what the index found for each row.
        labels: the true labels of each row, kept even beyond the budget; None when predicting.
        num_items: neurons of the layer.
        budget: at most this many ids a row, unless its labels or `minimum` ask for more.
        minimum: fewest ids of a row.
        fill: "uniform" or "none".
        seed: of the draws; row i uses (seed, i), whatever the number of threads.
    """
    op, num_rows = "select_rows", len(candidates)
    found, wanted = _checked(op, candidates, labels, num_items, num_rows)
    budget = checks.integer(op, "budget", budget, low=1)
    minimum = checks.integer(op, "minimum", minimum, low=0)
    checks.one_of(op, "fill", fill, ("none", "uniform"))
    minimum = min(minimum, num_items) if fill == "uniform" else 0
    indptr = _room(wanted.counts, found.counts, budget, minimum)
    ids, weights = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.float32)
    filled, rows_filled, missed, truncated = core.select_rows(
        wanted.indptr,
        wanted.ids,
        found.indptr,
        found.ids,
        num_items,
        budget,
        minimum,
        _seed(op, seed),
        indptr,
        ids,
        weights,
    )
    count = int(indptr[-1])
    stats = LookupStats(
        rows=num_rows,
        num_items=num_items,
        candidates=len(found.ids),
        active=count,
        filled=filled,
        rows_filled=rows_filled,
        truncated=truncated + found.truncated,
        labels_missed=missed,
        labels=len(wanted.ids),
    )
    return ActiveSet(
        num_items,
        _trimmed(ids, count),
        _trimmed(weights, count),
        num_rows,
        indptr=indptr,
        label_indptr=None if labels is None else labels.indptr,
        label_positions=None if labels is None else _leading_positions(indptr, labels),
        stats=stats,
    )


def all_active(num_items: int, labels: RaggedIds | None, num_rows: int) -> ActiveSet:
    """Every neuron, in order, for every row: the dense layer. Labels are then their own positions."""
    op = "all_active"
    _checked(op, None, labels, num_items, num_rows)
    stats = LookupStats(rows=num_rows, num_items=num_items, active=num_items * num_rows)
    return ActiveSet(
        num_items,
        np.arange(num_items, dtype=np.int32),
        np.ones(num_items, np.float32),
        num_rows,
        num_certain=num_items,
        label_indptr=None if labels is None else labels.indptr,
        label_positions=None if labels is None else labels.ids.astype(np.int64),
        stats=stats,
    )


def _checked(
    op: str, candidates: Candidates | None, labels: RaggedIds | None, num_items: int, num_rows: int
) -> tuple[Candidates, RaggedIds]:
    """Candidates and labels that fit the layer and the batch; empty ones for None."""
    checks.integer(op, "num_items", num_items, low=1, high=MAX_IDS)
    checks.integer(op, "num_rows", num_rows, low=0)
    if candidates is None:
        candidates = Candidates.empty(num_rows, num_items)
    if labels is None:
        labels = RaggedIds(np.zeros(num_rows + 1, np.int64), np.zeros(0, np.int32), num_items)
    for name, have in (("candidates", candidates), ("labels", labels)):
        if len(have) != num_rows:
            checks.fail(op, f"{name} must have {num_rows} rows", len(have))
        checks.ids_in_range(op, name, have.ids, num_items)
    return candidates, labels


def _room(labels: Int64, candidates: Int64, budget: int, minimum: int) -> Int64:
    """indptr of the most ids each row can get."""
    most = np.maximum(labels + np.minimum(candidates, np.maximum(budget - labels, 0)), minimum)
    indptr = np.zeros(len(most) + 1, np.int64)
    np.cumsum(most, out=indptr[1:])
    return indptr


def _leading_positions(indptr: Int64, labels: RaggedIds) -> Int64:
    """Where the labels lie, given that they are the first ids of each row."""
    shift = np.repeat(indptr[:-1] - labels.indptr[:-1], labels.counts)
    return np.asarray(shift + np.arange(len(labels.ids)), np.int64)


def _seed(op: str, seed: int) -> int:
    return checks.integer(op, "seed", seed, low=0) & (2**64 - 1)


def _trimmed(array: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    """The first `count` entries; a copy where a view would hold on to much more memory."""
    return array[:count] if 2 * count >= len(array) else array[:count].copy()
