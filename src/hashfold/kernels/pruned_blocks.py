"""Linear weights of which the large ones are kept, trained output by output: `hashed_blocks` without hashing."""

from __future__ import annotations

from typing import NamedTuple

from hashfold.kernels.hashed_blocks import FitRule, Tasks
from hashfold.kernels.native import core
from hashfold.sparse import CsrBatch, Float32, Float64, Int32, Int64


class SparseWeights(NamedTuple):
    """Of task t: features (ascending) and weights indptr[t] to indptr[t + 1]."""

    indptr: Int64
    features: Int32
    weights: Float32


def fit_pruned(
    x: CsrBatch,
    tasks: Tasks,
    rule: FitRule,
    bias: Float32,
    losses: Float64,
    *,
    start: SparseWeights | None = None,
    least: float = 0.0,
) -> SparseWeights:
    """Trains the tasks' outputs and returns their weights; bias (outputs,) and losses (tasks,) in place.

    Without `start` each feature has a weight, from 0, and those of magnitude `least` and more that are not 0 are
    returned. With it only the features there have one, trained on from there, and all are returned. Losses: the
    sum of each output's in the last epoch. The same bits at any number of threads. Cost: as of
    `hashed_blocks.fit`; memory: 8 bytes a feature and thread, and the result twice.
    """
    return SparseWeights(
        *core.pruned_fit(
            x.indptr,
            x.indices,
            x.values,
            x.num_cols,
            tasks.labels,
            tasks.indptr,
            tasks.rows,
            tasks.targets,
            rule.native(),
            None if start is None else tuple(start),
            least,
            bias,
            losses,
        )
    )
