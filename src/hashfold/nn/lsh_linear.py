"""Linear layers that compute only the neurons that an input's hash looks up, over a table of rows or a fold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hashfold import checks, functional
from hashfold.functional import RowUpdater
from hashfold.index import NeuronIndex, VirtualRows
from hashfold.kernels.active_step import PRECISIONS
from hashfold.nn.active import ActiveValues
from hashfold.nn.folded.convert import register_folded
from hashfold.nn.folded.hashed import HashedWeight, HashOptions, hashed_weight
from hashfold.nn.folded.stacked import StackedWeight
from hashfold.nn.folded.weight import FoldedWeight, check_shape
from hashfold.nn.losses import SampledSigmoidLoss, SampledSoftmaxLoss
from hashfold.nn.neuron_lookup import Input, NeuronLookup, RowsAndBias, dense_rows, rows_of
from hashfold.nn.row_layer import RowLayer
from hashfold.sparse import ActiveSet, Float32

LOSSES = {"softmax": SampledSoftmaxLoss, "sigmoid": SampledSigmoidLoss}


class LSHLinear(NeuronLookup, RowLayer):
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
        RowLayer.__init__(
            self, in_features, out_features, bias, rows="out_features", init_std=init_std, generator=generator
        )
        self.precision = checks.one_of("LSHLinear", "precision", precision, PRECISIONS)
        self._set_index(index, index_options)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        RowLayer.reset_parameters(self, generator)
        self._built = False

    def forward(self, x: Input, active: ActiveSet | None = None) -> Tensor | ActiveValues:
        """Logits (rows, active) for a shared set or None (all neurons); `ActiveValues` for sets per row."""
        if active is None or active.shared:
            return functional.active_linear(
                dense_rows(x), self.weight, self.bias, active, self._fused, self.precision
            )
        values = functional.rowwise_linear(rows_of(x), self.weight, self.bias, active, self._fused)
        return ActiveValues(active, values)

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

    def _weights(self) -> RowsAndBias:
        return self.weight.detach().numpy(), None if self.bias is None else self.bias.detach().numpy()


class FoldedLSHLinear(NeuronLookup):
    """`LSHLinear` over a `FoldedWeight`: rows are built for the active neurons only, never all.

    Args:
        in_features, out_features, bias, index, index_options: as of `LSHLinear`.
        weight: (out_features, in_features), perhaps that of another layer.

    Gradients for x, bias, and the weight's stored values, of their size: an optimizer's state is as small as the
    weight. Optimizers step it as any parameter (it cannot be fused). Tables are built from the rows, and exact
    searches made over them, a few at a time. Cost: as of `LSHLinear`, and once a batch each active row is built.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        weight: FoldedWeight,
        index: str | NeuronIndex = "lsh",
        index_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.weight = check_shape(type(self).__name__, weight, out_features, in_features)
        self.in_features, self.out_features = in_features, out_features
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        self._set_index(index, index_options)

    def forward(self, x: Input, active: ActiveSet | None = None) -> Tensor | ActiveValues:
        """Logits (rows, active) for a shared set or None (all neurons); `ActiveValues` for sets per row."""
        self._check_active(active)
        if active is None or active.covers_all:
            y = self.weight.matmul(dense_rows(x))
            return y if self.bias is None else y + self.bias
        if active.shared:
            ids = torch.from_numpy(active.ids).long()
            return nn.functional.linear(dense_rows(x), self.weight.rows(ids), self._bias_of(ids))
        distinct, places = np.unique(active.ids, return_inverse=True)
        local = replace(active, ids=places.astype(np.int32), num_items=len(distinct))
        ids = torch.from_numpy(distinct).long()
        rows, bias = self.weight.rows(ids), self._bias_of(ids)
        return ActiveValues(active, functional.rowwise_linear(rows_of(x), rows, bias, local))

    def loss_step(self, x: Tensor, active: ActiveSet, loss: str) -> tuple[float, Tensor]:
        """As of `LSHLinear`, but gradients are added to `.grad` of the stored values and the bias."""
        return loss_step(self, x, active, loss)

    def fuse_with(self, optimizer: RowUpdater) -> None:
        op = "FoldedLSHLinear"
        checks.fail(op, "shared values move once a step, not row by row", "fuse", "call optimizer.step() alone")

    def extra_repr(self) -> str:
        shape = f"in_features={self.in_features}, out_features={self.out_features}"
        return f"{shape}, bias={self.bias is not None}, index={self.index.name}"

    def _bias_of(self, ids: Tensor) -> Tensor | None:
        return None if self.bias is None else self.bias[ids]

    def _check_active(self, active: ActiveSet | None) -> None:
        if active is not None and active.num_items != self.out_features:
            expected = f"active must be a set of {self.out_features} neurons"
            checks.fail(type(self).__name__, expected, active.num_items)

    def _weights(self) -> RowsAndBias:
        return RowsOf(self.weight), None if self.bias is None else self.bias.detach().numpy()


