"""The input layer for sparse rows."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hashfold import checks, functional
from hashfold.functional import RowUpdater
from hashfold.nn.active import ActiveValues
from hashfold.sparse import CsrBatch


class SparseLinear(nn.Module):
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
        super().__init__()
        self.in_features = checks.integer("SparseLinear", "in_features", in_features, low=1)
        self.out_features = checks.integer("SparseLinear", "out_features", out_features, low=1)
        self.init_std = 1.0 / math.sqrt(out_features) if init_std is None else init_std
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
        self._fused: RowUpdater | None = None
        self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        self.weight.normal_(0.0, self.init_std, generator=generator)
        if self.bias is not None:
            self.bias.zero_()

    def fuse_with(self, optimizer: RowUpdater) -> None:
        """Called by `optimizer.fuse`: the weight moves inside backward from now on."""
        if not optimizer.owns(self.weight):
            checks.fail("SparseLinear", "the optimizer must own this layer's weight", "another optimizer")
        self._fused = optimizer

    def forward(self, x: CsrBatch | ActiveValues) -> Tensor:
        width = x.num_cols if isinstance(x, CsrBatch) else x.num_items
        if width != self.in_features:
            checks.fail("SparseLinear", f"x must have {self.in_features} columns", width)
        indptr, indices, values = functional.csr_tensors(x) if isinstance(x, CsrBatch) else x.csr()
        y = functional.sparse_linear(indptr, indices, values, self.weight, self._fused)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        bias = self.bias is not None
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={bias}"
