"""What stands between a dense weight that is trained and the layer that uses it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from hashfold.compress.config import PruneConfig
from hashfold.nn import LSHLinear
from hashfold.nn.folded import FoldedWeight
from hashfold.nn.lsh_linear import loss_step
from hashfold.nn.neuron_lookup import NeuronLookup, RowsAndBias
from hashfold.sparse import ActiveSet


class Transform(nn.Module, ABC):
    """From a dense weight (out, in) to the one that the layer sees: `forward`, differentiable for both.

    `pruned`: a mask (out, in) of the weights that are zero, or None; `pruning`: by which config. Codes and masks
    change only by `step` and `prune`, which `Schedule` calls.
    """

    pruned: Tensor | None
    trains_weight = True
    """The dense weight gets a gradient."""

    def __init__(self, pruning: PruneConfig | None, pruned: Tensor | None) -> None:
        super().__init__()
        self.pruning = pruning
        self.register_buffer("pruned", pruned)

    @abstractmethod
    def forward(self, weight: Tensor) -> Tensor: ...

    @abstractmethod
    def convert(self, weight: Tensor) -> FoldedWeight | Tensor:
        """What stands for the matrix from now on; a folded weight, or a dense matrix."""

    @torch.no_grad()
    def prune(self, weight: Tensor, pruned: Tensor) -> None:
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


class PreparedLayer(nn.Module):
    """A torch layer whose weights go through transforms each time it is called."""

    def __init__(self, layer: nn.Module, transforms: dict[str, Transform]) -> None:
        super().__init__()
        self.layer = layer
        self.transforms = nn.ModuleDict(transforms)
        for name, transform in transforms.items():
            if not transform.trains_weight:
                layer.get_parameter(name).requires_grad_(False)

    def parts(self) -> list[tuple[str, nn.Parameter, Transform]]:
        """Each weight's name, parameter and transform."""
        named = ((name, part) for name, part in self.transforms.items() if isinstance(part, Transform))
        return [(name, self.layer.get_parameter(name), transform) for name, transform in named]

    def weights(self) -> dict[str, Tensor]:
        """As the layer sees them."""
        return {name: transform(p.flatten(1)).view(p.shape) for name, p, transform in self.parts()}

    def forward(self, *arguments: Any, **named: Any) -> Any:
        weights = self.weights()
        if isinstance(self.layer, nn.Embedding) and self.layer.padding_idx is not None:
            at = torch.tensor([self.layer.padding_idx])  # no gradient, and its own values, as after `convert`
            weights["weight"] = weights["weight"].index_copy(0, at, self.layer.weight.detach()[at])
        return functional_call(self.layer, weights, arguments, named)


class PreparedLookup(NeuronLookup, PreparedLayer):
    """An `LSHLinear` that is prepared: its look-ups find by the transformed weights, as of the last `rebuild`."""

    def __init__(self, layer: LSHLinear, transforms: dict[str, Transform]) -> None:
        PreparedLayer.__init__(self, layer, transforms)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self._set_index(layer.index.fresh(), None)

    def loss_step(self, x: Tensor, active: ActiveSet, loss: str) -> tuple[float, Tensor]:
        """As of `FoldedLSHLinear`."""
        return loss_step(self, x, active, loss)

    @torch.no_grad()
    def _weights(self) -> RowsAndBias:
        bias = dict(self.layer.named_parameters(recurse=False)).get("bias")
        return self.weights()["weight"].numpy(), None if bias is None else bias.detach().numpy()


def prepared(layer: nn.Module, transforms: dict[str, Transform]) -> PreparedLayer:
    """`layer` with transforms of its weights, itself no longer to be used."""
    kind = PreparedLookup if isinstance(layer, LSHLinear) else PreparedLayer
    return kind(layer, transforms)  # type: ignore[arg-type]
