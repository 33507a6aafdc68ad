"""What the layers whose weight is a table of rows share: its shape, its start, and who moves it."""

from __future__ import annotations

import math

import torch
from torch import nn

from hashfold import checks
from hashfold.functional import RowUpdater
from hashfold.kernels.arrays import on_huge_pages


class RowLayer(nn.Module):
    """A weight of rows that are read and moved one by one, float32, and a bias (out_features,) or None.

    The weight starts normal with standard deviation `init_std` from `generator` (None: torch's own), the
    bias at zero. `optimizer.fuse(layer)` has the rows move inside the backward pass.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool,
        *,
        rows: str,
        init_std: float | None,
        generator: torch.Generator | None,
    ) -> None:
        """rows: "in_features" or "out_features": which of the two the weight's rows are; the other is its width.

        init_std: None for 1 / sqrt(width).
        """
        super().__init__()
        op = type(self).__name__
        self.in_features = checks.integer(op, "in_features", in_features, low=1)
        self.out_features = checks.integer(op, "out_features", out_features, low=1)
        shape = (in_features, out_features) if rows == "in_features" else (out_features, in_features)
        self.init_std = 1.0 / math.sqrt(shape[1]) if init_std is None else init_std
        self.weight = nn.Parameter(on_huge_pages(torch.empty(shape)))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
        self._fused: RowUpdater | None = None
        self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        self.weight.normal_(0.0, self.init_std, generator=generator)
        if self.bias is not None:
            self.bias.zero_()

    def fuse_with(self, optimizer: RowUpdater) -> None:
        """Called by `optimizer.fuse`: the rows move inside backward from now on, by this optimizer's rule."""
        if not all(optimizer.owns(parameter) for parameter in self.parameters()):
            expected = "the optimizer must own this layer's parameters"
            checks.fail(type(self).__name__, expected, "another optimizer", "pass them to it")
        self._fused = optimizer

    @property
    def fused(self) -> bool:
        return self._fused is not None

    def unfuse(self) -> None:
        """The rows move in `optimizer.step` again, if at all."""
        self._fused = None

    def extra_repr(self) -> str:
        bias = self.bias is not None
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={bias}"
