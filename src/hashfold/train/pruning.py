"""Cross weights of a trained model made few: trained, the largest kept, and these trained again."""

from __future__ import annotations

import numpy as np

from hashfold import checks
from hashfold.data import Dataset
from hashfold.kernels.hashed_blocks import FitRule, Tasks
from hashfold.kernels.pruned_blocks import SparseWeights, fit_pruned
from hashfold.model import PrunedWide
from hashfold.model.pruned import BITS
from hashfold.model.wide import by_label
from hashfold.sparse import CsrBatch, Float32, Float64, Ragged

BUCKETS_A_WEIGHT = 5  # a weight of its own is worth more than so many buckets; more weights add little
SAMPLE = 16  # one label in so many tells how large the weights are that will be kept
FEWEST_SAMPLED = 200  # labels
SLACK = 0.8  # of the least weight that the sample would keep: what others are asked for


def prune(
    rows: Dataset,
    pairs: Ragged,
    targets: Float32,
    weights: int,
    rule: FitRule,
    *,
    start_bias: float = -1.0,
    bits: int = BITS,
) -> PrunedWide:
    """A linear model of chosen pairs of a row and a label with at most `weights` weights that are not 0.

    pairs, targets: as of `Wide.fit`. rule: of the training, as of `Wide`, and once more of the weights left, which
    must make up for those that are gone (Han et al., NeurIPS 2015). Cost: of two fits of a `Wide`, with as many
    buckets as features for each label; memory: 16 bytes for each weight that the first one moves far enough to be
    among those kept.

    Raises InputError: weights that overflowed.
    """
    tasks, _ = by_label(rows.x, pairs, targets, rows.num_labels)
    bias = np.full(rows.num_labels, start_bias, np.float32)
    least = _least(rows.x, tasks, weights, rule, bias)
    first = _fitted(rows.x, tasks, rule, bias, None, least)
    kept = _fitted(rows.x, tasks, rule, bias, largest(first, weights), 0.0)
    indptr = np.zeros(rows.num_labels + 1, np.int64)
    indptr[tasks.labels + 1] = np.diff(kept.indptr)
    whole = kept._replace(indptr=np.cumsum(indptr))
    return PrunedWide.of(rows.num_features, whole, bias, bits=bits, start_bias=start_bias)


def largest(weights: SparseWeights, most: int) -> SparseWeights:
    """At most so many of them, by magnitude; of equal ones the first."""
    if len(weights.weights) <= most:
        return weights
    kept = np.zeros(len(weights.weights), bool)
    kept[np.argsort(-np.abs(weights.weights), kind="stable")[:most]] = True
    before = np.concatenate([[0], np.cumsum(kept)])
    return SparseWeights(before[weights.indptr], weights.features[kept], weights.weights[kept])


def _least(x: CsrBatch, tasks: Tasks, weights: int, rule: FitRule, bias: Float32) -> float:
    """A magnitude below which no weight will be kept, from a sample of the labels; 0 of few of them."""
    if len(tasks.labels) < SAMPLE * FEWEST_SAMPLED:
        return 0.0
    some = np.sort(np.random.default_rng(rule.seed).permutation(len(tasks.labels))[::SAMPLE])
    rows = np.concatenate([np.arange(tasks.indptr[t], tasks.indptr[t + 1]) for t in some])
    indptr = np.concatenate([[0], np.cumsum(np.diff(tasks.indptr)[some])])
    sample = Tasks(tasks.labels[some], indptr, tasks.rows[rows], tasks.targets[rows])
    found = np.abs(_fitted(x, sample, rule, bias.copy(), None, 0.0).weights)
    most = weights // SAMPLE
    return SLACK * float(np.partition(found, -most)[-most]) if 0 < most < len(found) else 0.0


def _fitted(
    x: CsrBatch, tasks: Tasks, rule: FitRule, bias: Float32, start: SparseWeights | None, least: float
) -> SparseWeights:
    losses: Float64 = np.zeros(len(tasks.labels))
    found = fit_pruned(x, tasks, rule, bias, losses, start=start, least=least)
    if not (np.isfinite(found.weights).all() and np.isfinite(bias).all()):
        checks.fail("prune", "weights must stay finite", "an overflow", "train with a lower wide_lr")
    return found
