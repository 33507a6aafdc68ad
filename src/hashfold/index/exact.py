"""The exact index: it scores every item, and is the oracle for all the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from hashfold import checks
from hashfold.index.base import Arrays, Candidates, NeuronIndex, Occupancy, Queries
from hashfold.index.precision import ScanRows
from hashfold.index.topk import exact_candidates, score_rows
from hashfold.index.virtual import Vectors
from hashfold.sparse import Float32, Int32, Ragged


class ExactIndex(NeuronIndex):
    """The items with the largest <x, w_i> + b_i, by a blocked scan of all weights.

    Args:
        num_items, dim: shape of the weight.
        precision: "fp32", the weights as they are now, or "int8", a copy in 8 bits as of the last build and
            updates: see `index.precision.ScanRows`.

    Scores are these inner products; equal ones are ordered by id. Cost: batch * num_items * dim
    multiply-adds; no memory but the copy and the result.
    """

    name: ClassVar[str] = "exact"

    def __init__(self, num_items: int, dim: int, *, precision: str = "fp32") -> None:
        super().__init__(num_items, dim)
        self._rows = ScanRows(self._op(), precision)
        self.state_names = self._rows.state_names

    def occupancy(self) -> Occupancy:
        """One bucket with everything in it."""
        built = self._vectors is not None
        held = self.num_items if built else 0
        return Occupancy(1, 1, empty=int(not built), mean=float(held), largest=held, dropped_fraction=0.0)

    def config(self) -> dict[str, Any]:
        return {"name": self.name, "num_items": self.num_items, "dim": self.dim, "precision": self._rows.precision}

    def _build(self, vectors: Vectors, bias: Float32 | None) -> None:
        self._rows.build(vectors)

    def _update(self, ids: Int32, vectors: Float32, bias: Float32 | None) -> None:
        self._rows.update(ids, vectors)

    def _state(self) -> Arrays:
        return self._rows.state()

    def _load_state(self, arrays: Mapping[str, Any], with_bias: bool) -> None:
        self._rows = self._rows.loaded(f"{self._op()}.load_state", arrays, (self.num_items, self.dim))

    def score(self, x: Float32, items: Ragged) -> Float32:
        """<x_i, w_j> + b_j of the items j of each row i, float32 (items in all,), as `query` scores them.

        x: float32 (rows, dim); items: ids in [0, num_items) for as many rows.
        """
        vectors, bias = self._built("score")
        queries = checks.array("exact.score", "x", x, np.float32, (len(items), self.dim))
        checks.ids_in_range("exact.score", "items", items.ids, self.num_items)
        scores = np.empty(len(items.ids), np.float32)
        score_rows(queries, self._rows.rows(vectors), bias, items.indptr, items.ids, scores)
        return scores

    def _query(self, x: Queries, budget: int) -> Candidates:
        vectors, bias = self._built("query")
        return exact_candidates(x, self._rows.rows(vectors), bias, budget)
