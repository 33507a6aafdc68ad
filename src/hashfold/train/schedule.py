"""What a step needs besides its rows, as pure functions of its number: the rate and the seed."""

from __future__ import annotations

import math

import numpy as np

from hashfold.train.config import TrainConfig


def lr_factor(config: TrainConfig, step: int, total_steps: int) -> float:
    """The share of the base rate at `step` (from 0) of `total_steps`, in (0, 1].

    Warm-up over w steps: (step + 1) / w; then cosine: (1 + cos(pi t)) / 2, t from 0 to the step after the
    last, so that the rate falls to zero but no step is spent at zero (Loshchilov and Hutter, ICLR 2017).
    """
    warmup = round(config.warmup_fraction * total_steps)
    if step < warmup:
        return (step + 1) / warmup
    if config.schedule == "constant":
        return 1.0
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, total_steps - warmup)))


def step_seed(seed: int, step: int) -> int:
    """An independent 63-bit seed for each step of a run."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))
