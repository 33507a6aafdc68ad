"""A linear layer that computes only the neurons its input's hash looks up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hashfold import checks, functional
from hashfold.index import Candidates, NeuronIndex, all_active, make_index, select_rows, select_shared
from hashfold.index.select import Fill
from hashfold.kernels.active_step import PRECISIONS
from hashfold.nn.active import ActiveValues
from hashfold.nn.row_layer import RowLayer
from hashfold.sparse import ActiveSet, CsrBatch, RaggedIds

Input: TypeAlias = Tensor | CsrBatch | ActiveValues


class LSHLinear(RowLayer):
    """y = x W^T + b at the active neurons only; with all of them active, `nn.Linear` (SLIDE: Chen et al. 2020).

    Which neurons are active is decided outside of `forward`: `lookup` (one set a row: hidden layers and
    predicting) and `lookup_shared` (one set a batch: training a large output layer) ask the index.
    The index follows the weights only through `rebuild` and `reinsert`; nothing else moves its tables.

    Args:
        in_features, out_features, bias: as of `nn.Linear`; weight (out_features, in_features).
        index: a name from `hashfold.index.INDEXES`, or an index over `out_features` items.
        index_options: further arguments of `make_index`, where `index` is a name.
        precision: of the products with a shared set while the layer is fused with an optimizer: "fp32"; "bf16",
            operands rounded to bfloat16 (weights, sums and optimizer state stay float32); or "auto", bf16 where
            the machine multiplies it natively. All other products are fp32.
        init_std: standard deviation of the normal initial weights; default 1 / sqrt(in_features).
        generator: of the initial weights; torch's own if None.

    Gradients for x, weight and bias. The state_dict holds weight and bias: the tables
    are rebuilt, unless `load_index_state` follows.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        index: str | NeuronIndex = "lsh",
        index_options: Mapping[str, Any] | None = None,
        precision: str = "fp32",
        init_std: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            in_features, out_features, bias, rows="out_features", init_std=init_std, generator=generator
        )
        self.precision = checks.one_of("LSHLinear", "precision", precision, PRECISIONS)
        if isinstance(index, NeuronIndex):
            self.index = index
        else:
            self.index = make_index(index, out_features, in_features, **(index_options or {}))
        if (self.index.num_items, self.index.dim) != (out_features, in_features):
            shape = (self.index.num_items, self.index.dim)
            checks.fail("LSHLinear", f"index must be over {(out_features, in_features)} (items, width)", shape)
        self.register_load_state_dict_post_hook(_forget_tables)  # type: ignore[no-untyped-call]

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        super().reset_parameters(generator)
        self._built = False

    def rebuild(self) -> None:
        """Builds the index from the weights as they are now."""
        self.index.build(*self._weights())
        self._built = True

    def index_state(self) -> dict[str, npt.NDArray[Any]] | None:
        """The index, which was built when the weights were others; None if the next lookup builds it."""
        return self.index.state() if self._built else None

    def load_index_state(self, state: Mapping[str, Any] | None) -> None:
        """Goes on with the index of the layer that gave `index_state()`; call it after `load_state_dict`."""
        if state is not None:
            self.index.load_state(state, *self._weights())
        self._built = state is not None

    def _weights(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
        """Weight and bias as the index sees them: the same memory."""
        return self.weight.detach().numpy(), None if self.bias is None else self.bias.detach().numpy()

    def reinsert(self, ids: npt.NDArray[np.int32]) -> None:
        """Moves these neurons (distinct ids) to where their weights belong now."""
        if not self._built:
            self.rebuild()
            return
        rows = torch.from_numpy(ids).long()
        bias = None if self.bias is None else self.bias.detach()[rows].numpy()
        self.index.update(ids, self.weight.detach()[rows].numpy(), bias)

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
        self, x: Input, labels: RaggedIds | None, *, hard_negatives: int, uniform: int, seed: int
    ) -> ActiveSet:
        """One active set for the batch: labels, `hard_negatives` looked up a row, `uniform` drawn ones.

        See `hashfold.index.select_shared`. With no hard negatives the index is not asked.
        """
        found = self.candidates(x, hard_negatives) if hard_negatives else None
        return select_shared(found, labels, self.out_features, uniform, seed, _num_rows(x))

    def all_active(self, labels: RaggedIds | None, num_rows: int) -> ActiveSet:
        """Every neuron: the dense layer, to compare with."""
        return all_active(self.out_features, labels, num_rows)

    def forward(self, x: Input, active: ActiveSet | None = None) -> Tensor | ActiveValues:
        """Logits (rows, active) for a shared set or None (all neurons); `ActiveValues` for sets per row."""
        if active is None or active.shared:
            return functional.active_linear(_dense(x), self.weight, self.bias, active, self._fused, self.precision)
        rows = x if isinstance(x, Tensor) else functional.csr_tensors(x) if isinstance(x, CsrBatch) else x.csr()
        return ActiveValues(active, functional.rowwise_linear(rows, self.weight, self.bias, active, self._fused))

    def loss_step(self, x: Tensor, active: ActiveSet, loss: str) -> tuple[float, Tensor]:
        """One pass for what `forward`, a loss and `backward` do: the mean loss over rows, and its gradient for x.

        The layer must be fused with an optimizer, which moves its weight and bias. x (rows, in_features),
        active: a shared set with labels, loss: "softmax" or "sigmoid" (`SampledSoftmaxLoss`,
        `SampledSigmoidLoss`). Logits and their gradients are never built.
        """
        if self._fused is None:
            checks.fail(
                "LSHLinear.loss_step", "the layer must be fused", "no optimizer", "call optimizer.fuse(layer)"
            )
        if not active.shared:
            checks.fail("LSHLinear.loss_step", "active must be shared by the batch", "a set per row")
        return functional.active_loss_step(x, self.weight, self.bias, active, loss, self._fused, self.precision)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, index={self.index.name}"


def _forget_tables(layer: nn.Module, _: object) -> None:
    """New weights: the tables are rebuilt at the next lookup."""
    assert isinstance(layer, LSHLinear)
    layer._built = False


def _queries(x: Input) -> npt.NDArray[np.float32] | CsrBatch:
    if isinstance(x, CsrBatch):
        return x
    if isinstance(x, ActiveValues):
        return x.to_csr()
    return x.detach().numpy()


def _dense(x: Input) -> Tensor:
    if isinstance(x, CsrBatch):
        return torch.from_numpy(x.to_scipy().toarray())
    return x.to_dense() if isinstance(x, ActiveValues) else x


def _num_rows(x: Input) -> int:
    return x.num_rows if isinstance(x, ActiveValues) else len(x)