register_folded(LSHLinear, FoldedLSHLinear)


class HashedLSHLinear(FoldedLSHLinear):
    """`LSHLinear` whose weights share buckets: its arguments, then `HashOptions`.

    HashedLSHLinear(256, 100_000, compression_ratio=16) stores 1.6 million values for 25.6 million weights. Virtual
    weights start with standard deviation 1 / sqrt(in_features), as those of `LSHLinear`, biases at zero.

    learned: only the first so many neurons have weights, and all buckets are theirs (compression_ratio stays that
    of the whole matrix); the others have rows of zeros, and their biases. For labels numbered by how often they
    occur, most of them in less than a handful of rows; train with `lookup_shared(..., among=learned)`. A softmax
    over the learned leaves open at what level their scores lie: to keep the others from being proposed, set their
    biases far below (-1e4). On acl-authors (103,602 labels, 13,584 of them with five rows or more) that matters
    more than how weights share.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        index: str | NeuronIndex = "lsh",
        index_options: Mapping[str, Any] | None = None,
        learned: int | None = None,
        **hashing: Unpack[HashOptions],
    ) -> None:
        op = type(self).__name__
        checks.integer(op, "in_features", in_features, low=1)
        checks.integer(op, "out_features", out_features, low=1)
        weight = _hashed_rows(op, out_features, in_features, learned, hashing)
        super().__init__(in_features, out_features, bias, weight=weight, index=index, index_options=index_options)


def _hashed_rows(
    op: str, out_features: int, in_features: int, learned: int | None, hashing: HashOptions
) -> FoldedWeight:
    """Hashed rows for the first `learned` outputs, zeros for the others."""
    std = 1.0 / math.sqrt(in_features)
    if learned is None:
        return hashed_weight(op, out_features, in_features, hashing, std)
    checks.integer(op, "learned", learned, low=1, high=out_features - 1)
    options = hashing.copy()
    if "compression_ratio" in options:
        ratio = options["compression_ratio"] * learned / out_features
        if ratio < 1.0:
            least = f"compression_ratio must be at least {out_features / learned:.4g}"
            checks.fail(op, f"{least}, a bucket a learned weight", options["compression_ratio"], "learn more")
        options["compression_ratio"] = ratio
    zeros = HashedWeight(out_features - learned, in_features, 1, tile=1, init_std=0.0).requires_grad_(False)
    return StackedWeight([hashed_weight(op, learned, in_features, options, std), zeros])


def loss_step(layer: nn.Module, x: Tensor, active: ActiveSet, loss: str) -> tuple[float, Tensor]:
    """`LSHLinear.loss_step` by way of `forward`: gradients are added to `.grad` of the parameters."""
    op = f"{type(layer).__name__}.loss_step"
    checks.one_of(op, "loss", loss, LOSSES)
    if not active.shared:
        checks.fail(op, "active must be shared by the batch", "a set per row")
    x = x.detach().requires_grad_()
    logits = layer(x, active)
    value, grad = LOSSES[loss]().with_gradient(logits.detach(), active)
    torch.autograd.backward(logits, grad)
    assert x.grad is not None
    return float(value), x.grad


class RowsOf(VirtualRows):
    """The rows of a folded weight, as an index asks for them."""

    def __init__(self, weight: FoldedWeight) -> None:
        super().__init__(weight.out_features, weight.in_features)
        self.weight = weight

    @torch.no_grad()
    def make(self, ids: npt.NDArray[np.int64]) -> Float32:
        rows: Float32 = self.weight.rows(torch.from_numpy(ids)).float().numpy()
        return rows
