"""What stands between a dense weight that is trained and the layer that uses it."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from hashfold.nn.folded import FoldedWeight


class Transform(nn.Module, ABC):
    """From a dense weight (out, in) to the one that the layer sees: `forward`, differentiable for both.

    `pruned`: a mask (out, in) of the weights that are zero, or None. Nothing changes but by `step` and `prune`,
    which `Schedule` calls (and soft k-means, which starts where it ended before).
    """

    pruned: Tensor | None

    def __init__(self, pruned: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("pruned", pruned)

    @abstractmethod
    def forward(self, weight: Tensor) -> Tensor: ...

    @abstractmethod
    def convert(self, weight: Tensor) -> FoldedWeight | Tensor:
        """What stands for the matrix from now on; a folded weight, or a dense matrix."""

    @torch.no_grad()
    def prune(self, pruned: Tensor) -> None:
        """From now on these weights are zero."""
        assert self.pruned is not None, "it was not prepared for pruning"
        self.pruned.copy_(pruned)

    def step(self, weight: Tensor, steps: int) -> None:
        """So many steps are done."""


class Masked(Transform):
    """Pruned weights are zero and get no gradient."""

    def forward(self, weight: Tensor) -> Tensor:
        assert self.pruned is not None
        return weight.masked_fill(self.pruned, 0.0)

    @torch.no_grad()
    def convert(self, weight: Tensor) -> Tensor:
        return self(weight)
