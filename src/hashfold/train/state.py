"""Where a run stands: everything besides the model that the next step depends on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from hashfold.sparse import LookupStats


@dataclass
class Window:
    """Sums over the steps since the last record."""

    loss: float = 0.0  # summed over rows
    rows: int = 0
    seconds: float = 0.0
    stats: LookupStats = field(default_factory=LookupStats)

    def add(self, loss: float, rows: int, seconds: float, stats: LookupStats) -> None:
        self.loss += loss * rows
        self.rows += rows
        self.seconds += seconds
        self.stats = self.stats + stats


@dataclass
class RunState:
    """Counts of what is done (`step` steps; `epoch` whole epochs and `batch` batches of the next one).

    `history` holds one record (plain JSON) for each epoch and validation; `recorded_step` is the step of
    the last, `best` the record with the best metric and `waited` the validations since.
    `seconds` is wall time, `train_seconds` without validation and checkpoints.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    rows: int = 0
    seconds: float = 0.0
    train_seconds: float = 0.0
    recorded_step: int = 0
    waited: int = 0
    best: dict[str, Any] | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    window: Window = field(default_factory=Window)

    def advance(self, steps_per_epoch: int) -> None:
        self.step += 1
        self.epoch, self.batch = divmod(self.step, steps_per_epoch)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunState:
        window = values["window"]
        return cls(**{**values, "window": Window(**{**window, "stats": LookupStats(**window["stats"])})})


@dataclass(frozen=True)
class TrainResult:
    """What a run came to. `metrics` are those of the weights that the model now has.

    stopped: "finished", "early_stopping" or "max_seconds". best_step, best_epoch: of the best validation
    (epochs count from 1); the last step and epoch without validation. examples_per_second: training
    alone. peak_memory_bytes: of the whole process.
    """

    stopped: str
    steps: int
    epochs: int
    best_step: int
    best_epoch: int
    metrics: dict[str, float]
    seconds: float
    train_seconds: float
    examples_per_second: float
    peak_memory_bytes: int
    history: list[dict[str, Any]] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
