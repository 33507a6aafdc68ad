"""Counter-based randomness in NumPy, the same numbers as csrc/core/rng.hpp."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

UInt64 = npt.NDArray[np.uint64]

STRIDE = 0x9E3779B97F4A7C15  # of a SplitMix64 stream


def words(values: npt.ArrayLike | int) -> UInt64:
    """As uint64 with at least one dimension: NumPy's arrays wrap around silently, its scalars warn."""
    return np.atleast_1d(np.asarray(values, np.uint64))


def mix(x: Any) -> UInt64:
    """The finaliser of SplitMix64."""
    x = words(x) + words(STRIDE)
    x = (x ^ (x >> np.uint64(30))) * words(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * words(0x94D049BB133111EB)
    mixed: UInt64 = x ^ (x >> np.uint64(31))
    return mixed


def mix_at(seed: Any, position: Any) -> UInt64:
    """A random word for each position."""
    return mix(mix(seed) ^ (words(position) * words(0xD1B54A32D192ED03)))


def stream(keys: UInt64, steps: Any) -> UInt64:
    """The `steps`-th words of the streams that start at `keys` (broadcast together)."""
    return mix(keys + words(steps) * words(STRIDE))


def below(random: UInt64, bound: int) -> npt.NDArray[np.int64]:
    """In [0, bound), from the high halves of the words."""
    return (((random >> np.uint64(32)) * words(bound)) >> np.uint64(32)).astype(np.int64)


def unit(random: UInt64) -> npt.NDArray[np.float64]:
    """In (0, 1), 52 bits."""
    return ((random >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def permutations(seed: int, count: int, size: int) -> npt.NDArray[np.int64]:
    """(count, size): each row a random order of range(size)."""
    rows = mix_at(seed, np.arange(count))[:, None]
    return np.argsort(stream(rows, np.arange(size)), axis=1, kind="stable")
