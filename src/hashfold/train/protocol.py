"""What the loop asks of a model, of data, and of a step: everything else about them is their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch

from hashfold.sparse import CsrBatch, Float32, Int32, LookupStats, RaggedIds


class Examples(Protocol):
    """Rows and their labels, such as `data.Dataset`."""

    @property
    def x(self) -> CsrBatch: ...
    @property
    def y(self) -> RaggedIds: ...


class Step(Protocol):
    """What one training step reports: mean loss, rows, what the look-ups did."""

    @property
    def loss(self) -> float: ...
    @property
    def rows(self) -> int: ...
    @property
    def stats(self) -> LookupStats: ...


class Trainable(Protocol):
    """A model that `fit` can train.

    `training_step` does forward, backward and update, and draws whatever it draws (dropout, negatives)
    from `seed` alone, never from a global generator: exact resume rests on it. `set_lr(factor)` sets the
    rates of the following steps to factor times their base. `load_state_dict` also brings everything
    derived from the weights (hash tables) up to date: early stopping goes back through it.
    """

    def training_step(self, x: CsrBatch, y: RaggedIds, seed: int) -> Step: ...
    def top_k(self, x: CsrBatch, k: int, lookup: bool = False) -> tuple[Int32, Float32]: ...
    def optimizers(self) -> Sequence[torch.optim.Optimizer]: ...
    def set_lr(self, factor: float) -> None: ...
    def state_dict(self) -> Any: ...
    def load_state_dict(self, state_dict: Any) -> Any: ...


@runtime_checkable
class Preparing(Protocol):
    """A Trainable that can do a part of a step ahead, while the step before it computes.

    `prepare` is called in another thread, with the arguments that `training_step` will get beside what it
    returns. It may read what no step writes, and nothing else; the step's result is the same without it.
    """

    def prepare(self, x: CsrBatch, y: RaggedIds, seed: int) -> Any: ...
    def training_step(self, x: CsrBatch, y: RaggedIds, seed: int, prepared: Any = None) -> Step: ...


@runtime_checkable
class Phased(Protocol):
    """A Trainable whose steps depend on how much of the run is over.

    `set_progress` is called before each step with the share of the run's steps that were made, in [0, 1).
    """

    def set_progress(self, done: float) -> None: ...


@runtime_checkable
class Resumable(Protocol):
    """A Trainable with more state than weights and optimizers: hash tables, their rebuild schedule.

    `resume_state` returns nested dicts, lists and tuples of numbers, text, NumPy arrays and tensors. After
    `load_state_dict` and `load_resume_state` the model goes on bit for bit as the one that was saved.
    """

    def resume_state(self) -> dict[str, Any]: ...
    def load_resume_state(self, state: dict[str, Any]) -> None: ...
