"""h(x) of a training step, and its backward pass written out.

Autograd through four small operators costs more than they do: .5 of 15 ms a step at 256 rows of 128.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hashfold.functional import relu_dropout
from hashfold.kernels.relu_dropout import grad_in_place
from hashfold.nn import SparseLinear
from hashfold.sparse import CsrBatch


class HiddenStep:
    """h = dropout(relu(x V + c)), of length 1 if `unit`; made by `forward`, undone by `backward`, once."""

    def __init__(self, layer: SparseLinear, dropout: float, unit: bool) -> None:
        self.layer, self.dropout, self.unit = layer, dropout, unit

    @torch.no_grad()
    def forward(self, x: CsrBatch, seed: int) -> Tensor:
        """h, (rows, hidden); `seed` says what is dropped."""
        sums = self.layer.sums(x)
        self.relu = relu_dropout(sums, self.dropout, seed) if self.dropout else sums.relu_()
        if not self.unit:
            return self.relu
        self.length = self.relu.norm(dim=1, keepdim=True).clamp_min_(1e-12)
        self.direction = self.relu / self.length
        return self.direction

    @torch.no_grad()
    def backward(self, groups: Any, grad: Tensor) -> None:
        """Moves the layer by the gradient of h, which is overwritten. groups: `layer.group(x)`."""
        if self.unit:  # of h, only what is perpendicular to it
            along = (grad * self.direction).sum(1, keepdim=True)
            grad.addcmul_(self.direction, along, value=-1.0).div_(self.length)
        self.layer.step(groups, grad_in_place(grad, self.relu, 1.0 - self.dropout))
