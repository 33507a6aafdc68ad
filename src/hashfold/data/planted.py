"""Made-up data with planted structure, of any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hashfold import checks
from hashfold.data.dataset import Dataset
from hashfold.data.tfidf import TfIdf
from hashfold.sparse import MAX_IDS, CsrBatch, RaggedIds

Int = npt.NDArray[np.int64]


def synthetic(
    num_rows: int = 10_000,
    num_features: int = 10_000,
    num_labels: int = 1_000,
    *,
    test_rows: int | None = None,
    labels_per_row: float = 3.0,
    features_per_row: int = 40,
    num_clusters: int | None = None,
    power: float = 1.0,
    noise: float = 0.3,
    feature_power: float = 0.0,
    seed: int = 0,
) -> tuple[Dataset, Dataset]:
    """(train, test) whose labels can be learned from the features, and whose label counts follow a power law.

    Labels belong to clusters. Every label and every cluster has a prototype, a fixed set of features.
    A row draws a first label with probability ~ rank^-power and further ones mostly from the same
    cluster; its words are then drawn from the prototypes of its labels and their cluster, or, with
    probability `noise`, from all features. Features of small ids are the frequent ones where `feature_power`
    is above 0, as words are. Values are log-tf-idf, rows have length 1.

    Args:
        test_rows: num_rows / 5 if None.
        labels_per_row: mean; every row has at least one.
        features_per_row: words drawn a row; distinct features are somewhat fewer.
        num_clusters: sqrt(num_labels) if None.
        power: of the power law of the label counts; 0 is uniform.
        noise: share of words that say nothing.
        feature_power: a word is feature f with probability ~ (f + 1)^-feature_power; 0 is uniform, below 1.
        seed: same seed, same data.

    Cost: O(num_rows * features_per_row) and O(num_labels) memory; prototypes are hashed, not stored.
    """
    plan = _plan(
        num_features, num_labels, labels_per_row, features_per_row, num_clusters, power, noise, feature_power, seed
    )
    num_rows = checks.integer("synthetic", "num_rows", num_rows, low=1)
    tests = checks.integer("synthetic", "test_rows", num_rows // 5 if test_rows is None else test_rows, low=0)
    rng = np.random.default_rng(seed)
    parts = [_draw(plan, rows, rng) for rows in (num_rows, tests)]
    tfidf = TfIdf.fit(parts[0][0], "tfidf")
    train, test = (Dataset(tfidf.transform(x), y) for x, y in parts)
    return train, test


@dataclass(frozen=True)
class _Plan:
    num_features: int
    num_labels: int
    labels_per_row: float
    features_per_row: int
    num_clusters: int
    noise: float
    feature_power: float
    seed: int
    by_rank: Int  # label id of each popularity rank
    cumulative: npt.NDArray[np.float64]  # distribution over ranks


def _plan(
    num_features: int,
    num_labels: int,
    labels_per_row: float,
    features_per_row: int,
    num_clusters: int | None,
    power: float,
    noise: float,
    feature_power: float,
    seed: int,
) -> _Plan:
    op = "synthetic"
    num_features = checks.integer(op, "num_features", num_features, low=1, high=MAX_IDS)
    num_labels = checks.integer(op, "num_labels", num_labels, low=1, high=MAX_IDS)
    clusters = max(1, round(num_labels**0.5)) if num_clusters is None else num_clusters
    mass = np.arange(1, num_labels + 1) ** -checks.number(op, "power", power, low=0.0)
    return _Plan(
        num_features,
        num_labels,
        checks.number(op, "labels_per_row", labels_per_row, low=1.0, high=num_labels),
        checks.integer(op, "features_per_row", features_per_row, low=1),
        checks.integer(op, "num_clusters", clusters, low=1, high=num_labels),
        checks.number(op, "noise", noise, low=0.0, high=1.0),
        checks.number(op, "feature_power", feature_power, low=0.0, high=0.99),
        checks.integer(op, "seed", seed, low=0, high=2**63 - 1),
        np.random.default_rng([seed, 1]).permutation(num_labels),
        np.cumsum(mass) / mass.sum(),
    )


def _draw(plan: _Plan, rows: int, rng: np.random.Generator) -> tuple[CsrBatch, RaggedIds]:
    first = _popular(plan, rows, rng)
    extra = np.repeat(np.arange(rows), rng.poisson(plan.labels_per_row - 1, rows))
    close = rng.random(len(extra)) < 0.8
    others = np.where(close, _siblings(plan, first[extra], rng), _popular(plan, len(extra), rng))
    keys = np.unique(np.concatenate([np.arange(rows), extra]) * plan.num_labels + np.concatenate([first, others]))
    row, label = np.divmod(keys, plan.num_labels)
    y = RaggedIds(_ends(row, rows), label.astype(np.int32), plan.num_labels)
    return _words(plan, y, rng), y


def _popular(plan: _Plan, count: int, rng: np.random.Generator) -> Int:
    rank = np.searchsorted(plan.cumulative, rng.random(count))
    return plan.by_rank[np.minimum(rank, plan.num_labels - 1)]


def _siblings(plan: _Plan, labels: Int, rng: np.random.Generator) -> Int:
    """Labels of the same cluster; a label's cluster is its id modulo the clusters."""
    cluster = labels % plan.num_clusters
    members = (plan.num_labels - 1 - cluster) // plan.num_clusters + 1
    return cluster + plan.num_clusters * rng.integers(0, members)


def _words(plan: _Plan, y: RaggedIds, rng: np.random.Generator) -> CsrBatch:
    rows, words = len(y), plan.features_per_row
    row = np.repeat(np.arange(rows), words)
    label = y.ids[y.indptr[row] + rng.integers(0, y.counts[row])].astype(np.int64)
    member = rng.integers(0, 12, rows * words)  # a prototype is a dozen features
    kind = rng.random(rows * words)
    of_label = _hashed(plan, label, member)
    of_cluster = _hashed(plan, plan.num_labels + label % plan.num_clusters, member)
    bound = 2**64 if plan.feature_power else plan.num_features
    anything = _feature(plan, rng.integers(0, bound, rows * words, dtype=np.uint64))
    signal = np.where(kind < plan.noise + (1 - plan.noise) * 0.6, of_label, of_cluster)
    feature = np.where(kind < plan.noise, anything, signal)
    keys, counts = np.unique(row * plan.num_features + feature, return_counts=True)
    row, feature = np.divmod(keys, plan.num_features)
    return CsrBatch(_ends(row, rows), feature.astype(np.int32), counts.astype(np.float32), plan.num_features)


def _hashed(plan: _Plan, owner: Int, member: Int) -> Int:
    """Feature number `member` of the prototype of `owner`: SplitMix64 of both and the seed."""
    x = owner.astype(np.uint64) * np.uint64(16) + member.astype(np.uint64)
    x = (x + np.uint64(plan.seed)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return _feature(plan, x ^ (x >> np.uint64(31)))


def _feature(plan: _Plan, bits: npt.NDArray[np.uint64]) -> Int:
    """The feature that random bits stand for; of a power law by its inverse, with integrals for sums."""
    if not plan.feature_power:
        return (bits % np.uint64(plan.num_features)).astype(np.int64)
    uniform = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return (plan.num_features * uniform ** (1.0 / (1.0 - plan.feature_power))).astype(np.int64)


def _ends(row: npt.NDArray[Any], rows: int) -> Int:
    indptr = np.zeros(rows + 1, np.int64)
    np.cumsum(np.bincount(row, minlength=rows), out=indptr[1:])
    return indptr
