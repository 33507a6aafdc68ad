"""What may watch a run: called between steps, never able to change it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hashfold.errors import MissingDependencyError
from hashfold.io import write_atomic
from hashfold.io.text import to_json
from hashfold.sparse import LookupStats
from hashfold.train.state import TrainResult


@dataclass(frozen=True)
class RunInfo:
    """What is known before the first step. `start_step` is above 0 in a resumed run."""

    rows: int
    epochs: int
    steps_per_epoch: int
    total_steps: int
    start_step: int
    history: list[dict[str, Any]]


@dataclass(frozen=True)
class StepReport:
    """One finished step. `step` counts from 1; `seconds` includes waiting for the batch."""

    step: int
    loss: float
    rows: int
    seconds: float
    lr_factor: float
    stats: LookupStats


class Callback:
    """Does nothing; override what you need. `close` is always called, also after an error or Ctrl-C."""

    def on_start(self, run: RunInfo) -> None: ...
    def on_step(self, report: StepReport) -> None: ...
    def on_validation(self, rows_done: int, rows: int) -> None: ...
    def on_record(self, record: Mapping[str, Any]) -> None: ...
    def on_checkpoint(self, path: Path, step: int) -> None: ...
    def on_end(self, result: TrainResult) -> None: ...
    def close(self) -> None: ...


class HistoryFile(Callback):
    """Keeps the records so far in a JSON file, rewritten whole after each one."""

    def __init__(self, path: str | Path) -> None:
        self.path, self._records = Path(path), list[dict[str, Any]]()

    def on_start(self, run: RunInfo) -> None:
        self._records = list(run.history)

    def on_record(self, record: Mapping[str, Any]) -> None:
        self._records.append(dict(record))
        write_atomic(self.path, to_json("history", self._records) + b"\n")


class TensorBoard(Callback):
    """Writes TensorBoard events: the loss of every `every_steps`-th step, every number of every record.

    Raises MissingDependencyError without the extra `tensorboard`.
    """

    def __init__(self, folder: str | Path, every_steps: int = 10) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as cause:
            raise MissingDependencyError(
                "TensorBoard: tensorboard is not installed; install it with pip install 'hashfold[tensorboard]'."
            ) from cause
        self._writer: Any = SummaryWriter(str(folder))
        self._every_steps = every_steps

    def on_step(self, report: StepReport) -> None:
        if report.step % self._every_steps == 0:
            self._writer.add_scalar("step/loss", report.loss, report.step)
            self._writer.add_scalar("step/lr_factor", report.lr_factor, report.step)
            self._writer.add_scalar("step/active_fraction", report.stats.active_fraction, report.step)
            self._writer.add_scalar("step/examples_per_second", report.rows / report.seconds, report.step)

    def on_record(self, record: Mapping[str, Any]) -> None:
        for name, value in record.items():
            if isinstance(value, (int, float)) and name != "step":
                self._writer.add_scalar(f"record/{name}", value, record["step"])

    def close(self) -> None:
        self._writer.close()
