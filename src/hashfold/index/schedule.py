"""When the tables are rebuilt: the one place where they change as a whole.

A schedule is a pure function of the step and of the drift measured since the last rebuild, so that a
resumed run rebuilds at the same steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import numpy as np

from hashfold import checks
from hashfold.sparse import Float32, Int64


@dataclass(frozen=True)
class RebuildSchedule(ABC):
    name: ClassVar[str]
    needs_drift: ClassVar[bool] = False

    @abstractmethod
    def due(self, step: int, drift: float | None = None) -> bool:
        """Whether to rebuild after `step` steps (from 1); `drift` as DriftMeter gives it, None if unknown."""

    def config(self) -> dict[str, Any]:
        """JSON-able; `make_schedule(config)` is an equal schedule."""
        return {"name": self.name} | asdict(self)


@dataclass(frozen=True)
class FixedSchedule(RebuildSchedule):
    """Every `every_steps` steps; 0: never."""

    name: ClassVar[str] = "fixed"
    every_steps: int = 100

    def __post_init__(self) -> None:
        checks.integer("fixed schedule", "every_steps", self.every_steps, low=0)

    def due(self, step: int, drift: float | None = None) -> bool:
        return self.every_steps > 0 and step > 0 and step % self.every_steps == 0


@dataclass(frozen=True)
class GrowingSchedule(RebuildSchedule):
    """After `first_steps`, then after intervals that grow by `growth` each time.

    The n-th rebuild comes after sum over i < n of first_steps * growth^i steps: weights move less and less
    as training goes on (SLIDE, Chen et al., MLSys 2020, section 3.1.3, with growth = e^lambda).
    """

    name: ClassVar[str] = "growing"
    first_steps: int = 50
    growth: float = 1.5

    def __post_init__(self) -> None:
        checks.integer("growing schedule", "first_steps", self.first_steps, low=1)
        checks.number("growing schedule", "growth", self.growth, low=1.0)

    def due(self, step: int, drift: float | None = None) -> bool:
        at, interval = 0.0, float(self.first_steps)
        while round(at) < step:
            at, interval = at + interval, interval * self.growth
        return step > 0 and round(at) == step


@dataclass(frozen=True)
class DriftSchedule(RebuildSchedule):
    """Whenever the weights have moved by more than `threshold` relative to their length."""

    name: ClassVar[str] = "drift"
    needs_drift: ClassVar[bool] = True
    threshold: float = 0.1
    check_every_steps: int = 10

    def __post_init__(self) -> None:
        checks.number("drift schedule", "threshold", self.threshold, above=0.0)
        checks.integer("drift schedule", "check_every_steps", self.check_every_steps, low=1)

    def due(self, step: int, drift: float | None = None) -> bool:
        return drift is not None and step > 0 and step % self.check_every_steps == 0 and drift > self.threshold


class DriftMeter:
    """How far rows have moved since the last rebuild, measured on a sample of them.

    drift = mean over the sampled rows of |w_now - w_then| / |w_then|. Rows that were zero count by how many
    of them moved at all (1 each).
    """

    def __init__(self, num_rows: int, sample: int = 1024, seed: int = 0) -> None:
        checks.integer("drift", "num_rows", num_rows, low=1)
        count = min(num_rows, checks.integer("drift", "sample", sample, low=1))
        self.rows: Int64 = np.sort(np.random.default_rng(seed).choice(num_rows, count, replace=False))
        self._then: Float32 | None = None

    def mark(self, vectors: Float32) -> None:
        """Measure from here: call it when the tables are rebuilt. Copies only the sampled rows."""
        self._then = vectors[self.rows]  # integer indexing copies

    def state(self) -> Float32 | None:
        """The sampled rows as `mark` found them, (sample, dim); None before it."""
        return None if self._then is None else self._then.copy()

    def load_state(self, marked: Float32 | None, dim: int) -> None:
        """Goes on as the meter over rows of `dim` numbers, of the same settings, that gave `state()`."""
        if marked is not None:
            marked = checks.array("drift", "marked rows", marked, np.float32, (len(self.rows), dim)).copy()
            checks.finite("drift", "marked rows", marked)
        self._then = marked

    def measure(self, vectors: Float32) -> float | None:
        """The drift since `mark`; None before it."""
        if self._then is None:
            return None
        moved = np.linalg.norm(vectors[self.rows] - self._then, axis=1)
        length = np.linalg.norm(self._then, axis=1)
        relative = np.where(length > 0, moved / np.maximum(length, np.finfo(np.float32).tiny), moved > 0)
        return float(relative.mean())


SCHEDULES: dict[str, type[RebuildSchedule]] = {
    schedule.name: schedule for schedule in (FixedSchedule, GrowingSchedule, DriftSchedule)
}


def make_schedule(spec: str | dict[str, Any] | RebuildSchedule) -> RebuildSchedule:
    """A schedule from "fixed:100", "growing:50:1.5", "drift:0.1" or "never", from `config()`, or as it is."""
    if isinstance(spec, RebuildSchedule):
        return spec
    if isinstance(spec, dict):
        settings = dict(spec)
        kind = _kind(settings.pop("name", None))
    elif spec == "never":
        return FixedSchedule(0)
    else:
        name, *values = spec.split(":")
        kind = _kind(name)
        settings = _parsed(spec, kind, values)
    known = [f.name for f in fields(kind)]
    for option in settings:
        if option not in known:
            checks.fail(f"{kind.name} schedule", f"options are {', '.join(known)}", repr(option))
    return kind(**settings)


def _kind(name: Any) -> type[RebuildSchedule]:
    return SCHEDULES[checks.one_of("rebuild schedule", "name", name, SCHEDULES)]


def _parsed(spec: str, kind: type[RebuildSchedule], values: list[str]) -> dict[str, Any]:
    """The fields of the class, in order, from text."""
    known = fields(kind)
    if len(values) > len(known):
        checks.fail("rebuild schedule", f"{kind.name} takes at most {len(known)} numbers", repr(spec))
    readers: dict[str, Callable[[str], float]] = {"int": int, "float": float}
    try:
        return {f.name: readers[str(f.type)](v) for f, v in zip(known, values, strict=False)}
    except ValueError:
        example = ":".join([kind.name, *(str(f.default) for f in known)])
        checks.fail("rebuild schedule", f"a schedule is written like {example}", repr(spec))
