"""The mixture of scores and its loss: the native kernels against their twins at every instruction set."""

from __future__ import annotations

import numpy as np
import pytest

from hashfold.kernels import mixture, native
from hashfold.kernels.mixture import Lists, Weights

# features, hidden units, rows: none of a kind, one, an odd number, more rows than are added up together
SHAPES = [(1, 0, 3), (3, 5, 1), (4, 8, 33), (7, 24, 100), (70, 3, 9)]
levels = pytest.mark.parametrize("level", native.isa_levels())
shapes = pytest.mark.parametrize("shape", SHAPES)


def weights(features: int, units: int, seed: int = 0) -> Weights:
    rng = np.random.default_rng(seed)
    sizes = ((features,), (units, features + 1), (units,))
    return Weights(*[rng.normal(size=size).astype(np.float32) / np.float32(features**0.5) for size in sizes])


def lists(features: int, rows: int, seed: int = 0) -> Lists:
    """Rows of one to 60 candidates; the first of each is true, others now and then; they count .5 to 2."""
    rng = np.random.default_rng(seed)
    indptr = np.concatenate([[0], np.cumsum(rng.integers(1, 60, rows))])
    z = rng.normal(size=(indptr[-1], features)).astype(np.float32)
    true = rng.random(len(z)) < 0.1
    true[indptr[:-1]] = True
    share = np.where(true, rng.uniform(0.5, 2, len(z)), 0)
    return Lists.of(z, indptr, share, rng.uniform(1, 5, len(z)).astype(np.float32))


@levels
@shapes
def test_scores_equal_their_twin(shape, level):
    features, units, rows = shape
    z, w = np.random.default_rng(1).normal(size=(17 * rows, features)).astype(np.float32), weights(features, units)
    with native.isa_forced(level):
        np.testing.assert_allclose(
            mixture.scores(z, w, 0.5), mixture.scores_reference(z, w, 0.5), atol=3e-6, rtol=2e-6
        )


@levels
@shapes
def test_the_loss_and_its_gradient_equal_their_twin(shape, level):
    features, units, rows = shape
    data, w = lists(features, rows), weights(features, units)
    with native.isa_forced(level):
        loss, gradient = data.loss(w)
    expected, slopes = mixture.loss_reference(data, w)
    assert loss == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(gradient, slopes, atol=3e-6 * np.abs(slopes).max())


def test_the_twin_has_the_gradient_of_its_loss():
    data, w = lists(3, 20), weights(3, 2)
    flat = np.concatenate([part.ravel() for part in w]).astype(np.float64)

    def loss(at: np.ndarray) -> float:
        linear, hidden, out = np.split(at, [3, 3 + 8])
        return mixture.loss_reference(data, Weights(linear, hidden.reshape(2, 4), out))[0]

    steps = 1e-5 * np.eye(len(flat))
    numeric = [(loss(flat + step) - loss(flat - step)) / 2e-5 for step in steps]
    np.testing.assert_allclose(mixture.loss_reference(data, w)[1], numeric, atol=1e-8)


def test_equal_scores_cost_the_logarithm_of_what_all_stand_for():
    data = lists(2, 40)
    nothing = Weights(np.zeros(2, np.float32), np.zeros((0, 3), np.float32), np.zeros(0, np.float32))
    sums = np.add.reduceat(data.stands_for, data.indptr[:-1])
    assert data.loss(nothing)[0] == pytest.approx(float(np.log(sums).mean()), rel=1e-6)


def test_far_scores_neither_overflow_nor_vanish():
    data, (linear, hidden, out) = lists(3, 40), weights(3, 8)
    w = Weights(linear * np.float32(1e4), hidden * np.float32(1e4), out)
    loss, gradient = data.loss(w)
    assert np.isfinite(gradient).all()
    assert loss == pytest.approx(mixture.loss_reference(data, w)[0], rel=1e-4)


def test_the_same_bits_at_any_number_of_threads_and_wherever_a_candidate_stands():
    data, w = lists(5, 300), weights(5, 8)
    z, before = np.random.default_rng(1).normal(size=(5000, 5)).astype(np.float32), native.num_threads()
    try:
        found = []
        for threads in (1, 3):
            native.set_num_threads(threads)
            found.append((data.loss(w), mixture.scores(z, w)))
    finally:
        native.set_num_threads(before)
    (one, scores), (three, again) = found
    assert one[0] == three[0]
    np.testing.assert_array_equal(one[1], three[1])
    np.testing.assert_array_equal(scores, again)
    np.testing.assert_array_equal(mixture.scores(z[3:], w), scores[3:])
