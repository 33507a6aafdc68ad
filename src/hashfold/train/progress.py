"""Progress on standard error: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from hashfold.memory import peak_bytes
from hashfold.train.callbacks import Callback, RunInfo, StepReport
from hashfold.train.state import TrainResult


def progress(stream: TextIO | None = None) -> Callback:
    """The bar if `stream` (standard error) is a terminal, else the plain log."""
    stream = stream if stream is not None else sys.stderr
    return ProgressBar(stream) if stream.isatty() else PlainLog(stream)


class Meter:
    """What a line of progress says: the figures of the last steps, smoothed, and of the last record."""

    def __init__(self, memory: float = 0.98) -> None:
        self._memory, self._weight = memory, 0.0
        self._sums = {"loss": 0.0, "active": 0.0, "rows": 0.0, "seconds": 0.0}
        self._metric = ""

    def step(self, report: StepReport) -> None:
        now = {
            "loss": report.loss,
            "active": report.stats.active_fraction,
            "rows": report.rows,
            "seconds": report.seconds,
        }
        self._weight = self._memory * self._weight + 1.0
        self._sums = {name: self._memory * old + now[name] for name, old in self._sums.items()}

    def record(self, record: Mapping[str, Any]) -> None:
        if "P@1" in record:
            self._metric = f"P@1 {record['P@1']:.4f}  "

    def seconds_for(self, steps: int) -> float:
        return steps * self._sums["seconds"] / max(self._weight, 1e-9)

    def __str__(self) -> str:
        if not self._weight:
            return "starting"
        return (
            f"loss {self._sums['loss'] / self._weight:.4g}  {self._metric}"
            f"active {self._sums['active'] / self._weight:.2%}  "
            f"{self._sums['rows'] / max(self._sums['seconds'], 1e-9):,.0f} examples/s  "
            f"{peak_bytes() / 2**30:.2f} GiB"
        )


class PlainLog(Callback):
    """One line every `every_seconds` and one for each record: for log files and pipes."""

    def __init__(self, stream: TextIO | None = None, every_seconds: float = 10.0) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._every_seconds, self._last = every_seconds, time.monotonic()
        self._meter = Meter()

    def on_start(self, run: RunInfo) -> None:
        self._run = run
        if not run.total_steps:
            self._say(f"{run.rows:,} rows, no network to train")
            return
        resumed = f", resumed after step {run.start_step}" if run.start_step else ""
        self._say(f"{run.rows:,} rows, {run.epochs} epochs, {run.total_steps:,} steps{resumed}")

    def on_step(self, report: StepReport) -> None:
        self._meter.step(report)
        if time.monotonic() - self._last >= self._every_seconds:
            epoch = (report.step - 1) // self._run.steps_per_epoch + 1
            left = timedelta(seconds=round(self._meter.seconds_for(self._run.total_steps - report.step)))
            self._say(
                f"step {report.step:,}/{self._run.total_steps:,}  epoch {epoch}/{self._run.epochs}  "
                f"{self._meter}  {left} left"
            )

    def on_validation(self, rows_done: int, rows: int) -> None:
        if time.monotonic() - self._last >= self._every_seconds:
            self._say(f"validation: {rows_done:,} of {rows:,} rows")

    def on_record(self, record: Mapping[str, Any]) -> None:
        self._meter.record(record)
        self._say(describe(record))

    def on_checkpoint(self, path: Path, step: int) -> None:
        self._say(f"checkpoint of step {step:,} written to {path}")

    def _say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)
        self._last = time.monotonic()


class _BarWithFigures(Progress):
    """rich's bar, and a line below for what does not fit beside it on 80 columns."""

    figures = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        yield Text("  " + self.figures, overflow="ellipsis", no_wrap=True)


class ProgressBar(Callback):
    """A bar with loss, P@1, active fraction, examples per second and memory; records above it."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._console = Console(file=stream) if stream is not None else Console(stderr=True)
        self._progress = _BarWithFigures(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            redirect_stdout=False,  # standard output belongs to the results
            redirect_stderr=False,
        )
        self._meter, self._task = Meter(), TaskID(0)

    def on_start(self, run: RunInfo) -> None:
        self._run = run
        self._task = self._progress.add_task("training", total=run.total_steps, completed=run.start_step)
        self._progress.start()

    def on_step(self, report: StepReport) -> None:
        self._meter.step(report)
        epoch = (report.step - 1) // self._run.steps_per_epoch + 1
        self._progress.figures = str(self._meter)
        self._progress.update(self._task, completed=report.step, description=f"epoch {epoch}/{self._run.epochs}")

    def on_validation(self, rows_done: int, rows: int) -> None:
        self._progress.update(self._task, description=f"validating {rows_done / rows:.0%}")

    def on_record(self, record: Mapping[str, Any]) -> None:
        self._meter.record(record)
        self._console.print(describe(record), highlight=False, markup=False, soft_wrap=True)

    def on_checkpoint(self, path: Path, step: int) -> None:
        self._console.print(
            f"checkpoint of step {step:,} written to {path}", highlight=False, markup=False, soft_wrap=True
        )

    def on_end(self, result: TrainResult) -> None:
        self._progress.update(self._task, description=result.stopped.replace("_", " "))

    def close(self) -> None:
        self._progress.stop()


def describe(record: Mapping[str, Any]) -> str:
    """A record in one line."""
    metrics = "".join(f"  {name} {record[name]:.4f}" for name in ("P@1", "P@3", "P@5") if name in record)
    return (
        f"epoch {record['epoch']:.4g}  step {record['step']:,}  loss {record['loss']:.4g}{metrics}"
        f"  active {record['active_fraction']:.2%}  {record['examples_per_second']:,.0f} examples/s"
        f"  {timedelta(seconds=round(record['seconds']))}"
    )
