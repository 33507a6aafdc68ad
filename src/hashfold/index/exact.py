"""The exact index: it scores every item, and is the oracle for all the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from hashfold.index.base import Arrays, Candidates, NeuronIndex, Occupancy, Queries
from hashfold.index.topk import exact_candidates
from hashfold.sparse import Float32, Int32


class ExactIndex(NeuronIndex):
    """The items with the largest <x, w_i> + b_i, by a blocked scan of all weights as they are now.

    Scores are these inner products; equal ones are ordered by id. Cost: batch * num_items * dim
    multiply-adds; no memory but the result.
    """

    name: ClassVar[str] = "exact"

    def occupancy(self) -> Occupancy:
        """One bucket with everything in it."""
        built = self._vectors is not None
        held = self.num_items if built else 0
        return Occupancy(1, 1, empty=int(not built), mean=float(held), largest=held, dropped_fraction=0.0)

    def config(self) -> dict[str, Any]:
        return {"name": self.name, "num_items": self.num_items, "dim": self.dim}

    def _build(self, vectors: Float32, bias: Float32 | None) -> None:
        pass  # the reference to the weights is all it needs

    def _update(self, ids: Int32, vectors: Float32, bias: Float32 | None) -> None:
        pass

    def _state(self) -> Arrays:
        return {}

    def _load_state(self, arrays: Mapping[str, Any], with_bias: bool) -> None:
        pass

    def _query(self, x: Queries, budget: int) -> Candidates:
        vectors, bias = self._built("query")
        return exact_candidates(x, vectors, bias, budget)
