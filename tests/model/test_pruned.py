"""The wide path with few weights: they are trained, kept and scored as they are anywhere else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hashfold.data import Dataset
from hashfold.errors import InputError
from hashfold.kernels.hashed_blocks import Blocks, FitRule, Tasks, fit_reference
from hashfold.kernels.pruned_blocks import SparseWeights, fit_pruned
from hashfold.model import PrunedWide, Wide
from hashfold.sparse import CsrBatch, Ragged, RaggedIds
from hashfold.train import pruning
from hashfold.train.pruning import largest, prune

FEATURES, LABELS = 40, 7
RULE = FitRule(epochs=3, lr=0.4, initial_sum=1.0, bias_rate=0.5, seed=3)


class Unshared(Blocks):
    """A place for each feature."""

    def places_and_signs(self, features, output):
        return features.astype(np.int64), np.ones(len(features), np.int64)


@pytest.fixture(scope="module")
def x() -> CsrBatch:
    rng = np.random.default_rng(0)
    return CsrBatch.from_scipy(
        (rng.random((60, FEATURES)) * (rng.random((60, FEATURES)) < 0.2)).astype(np.float32)
    )


@pytest.fixture(scope="module")
def tasks() -> Tasks:
    rng = np.random.default_rng(1)
    rows = [np.sort(rng.choice(60, 25, replace=False)) for _ in range(LABELS - 1)]
    labels = np.array([0, 1, 2, 4, 5, 6], np.int32)  # label 3 has no pairs
    targets = (rng.random(25 * len(rows)) < 0.4).astype(np.float32)
    indptr = np.arange(len(rows) + 1, dtype=np.int64) * 25
    return Tasks(labels, indptr, np.concatenate(rows).astype(np.int32), targets)


def fitted(x, tasks, bias, **options) -> tuple[SparseWeights, np.ndarray]:
    losses = np.zeros(len(tasks.labels))
    return fit_pruned(x, tasks, RULE, bias, losses, **options), losses


def dense(weights: SparseWeights) -> np.ndarray:
    full = np.zeros((len(weights.indptr) - 1, FEATURES), np.float32)
    full[np.repeat(np.arange(len(full)), np.diff(weights.indptr)), weights.features] = weights.weights
    return full


def reference(x, tasks, bias, start=None, columns=None):
    """The twin of the hashed fit, with a bucket for each feature; x without the columns that are held."""
    blocks = Unshared.of_sizes(np.full(LABELS, FEATURES, np.int32))
    buckets = np.zeros(LABELS * FEATURES, np.float32) if start is None else start.ravel().copy()
    losses = fit_reference(x, tasks, blocks, RULE, bias, buckets, warm=start is not None)
    return buckets.reshape(LABELS, FEATURES)[tasks.labels], losses


def test_a_weight_for_each_feature_is_trained_as_a_bucket_of_its_own(x, tasks) -> None:
    bias, want_bias = np.full(LABELS, -1, np.float32), np.full(LABELS, -1, np.float32)
    found, losses = fitted(x, tasks, bias)
    want, want_losses = reference(x, tasks, want_bias)
    np.testing.assert_allclose(dense(found), want, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(bias, want_bias, rtol=1e-5)
    np.testing.assert_allclose(losses, want_losses, rtol=1e-4)
    assert bias[3] == -1
    assert (found.weights != 0).all()
    assert all(
        (np.diff(found.features[a:b]) > 0).all() for a, b in zip(found.indptr, found.indptr[1:], strict=False)
    )


def test_small_weights_are_left_out_and_the_others_the_same(x, tasks) -> None:
    whole = fitted(x, tasks, np.full(LABELS, -1, np.float32))[0]
    large = fitted(x, tasks, np.full(LABELS, -1, np.float32), least=0.1)[0]
    want = np.where(np.abs(dense(whole)) >= 0.1, dense(whole), 0)
    np.testing.assert_array_equal(dense(large), want)
    assert 0 < len(large.weights) < len(whole.weights)


def test_trained_again_weights_that_are_not_there_stay_away(x, tasks) -> None:
    bias = np.full(LABELS, -1, np.float32)
    start = largest(fitted(x, tasks, bias)[0], 60)
    want_bias = bias.copy()
    found = fitted(x, tasks, bias, start=start)[0]
    np.testing.assert_array_equal(found.features, start.features)
    for task, label in enumerate(tasks.labels):  # the twin, on rows without the features that this label lacks
        mask = np.zeros(FEATURES, bool)
        mask[start.features[start.indptr[task] : start.indptr[task + 1]]] = True
        own = replace(x, values=np.where(mask[x.indices], x.values, 0).astype(np.float32))
        pairs = slice(tasks.indptr[task], tasks.indptr[task + 1])
        one = Tasks(tasks.labels[[task]], np.array([0, 25]), tasks.rows[pairs], tasks.targets[pairs])
        warm = np.zeros((LABELS, FEATURES), np.float32)
        warm[label] = dense(start)[task]
        want, _ = reference(own, one, want_bias, warm)
        np.testing.assert_allclose(dense(found)[task], want[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(bias, want_bias, rtol=1e-5)


def test_the_largest_are_kept() -> None:
    weights = SparseWeights(
        np.array([0, 3, 3, 5]), np.array([1, 4, 9, 2, 3], np.int32), np.array([0.5, -3, 1, -1, 2], np.float32)
    )
    kept = largest(weights, 3)
    np.testing.assert_array_equal(kept.indptr, [0, 2, 2, 3])
    np.testing.assert_array_equal(kept.features, [4, 9, 3])
    np.testing.assert_array_equal(kept.weights, np.array([-3, 1, 2], np.float32))
    assert largest(weights, 5) is weights


@pytest.fixture(scope="module")
def wide() -> PrunedWide:
    rng = np.random.default_rng(2)
    full = rng.normal(size=(LABELS, FEATURES)) * (rng.random((LABELS, FEATURES)) < 0.3)
    full[3] = 0
    indptr = np.concatenate([[0], np.cumsum((full != 0).sum(1))])
    weights = SparseWeights(indptr, np.nonzero(full)[1].astype(np.int32), full[full != 0].astype(np.float32))
    return PrunedWide.of(FEATURES, weights, rng.normal(size=LABELS).astype(np.float32), bits=8)


def pairs_of(x) -> Ragged:
    counts = np.arange(len(x)) % 4
    ids = np.arange(counts.sum()) * 3 % LABELS
    return Ragged(np.concatenate([[0], np.cumsum(counts)]), ids.astype(np.int32))


def test_scores_are_the_sums_of_the_weights_kept(wide, x) -> None:
    pairs = pairs_of(x)
    rows = np.repeat(np.arange(len(x)), pairs.counts)
    whole = x.to_scipy().toarray()
    weights = np.stack([wide_weights(wide, label) for label in range(LABELS)])
    want = (whole @ weights.T)[rows, pairs.ids] + [wide.bias(label) for label in pairs.ids]
    np.testing.assert_allclose(wide.scores(x, pairs), want, rtol=1e-4, atol=1e-5)
    features, amounts = wide.contributions(x, 5, 2)
    np.testing.assert_allclose(amounts, whole[5, features] * weights[2, features], rtol=1e-5)


def wide_weights(wide: PrunedWide, label: int) -> np.ndarray:
    eye = CsrBatch.from_scipy(np.eye(FEATURES, dtype=np.float32))
    return np.array([wide.contributions(eye, f, label)[1][0] for f in range(FEATURES)])


def test_weights_are_near_what_they_were(wide) -> None:
    rng = np.random.default_rng(2)
    full = rng.normal(size=(LABELS, FEATURES)) * (rng.random((LABELS, FEATURES)) < 0.3)
    for label in (0, 3, 6):
        want = 0 * full[label] if label == 3 else full[label]
        np.testing.assert_allclose(wide_weights(wide, label), want, atol=0.05)


def test_it_comes_back_bit_for_bit_and_grows(wide, x) -> None:
    settings = {key: value for key, value in wide.config().items() if key != "kind"}
    again = PrunedWide(**settings)
    again.load_state(wide.state())
    pairs = pairs_of(x)
    np.testing.assert_array_equal(again.scores(x, pairs), wide.scores(x, pairs))
    again.grow(LABELS + 2)
    np.testing.assert_array_equal(again.scores(x, pairs), wide.scores(x, pairs))
    new = Ragged(np.arange(len(x) + 1), np.full(len(x), LABELS + 1, np.int32))
    np.testing.assert_array_equal(again.scores(x, new), np.full(len(x), -1, np.float32))
    assert again.contributions(x, 0, LABELS + 1)[1].max() == 0
    other = PrunedWide(**{**settings, "num_labels": LABELS + 2})
    other.load_state(again.state())
    np.testing.assert_array_equal(other.scores(x, pairs), wide.scores(x, pairs))


def test_bad_input_is_refused(wide, x) -> None:
    state = wide.state()
    fresh = PrunedWide(FEATURES, LABELS, bits=8)
    for name, bad in (
        ("lists", state["lists"][:-1]),
        ("scales", np.full(LABELS, np.nan, np.float32)),
        ("bias", np.full(LABELS, np.inf, np.float32)),
        ("levels", state["levels"][:3]),
    ):
        with pytest.raises(InputError, match=name):
            fresh.load_state({**state, name: bad})
    with pytest.raises(InputError, match="columns"):
        wide.scores(
            CsrBatch.from_scipy(np.ones((1, 3), np.float32)), Ragged(np.array([0, 0]), np.zeros(0, np.int32))
        )
    with pytest.raises(InputError, match="labels of pairs"):
        wide.scores(x.take([0]), Ragged(np.array([0, 1]), np.array([LABELS], np.int32)))
    bad = SparseWeights(np.array([0, 1]), np.zeros(1, np.int32), np.array([np.nan], np.float32))
    with pytest.raises(InputError, match="finite"):
        PrunedWide.of(FEATURES, bad, np.zeros(1, np.float32))


def test_few_weights_tell_labels_apart_and_a_sample_finds_the_same(monkeypatch) -> None:
    rng = np.random.default_rng(5)
    truth = rng.integers(0, LABELS, 400).astype(np.int32)
    noise = rng.random((400, FEATURES)) * (rng.random((400, FEATURES)) < 0.1)
    noise[np.arange(400), truth] += 1
    x = CsrBatch.from_scipy(noise.astype(np.float32))
    rows = Dataset(x, RaggedIds(np.arange(401), truth, LABELS))
    others = (truth[:, None] + np.arange(LABELS)) % LABELS
    pairs = Ragged(np.arange(401) * LABELS, others.ravel().astype(np.int32))
    targets = (np.arange(400 * LABELS) % LABELS == 0).astype(np.float32)
    rule = Wide(FEATURES, LABELS, budget_buckets=1000, epochs=4, lr=0.4).rule
    wide = prune(rows, pairs, targets, 3 * LABELS, rule)
    assert (wide.scores(x, pairs).reshape(400, LABELS).argmax(1) == 0).mean() > 0.95
    kept = sum(np.count_nonzero(wide_weights(wide, label)) for label in range(LABELS))
    assert LABELS < kept <= 3 * LABELS
    monkeypatch.setattr(pruning, "SAMPLE", 2)
    monkeypatch.setattr(pruning, "FEWEST_SAMPLED", 3)
    sampled = prune(rows, pairs, targets, 3 * LABELS, rule)
    np.testing.assert_array_equal(sampled.scores(x, pairs), wide.scores(x, pairs))
