"""What determines a training run, and where its checkpoints go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hashfold import checks

_OP = "TrainConfig"
SCHEDULES = ("constant", "cosine")


@dataclass(frozen=True)
class TrainConfig:
    """The recipe of one run; the learning rate itself belongs to the model's optimizers.

    epochs: passes over the training rows.
    batch_size: rows a step; the last batch of an epoch may be smaller.
    seed: of the order of the rows and of every step.
    schedule: the rate after warm-up: "cosine" to zero at the last step, or "constant".
    warmup_fraction: share of all steps in which the rate rises linearly from zero.
    validate_every_epochs: how often held-out rows are scored; `validate_every_steps`, if given, instead.
    patience: stop after this many validations without a new best `metric`, and return to the best
        weights; None: train to the end and keep the last weights.
    metric: what "best" means: "P@1", "P@3", "P@5", "nDCG@1" ... "R@5".
    validate_with_lookup: score held-out rows through the hash tables instead of exactly.
    max_seconds: stop after this time (validation and checkpoints included, and the parts of a resumed
        run added up); the schedule is not shortened.
    threads: for torch and the kernels; None: leave as it is.
    prefetch: batches sliced ahead of time in a background thread.
    """

    epochs: int = 10
    batch_size: int = 256
    seed: int = 0
    schedule: str = "cosine"
    warmup_fraction: float = 0.05
    validate_every_epochs: int = 1
    validate_every_steps: int | None = None
    patience: int | None = None
    metric: str = "P@1"
    validate_with_lookup: bool = False
    max_seconds: float | None = None
    threads: int | None = None
    prefetch: int = 2

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "validate_every_epochs", "prefetch"):
            checks.integer(_OP, name, getattr(self, name), low=1)
        for name in ("validate_every_steps", "patience", "threads"):
            if getattr(self, name) is not None:
                checks.integer(_OP, name, getattr(self, name), low=1)
        checks.integer(_OP, "seed", self.seed, low=0, high=2**63 - 1)
        checks.one_of(_OP, "schedule", self.schedule, SCHEDULES)
        checks.number(_OP, "warmup_fraction", self.warmup_fraction, low=0.0, high=1.0)
        if self.max_seconds is not None:
            checks.number(_OP, "max_seconds", self.max_seconds, above=0.0)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Raises InputError for names or values that are not a setting's."""
        known = [f.name for f in fields(cls)]
        for name in values:
            checks.one_of(_OP, "setting", name, known)
        return cls(**values)


@dataclass(frozen=True)
class Checkpoints:
    """Where and how often the whole state of a run is written, each time replacing the one before.

    folder: of the checkpoint, for nothing else. every_seconds, every_epochs: whichever comes first; None:
    not by this. An interrupted run (Ctrl-C) is always written.

    Disk: the weights, the optimizer's state (twice the weights for Adam, half of them if it is compact) and, with
    early stopping, the best weights; for a moment twice that, because the old one stays until the new one is
    complete.
    """

    folder: str | Path
    every_seconds: float | None = 600.0
    every_epochs: int | None = None

    def __post_init__(self) -> None:
        if self.every_seconds is not None:
            checks.number("Checkpoints", "every_seconds", self.every_seconds, low=0.0)
        if self.every_epochs is not None:
            checks.integer("Checkpoints", "every_epochs", self.every_epochs, low=1)
