"""Phases of training: first the labels of the batch alone, say, then few negatives, then many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hashfold import checks


class Phase(NamedTuple):
    """Up to this share of the run's steps: labels looked up by each row, and uniform ones a batch."""

    until: float
    hard_negatives: int
    negatives: int


def check_phases(op: str, phases: Sequence[Sequence[float]]) -> None:
    """Raises InputError: no list of [until, hard_negatives, negatives] that ends at 1."""
    before = 0.0
    for phase in phases:
        if len(phase) != len(Phase._fields):
            checks.fail(op, f"a phase is [{', '.join(Phase._fields)}]", list(phase))
        until = checks.number(op, "until of a phase", phase[0], above=before, high=1.0)
        for name, value in zip(Phase._fields[1:], phase[1:], strict=True):
            checks.integer(op, f"{name} of a phase", value, low=0)
        before = until
    if phases and before != 1.0:
        checks.fail(op, "the last phase must last until 1", before)


def phase_at(phases: Sequence[Sequence[float]], done: float) -> Phase:
    """The phase of the step before which the share `done` of all steps was made."""
    until, hard, uniform = next((p for p in phases if done < p[0]), phases[-1])
    return Phase(until, int(hard), int(uniform))
