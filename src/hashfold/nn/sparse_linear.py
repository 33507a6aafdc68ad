"""The input layer for sparse rows, over a table of rows or a fold."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hashfold import checks, functional
from hashfold.nn.active import ActiveValues
from hashfold.nn.folded.convert import register_folded
from hashfold.nn.folded.weight import FoldedWeight, check_shape
from hashfold.nn.row_layer import RowLayer
from hashfold.sparse import CsrBatch


class SparseLinear(RowLayer):
    """y = x W + b for compressed sparse rows x (rows, in_features) -> (rows, out_features), float32.

    `weight` is feature-major, (in_features, out_features), so that a batch's features are rows that
    lie together; `bias` (out_features,). Gradients for weight and bias, and for x where x is the
    output of a looked-up layer (`ActiveValues`). Weights start normal with standard deviation
    `init_std` (default 1 / sqrt(out_features)) from torch's generator or `generator`.
    Cost: nonzeros * out_features multiply-adds.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        init_std: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            in_features, out_features, bias, rows="in_features", init_std=init_std, generator=generator
        )

    def forward(self, x: CsrBatch | ActiveValues) -> Tensor:
        indptr, indices, values = _csr("SparseLinear", x, self.in_features)
        y = functional.sparse_linear(indptr, indices, values, self.weight, self._fused)
        return y if self.bias is None else y + self.bias

    def sums(self, x: CsrBatch) -> Tensor:
        """`forward` without autograd."""
        _check_width("SparseLinear", x.num_cols, self.in_features)
        return functional.sparse_linear_sums(x, self.weight, self.bias)

    def group(self, x: CsrBatch) -> Any:
        """x's nonzeros sorted by feature, for `step`; reads no weights, so another thread may do it ahead."""
        _check_width("SparseLinear", x.num_cols, self.in_features)
        return functional.group_by_feature(x)

    def step(self, groups: Any, grad: Tensor) -> None:
        """Moves weight and bias by `grad` (rows, out_features), the gradient of `sums`: backward without autograd.

        The layer must be fused with an optimizer. groups: what `group` gave for the batch.
        """
        if self._fused is None:
            checks.fail(
                "SparseLinear.step", "the layer must be fused", "no optimizer", "call optimizer.fuse(layer)"
            )
        functional.sparse_linear_step(groups, grad, self.weight, self.bias, self._fused)


class FoldedSparseLinear(nn.Module):
    """`SparseLinear` over a `FoldedWeight`: the rows of a batch's features are built, never all.

    Args:
        in_features, out_features, bias: as of `SparseLinear`.
        weight: (in_features, out_features), feature-major: perhaps that of another layer.

    x as of `SparseLinear`. Gradients for the weight's stored values, of their size, for bias, and for x where it
    is an `ActiveValues`. Cost: as of `SparseLinear`, and once a batch each of its features' rows is built.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        weight: FoldedWeight,
    ) -> None:
        super().__init__()
        self.weight = check_shape(type(self).__name__, weight, in_features, out_features)
        self.in_features, self.out_features = in_features, out_features
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None

    def forward(self, x: CsrBatch | ActiveValues) -> Tensor:
        indptr, indices, values = _csr(type(self).__name__, x, self.in_features)
        features, places = torch.unique(indices, return_inverse=True)
        y = functional.sparse_linear(indptr, places.int(), values, self.weight.rows(features))
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


register_folded(SparseLinear, FoldedSparseLinear)


def _csr(op: str, x: CsrBatch | ActiveValues, in_features: int) -> functional.Csr:
    """indptr, indices, values of rows of this width."""
    _check_width(op, x.num_cols if isinstance(x, CsrBatch) else x.num_items, in_features)
    return functional.csr_tensors(x) if isinstance(x, CsrBatch) else x.csr()


def _check_width(op: str, width: int, in_features: int) -> None:
    if width != in_features:
        checks.fail(op, f"x must have {in_features} columns", width)
