"""What an index finds of the truth, and at what cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hashfold import checks
from hashfold.index.base import Candidates, NeuronIndex
from hashfold.sparse import CsrBatch, Int32, Int64


@dataclass(frozen=True)
class RecallReport:
    """recall@k of an index against exact search over the same queries."""

    recall: float  # share of the k truly best items among the candidates, mean over rows
    k: int
    budget: int  # candidates asked for
    rows: int
    scored_fraction: float  # items looked at before the budget cut, of all
    candidates_per_row: float  # returned
    truncated_per_row: float  # looked at but cut by the budget
    rows_short: int  # rows with fewer than k candidates


def recall_at_k(
    index: NeuronIndex, exact: NeuronIndex, queries: npt.ArrayLike | CsrBatch, k: int, budget: int
) -> RecallReport:
    """Compares the candidates of `index` with the top k of `exact`; both built over the same weights.

    queries: (rows, dim) float32 or CsrBatch, at least one row. k is cut to the number of items.
    Cost: one query of each index.
    """
    op = "recall_at_k"
    k = min(checks.integer(op, "k", k, low=1), exact.num_items)
    if index.num_items != exact.num_items:
        checks.fail(op, f"the indexes must hold the same items, {exact.num_items}", index.num_items)
    found, truth = index.query(queries, budget), exact.query(queries, k)
    rows = len(truth)
    if rows == 0:
        checks.fail(op, "queries must have rows", "none")
    hits = np.isin(_keys(truth), _keys(found))
    return RecallReport(
        recall=float(hits.sum() / max(1, len(truth.ids))),
        k=k,
        budget=budget,
        rows=rows,
        scored_fraction=float(found.found.mean() / exact.num_items),
        candidates_per_row=len(found.ids) / rows,
        truncated_per_row=found.truncated / rows,
        rows_short=int((found.counts < k).sum()),
    )


def hit_rate(found: Candidates, best: Int32) -> float:
    """The share of `best` (rows, k), distinct ids in each row, that is among the candidates of the same row."""
    rows = np.arange(len(best))[:, None] * found.num_items
    return float(np.isin(rows + best, _keys(found)).mean())


def _keys(candidates: Candidates) -> Int64:
    """One number for each (row, id)."""
    rows = np.repeat(np.arange(len(candidates)), candidates.counts)
    return np.asarray(rows * candidates.num_items + candidates.ids, np.int64)
