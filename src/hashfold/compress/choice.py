"""One option for each of several things, so that a sum of sizes fits and a sum of losses is least."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

STEPS = 4096
"""Sizes are rounded up to so many steps of the room: what is chosen always fits, and wastes little."""


@dataclass(frozen=True)
class Option:
    index: int
    size: int
    loss: float


def without_dominated(options: Sequence[Option]) -> list[Option]:
    """Without those that are no smaller than one of no more loss; by size."""
    kept: list[Option] = []
    for option in sorted(options, key=lambda o: (o.size, o.loss)):
        if not kept or option.loss < kept[-1].loss:
            kept.append(option)
    return kept


def cheapest_loss(groups: Sequence[Sequence[Option]], room: int) -> list[int] | None:
    """The index of the option chosen of each group; None if no choice fits.

    The multiple-choice knapsack by dynamic programming over `STEPS` sizes. Cost: `STEPS` for each option.
    """
    if room < 0:
        return None
    step = max(1, math.ceil(room / STEPS))
    width = room // step + 1
    best = np.zeros(width)
    taken: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
    for options in groups:
        totals = np.full((len(options), width), np.inf)
        for row, option in zip(totals, options, strict=True):
            steps = -(-option.size // step)
            if steps < width:
                row[steps:] = best[: width - steps] + option.loss
        taken.append(np.argmin(totals, axis=0))
        best = totals.min(axis=0)
    at = int(np.argmin(best))
    if not math.isfinite(best[at]):
        return None
    chosen = []
    for options, choice in zip(reversed(groups), reversed(taken), strict=True):
        option = options[int(choice[at])]
        chosen.append(option.index)
        at -= -(-option.size // step)
    return chosen[::-1]
