"""The input layer for sparse rows."""

from __future__ import annotations

import torch
from torch import Tensor

from hashfold import checks, functional
from hashfold.nn.active import ActiveValues
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
        width = x.num_cols if isinstance(x, CsrBatch) else x.num_items
        if width != self.in_features:
            checks.fail("SparseLinear", f"x must have {self.in_features} columns", width)
        indptr, indices, values = functional.csr_tensors(x) if isinstance(x, CsrBatch) else x.csr()
        y = functional.sparse_linear(indptr, indices, values, self.weight, self._fused)
        return y if self.bias is None else y + self.bias
