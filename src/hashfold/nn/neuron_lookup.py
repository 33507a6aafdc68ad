"""What the layers whose neurons are looked up share: an index over their weight rows, and how it is asked."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hashfold import checks, functional
from hashfold.index import Candidates, NeuronIndex, VirtualRows, all_active, make_index, select_rows, select_shared
from hashfold.index.select import Fill
from hashfold.nn.active import ActiveValues
from hashfold.sparse import ActiveSet, CsrBatch, Float32, RaggedIds

Input: TypeAlias = Tensor | CsrBatch | ActiveValues
RowsAndBias: TypeAlias = tuple[npt.NDArray[np.float32] | VirtualRows, npt.NDArray[np.float32] | None]


class NeuronLookup(nn.Module, ABC):
    """The index of a layer of `out_features` neurons; it follows the weights only by `rebuild` and `reinsert`."""

    in_features: int
    out_features: int
    index: NeuronIndex
    _built: bool

    def _set_index(self, index: str | NeuronIndex, options: Mapping[str, Any] | None) -> None:
        """A name from `hashfold.index.INDEXES` with its options, or an index over `out_features` items."""
        if isinstance(index, NeuronIndex):
            self.index = index
        else:
            self.index = make_index(index, self.out_features, self.in_features, **(options or {}))
        shape = (self.out_features, self.in_features)
        if (self.index.num_items, self.index.dim) != shape:
            came = (self.index.num_items, self.index.dim)
            checks.fail(type(self).__name__, f"index must be over {shape} (items, width)", came)
        self._built = False
        self.register_load_state_dict_post_hook(_forget_tables)  # type: ignore[no-untyped-call]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """The copy's index is in the state of this one, and over the copy's own weights."""
        made = memo[id(self)] = type(self).__new__(type(self))
        memo[id(self.index)] = self.index.fresh()
        made.__setstate__(copy.deepcopy(self.__dict__, memo))  # type: ignore[no-untyped-call]
        made._built = False
        if not any(stored.is_meta for stored in (*made.parameters(), *made.buffers())):
            made.load_index_state(self.index_state())
        return made

    @property
    def is_built(self) -> bool:
        """There are tables, so that the next lookup need not build them."""
        return self._built

    def rebuild(self) -> None:
        """Builds the index from the weights as they are now."""
        self.index.build(*self._weights())
        self._built = True

    def forget_tables(self) -> None:
        """The weights are others now: the next lookup builds the index."""
        self._built = False

    def index_state(self) -> dict[str, npt.NDArray[Any]] | None:
        """The index, which was built when the weights were others; None if the next lookup builds it."""
        return self.index.state() if self._built else None

    def load_index_state(self, state: Mapping[str, Any] | None) -> None:
        """Goes on with the index of the layer that gave `index_state()`; call it after `load_state_dict`."""
        if state is not None:
            self.index.load_state(state, *self._weights())
        self._built = state is not None

    def reinsert(self, ids: npt.NDArray[np.int32]) -> None:
        """Moves these neurons (distinct ids) to where their weights belong now."""
        if not self._built:
            self.rebuild()
            return
        rows, bias = self._weights()
        self.index.update(ids, rows[ids], None if bias is None else bias[ids])

    def candidates(self, x: Input, budget: int) -> Candidates:
        """What the index finds for each row of x, at most `budget` neurons, best first."""
        if not self._built:
            self.rebuild()
        return self.index.query(_queries(x), budget)

    def lookup(
        self,
        x: Input,
        budget: int,
        labels: RaggedIds | None = None,
        *,
        minimum: int = 0,
        fill: Fill = "uniform",
        seed: int = 0,
    ) -> ActiveSet:
        """One active set a row: its labels, then what its hash finds; see `hashfold.index.select_rows`."""
        found = self.candidates(x, budget)
        return select_rows(found, labels, self.out_features, budget, minimum, fill, seed)

    def lookup_shared(
        self,
        x: Input,
        labels: RaggedIds | None,
        *,
        hard_negatives: int,
        uniform: int,
        seed: int,
        among: int | None = None,
    ) -> ActiveSet:
        """One active set for the batch: labels, `hard_negatives` looked up a row, `uniform` drawn ones.

        See `hashfold.index.select_shared`. With no hard negatives the index is not asked. among: only the first so
        many neurons take part, as if there were no others: labels beyond are left out, hard negatives must be 0.
        Where labels are numbered by how often they occur, these are the ones with rows enough to be learned.
        """
        if among is not None:
            return self._among(labels, uniform, seed, among, hard_negatives, _num_rows(x))
        found = self.candidates(x, hard_negatives) if hard_negatives else None
        return select_shared(found, labels, self.out_features, uniform, seed, _num_rows(x))

    def _among(
        self, labels: RaggedIds | None, uniform: int, seed: int, among: int, hard_negatives: int, rows: int
    ) -> ActiveSet:
        op = f"{type(self).__name__}.lookup_shared"
        checks.integer(op, "among", among, low=1, high=self.out_features)
        if hard_negatives:
            checks.fail(op, "hard_negatives must be 0 with `among`", hard_negatives, "the index knows all neurons")
        kept = None if labels is None else labels.below(among)
        return replace(select_shared(None, kept, among, uniform, seed, rows), num_items=self.out_features)

    def all_active(self, labels: RaggedIds | None, num_rows: int) -> ActiveSet:
        """Every neuron: the dense layer, to compare with."""
        return all_active(self.out_features, labels, num_rows)

    @abstractmethod
    def _weights(self) -> RowsAndBias:
        """Weight rows and bias as the index sees them: those of the layer, not a copy."""


def dense_rows(x: Input) -> Tensor:
    if isinstance(x, CsrBatch):
        return torch.from_numpy(x.to_scipy().toarray())
    return x.to_dense() if isinstance(x, ActiveValues) else x


def rows_of(x: Input) -> Tensor | functional.Csr:
    """x as `functional.rowwise_linear` takes it."""
    return x if isinstance(x, Tensor) else functional.csr_tensors(x) if isinstance(x, CsrBatch) else x.csr()


def _forget_tables(layer: nn.Module, _: object) -> None:
    assert isinstance(layer, NeuronLookup)
    layer.forget_tables()


def _queries(x: Input) -> Float32 | CsrBatch:
    if isinstance(x, CsrBatch):
        return x
    if isinstance(x, ActiveValues):
        return x.to_csr()
    return x.detach().numpy()


def _num_rows(x: Input) -> int:
    return x.num_rows if isinstance(x, ActiveValues) else len(x)
