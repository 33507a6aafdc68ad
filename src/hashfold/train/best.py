"""The best weights so far, for early stopping to go back to."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch

from hashfold.train.protocol import Trainable


class BestWeights:
    """One copy of a model's state, in the model's own types, allocated once.

    The loop copies only when the weights are about to move away from a new best, so a run whose best
    validation is its last never pays for it. Cost: the size of the weights in memory, one pass to copy.
    """

    def __init__(self, weights: Mapping[str, Any] | None = None) -> None:
        self.weights = dict(weights) if weights is not None else None

    def keep(self, model: Trainable) -> None:
        state = model.state_dict()
        if self.weights is None:
            self.weights = {name: _copied(value) for name, value in state.items()}
            return
        for name, value in state.items():
            if isinstance(value, torch.Tensor):
                self.weights[name].copy_(value)
            else:
                self.weights[name] = _copied(value)

    def restore(self, model: Trainable) -> None:
        assert self.weights is not None
        model.load_state_dict(self.weights)


def _copied(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else copy.deepcopy(value)
