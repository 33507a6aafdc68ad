"""The synthetic generator: valid, seeded, learnable, long-tailed."""

from __future__ import annotations

import numpy as np
import pytest

from hashfold.data import label_counts, statistics, synthetic
from hashfold.errors import InputError
from hashfold.metrics import evaluate


def test_valid_and_of_the_size_asked_for():
    train, test = synthetic(500, 300, 200, test_rows=70, labels_per_row=2.5, features_per_row=20, seed=5)
    for data, rows in (train, 500), (test, 70):
        assert (len(data), data.num_features, data.num_labels) == (rows, 300, 200)
        data.x.validate()
        data.y.validate()
        assert (data.x.values > 0).all()
        assert data.y.counts.min() >= 1
        np.testing.assert_allclose(np.add.reduceat(data.x.values**2, data.x.indptr[:-1]), 1, rtol=1e-5)
    assert 2.0 < statistics(train).labels_per_row < 2.6


def test_seeded():
    a, b, c = (synthetic(50, 100, 30, seed=s)[0] for s in (1, 1, 2))
    assert np.array_equal(a.x.indices, b.x.indices)
    assert np.array_equal(a.x.values, b.x.values)
    assert not np.array_equal(a.y.ids, c.y.ids)


def test_label_counts_follow_the_power_law():
    counts = np.sort(
        label_counts(synthetic(20_000, 100, 1000, labels_per_row=1, features_per_row=1, seed=0)[0].y)
    )[::-1]
    expected = 20_000 / np.arange(1, 1001) / (1 / np.arange(1, 1001)).sum()
    np.testing.assert_allclose(counts[:20], expected[:20], rtol=0.2)
    flat = label_counts(synthetic(20_000, 100, 10, labels_per_row=1, features_per_row=1, power=0.0)[0].y)
    np.testing.assert_allclose(flat, 2000, rtol=0.15)


def test_words_follow_the_power_law():
    """With probability ~ rank^-1/2 of 10,000 features the first 100 hold a tenth: (100 / 10,000)^(1/2)."""
    options = {"labels_per_row": 1, "features_per_row": 1, "noise": 1.0, "test_rows": 0}
    skewed = synthetic(20_000, 10_000, 10, feature_power=0.5, **options)[0].x.indices
    assert 0.09 < (skewed < 100).mean() < 0.11
    assert 0.27 < (skewed >= 5000).mean() < 0.32  # 1 - (1/2)^(1/2)
    prototypes = synthetic(20_000, 10_000, 5000, power=0.0, feature_power=0.5, **{**options, "noise": 0.0})[0].x
    assert 0.08 < (prototypes.indices < 100).mean() < 0.12
    even = synthetic(20_000, 10_000, 10, **options)[0].x.indices
    assert 0.007 < (even < 100).mean() < 0.013


def test_labels_of_a_row_are_mostly_of_one_cluster():
    train, _ = synthetic(2000, 100, 400, labels_per_row=3, features_per_row=1, num_clusters=20, power=0.0)
    same = [len(set(labels % 20)) == 1 for labels in map(train.y.__getitem__, range(2000)) if len(labels) == 2]
    assert 0.75 < np.mean(same) < 0.9  # .8 drawn from the cluster, and 1 in 20 of the rest


def nearest_neighbour_precision(noise: float) -> float:
    train, test = synthetic(2000, 2000, 100, test_rows=200, labels_per_row=1, noise=noise, seed=3)
    similarity = test.x.to_scipy() @ train.x.to_scipy().T
    best = np.asarray(similarity.toarray().argmax(1))
    return evaluate(train.y.ids[train.y.indptr[best]][:, None], test.y, ks=(1,))["P@1"]


def test_labels_can_be_learned_and_noise_hides_them():
    assert nearest_neighbour_precision(0.2) > 0.9
    assert nearest_neighbour_precision(1.0) < 0.2


def test_one_of_everything_and_none_to_test():
    train, test = synthetic(1, 1, 1, test_rows=0, labels_per_row=1, features_per_row=1)
    assert (len(train), len(test)) == (1, 0)


def test_refusals():
    with pytest.raises(InputError, match="synthetic: labels_per_row must be a finite number in"):
        synthetic(10, 10, 5, labels_per_row=6.0)
    with pytest.raises(InputError, match="num_rows must be an integer, at least 1; got 0"):
        synthetic(0)
