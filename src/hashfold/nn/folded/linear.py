"""`nn.Linear` over a folded weight."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hashfold.nn.folded.weight import FoldedWeight, check_shape


class FoldedLinear(nn.Module):
    """y = x W^T + b with a virtual W: `torch.nn.Linear`, whose `weight` is a `FoldedWeight`.

    Args:
        in_features, out_features, bias: as of `nn.Linear`; the bias starts as its does.
        weight: (out_features, in_features), perhaps that of another layer.
        generator: of the initial bias; torch's own if None.

    x (..., in_features) -> (..., out_features). Gradients for x, the weight's stored values and the bias.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        weight: FoldedWeight,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.weight = check_shape(type(self).__name__, weight, out_features, in_features)
        self.in_features, self.out_features = in_features, out_features
        self.bias = uniform_parameter(out_features, 1.0 / math.sqrt(in_features), generator) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.weight.matmul(x)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def uniform_parameter(size: int, bound: float, generator: torch.Generator | None) -> nn.Parameter:
    """(size,) values, uniform in [-bound, bound]: how torch starts biases."""
    return nn.Parameter(torch.empty(size).uniform_(-bound, bound, generator=generator))
