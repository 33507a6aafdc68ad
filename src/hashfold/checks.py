"""Every argument check, so that the code behind them can trust what it gets.

Each function takes the operation's name first, and raises `InputError` with one line: operation,
expectation, what came, remedy.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from hashfold.errors import InputError

FEW = 4096  # numbers that one thread multiplies at once


def fail(op: str, expected: str, came: object, remedy: str = "") -> NoReturn:
    raise InputError(f"{op}: {expected}; got {came}{'; ' + remedy if remedy else ''}.")


def integer(op: str, name: str, value: Any, *, low: int | None = None, high: int | None = None) -> int:
    """`value` as an int in [low, high]."""
    bounds = _bounds(low, high)
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        fail(op, f"{name} must be an integer{bounds}", repr(value))
    if (low is not None and value < low) or (high is not None and value > high):
        fail(op, f"{name} must be an integer{bounds}", value)
    return int(value)


def number(
    op: str,
    name: str,
    value: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
) -> float:
    """`value` as a finite float in [low, high], or strictly above `above`."""
    bounds = f" above {above}" if above is not None else _bounds(low, high)
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        fail(op, f"{name} must be a number{bounds}", repr(value))
    outside = (low is not None and value < low) or (high is not None and value > high)
    if not math.isfinite(value) or outside or (above is not None and value <= above):
        fail(op, f"{name} must be a finite number{bounds}", value)
    return float(value)


def one_of(op: str, name: str, value: str, known: Collection[str]) -> str:
    """`value`, one of the `known` names."""
    if value not in known:
        fail(op, f"{name} must be one of {', '.join(sorted(known))}", repr(value))
    return value


def array(op: str, name: str, value: Any, dtype: npt.DTypeLike, shape: tuple[int | None, ...]) -> npt.NDArray[Any]:
    """`value` as a C-contiguous array of exactly `dtype` and `shape` (None: any length)."""
    try:
        a = np.ascontiguousarray(value, dtype=dtype)
    except (TypeError, ValueError):
        fail(op, f"{name} must be an array of {np.dtype(dtype)}", f"{type(value).__name__} of something else")
    if a.ndim != len(shape) or any(
        want is not None and want != have for want, have in zip(shape, a.shape, strict=True)
    ):
        wanted = ", ".join("*" if want is None else str(want) for want in shape)
        fail(op, f"{name} must have shape ({wanted})", a.shape)
    return a


def finite(op: str, name: str, value: npt.NDArray[Any]) -> None:
    """Every entry of `value` is a number."""
    if 0 < value.size <= FEW and math.isfinite(np.vdot(value, value)):
        return  # squares cannot cancel: a third of the time, for one row
    if not np.isfinite(value).all():
        at = int(np.flatnonzero(~np.isfinite(value.ravel()))[0])
        fail(
            op,
            f"{name} must be finite",
            f"{value.ravel()[at]} at position {at}",
            "clean or drop these values",
        )


def ids_in_range(op: str, name: str, ids: npt.NDArray[Any], bound: int) -> None:
    """Every id lies in [0, bound)."""
    if ids.size and (int(ids.min()) < 0 or int(ids.max()) >= bound):
        bad = ids[(ids < 0) | (ids >= bound)][0]
        fail(op, f"{name} must lie in [0, {bound})", int(bad), "ids count from zero")


def _bounds(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f" in [{low}, {high}]"
    if low is not None:
        return f", at least {low}"
    return f", at most {high}" if high is not None else ""
