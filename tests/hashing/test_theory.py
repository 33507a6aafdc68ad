"""Measured collision rates are those of theory, from both sides.

Families are drawn from many seeds; one pair's rate of agreement is a mean over independent seeds, so it
lies within 5 standard errors of its expectation with confidence 1 - 6e-7 (and the seeds are fixed).
"""

from math import comb

import numpy as np
import pytest

from hashfold.errors import InputError
from hashfold.hashing import FAMILIES, make_family, theory
from hashfold.sparse import CsrBatch

SEEDS, TABLES, PER_TABLE = 600, 4, 4
STANDARD_ERRORS = 5


def pair(kind, similarity, dim=240, seed=0):
    """Two rows, nonnegative and tie-free, that share about `similarity` of what they are made of."""
    rng = np.random.default_rng([seed, int(100 * similarity)])
    x, noise = rng.exponential(size=(2, dim)).astype(np.float32)
    y = np.where(rng.random(dim) < similarity, x, noise)
    if kind == "sparse":
        kept = rng.random((3, dim)) < 0.25
        y *= np.where(rng.random(dim) < similarity, kept[0], kept[1])
        x *= kept[0]
    return np.stack([x, y]).astype(np.float32)


def agreements(name, rows, seeds=SEEDS, **options):
    """(seeds, hashes): where the codes of the two rows agree."""
    families = (make_family(name, rows.shape[1], TABLES, PER_TABLE, seed=s, **options) for s in range(seeds))
    codes = [family.codes(CsrBatch.from_scipy(rows)) for family in families]
    return np.stack([c[0] == c[1] for c in codes])


def check_rate(agreed, expected):
    per_seed = agreed.mean(axis=1)
    error = max(per_seed.std(ddof=1), 1 / agreed.shape[1]) / np.sqrt(len(per_seed))
    assert abs(per_seed.mean() - expected) < STANDARD_ERRORS * error, (per_seed.mean(), expected, error)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("similarity", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_measured_rate_is_the_theory_s(name, similarity, kind):
    rows = pair(kind, similarity)
    expected = make_family(name, 240, TABLES, PER_TABLE).collision_probability(*rows)
    assert 0 < expected < 1 or (name, kind) == ("doph", "dense")  # which sees only the zeros
    check_rate(agreements(name, rows), expected)


@pytest.mark.parametrize("name", ["simhash", "sparse_simhash", "dwta"])
def test_signed_rows_too(name):
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((2, 200), dtype=np.float32)
    rows[1] += 0.7 * rows[0]
    check_rate(agreements(name, rows), theory.collision_probability(name, *rows))


@pytest.mark.parametrize("bin_size", [2, 16])
def test_dwta_of_other_bin_sizes(bin_size):
    rows = pair("dense", 0.7)
    expected = theory.collision_probability("dwta", *rows, bin_size=bin_size)
    check_rate(agreements("dwta", rows, bin_size=bin_size), expected)


@pytest.mark.parametrize("name", ["dwta", "doph"])
def test_rates_hold_where_most_bins_are_empty(name):
    rows = np.zeros((2, 2000), np.float32)
    rng = np.random.default_rng(6)
    rows[:, :9] = rng.permutation(np.arange(1.0, 10))
    rows[0, 9:12] = 20.5
    expected = theory.collision_probability(name, *rows)
    check_rate(agreements(name, rows), expected)


def test_dwta_theory_is_the_enumeration_over_all_bins():
    from itertools import combinations

    rng = np.random.default_rng(8)
    for zeros in (0.0, 0.4):
        x, y = rng.integers(1, 6, (2, 9)) * (rng.random((2, 9)) >= zeros)  # with ties
        same, one_empty = 0, 0
        for members in combinations(range(9), 4):
            winners = [max((v[f], -f) for f in members) for v in (x, y)]
            empty = [w[0] == 0 for w in winners]
            same += not any(empty) and winners[0][1] == winners[1][1]
            one_empty += empty[0] != empty[1]
            both = comb(int(((x == 0) & (y == 0)).sum()), 4)
        expected = (same + one_empty / 4) / (comb(9, 4) - both)
        assert theory.collision_probability("dwta", x, y, bin_size=4) == pytest.approx(expected)


def test_closed_forms():
    x, y = np.array([1.0, 0, 2]), np.array([1.0, 3, 1])
    assert theory.collision_probability("minhash", x, y) == pytest.approx(2 / 6)
    assert theory.collision_probability("doph", x, y) == pytest.approx(2 / 3)
    assert theory.collision_probability("simhash", [1, 0], [1, 1]) == pytest.approx(0.75)
    assert theory.collision_probability("simhash", x, -x) == pytest.approx(0)
    for name in FAMILIES:
        assert theory.collision_probability(name, x, x) == pytest.approx(1)
        assert theory.collision_probability(name, 0 * x, 0 * x) == 1


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_row_of_zeros_meets_others_as_theory_says(name):
    rows = pair("dense", 0.5)
    rows[1] = 0
    check_rate(agreements(name, rows), theory.collision_probability(name, *rows))


def test_retrieval_probability_is_measured_too():
    """Of the rows' tables, each with K hashes of its own, at least one agrees: a binomial rate."""
    rows, seeds = pair("dense", 0.5), 2000
    p = theory.collision_probability("simhash", *rows)
    expected = theory.retrieval_probability(p, PER_TABLE, TABLES)
    families = (make_family("simhash", 240, TABLES, PER_TABLE, seed=s) for s in range(seeds))
    found = np.mean([(b[0] == b[1]).any() for b in (f.buckets(rows) for f in families)])
    assert abs(found - expected) < STANDARD_ERRORS * np.sqrt(expected * (1 - expected) / seeds)
    assert theory.retrieval_probability(1.0, 3, 2) == 1
    assert theory.retrieval_probability(0.0, 3, 2) == 0
    assert theory.retrieval_probability(0.5, 2, 2) == pytest.approx(1 - 0.75**2)


def test_bad_input():
    with pytest.raises(InputError, match="name must be one of"):
        theory.collision_probability("nothing", [1], [1])
    with pytest.raises(InputError, match="y must have shape"):
        theory.collision_probability("simhash", [1, 2], [1])
    with pytest.raises(InputError, match="not negative"):
        theory.collision_probability("minhash", [1, -2], [1, 1])
    with pytest.raises(InputError, match="finite"):
        theory.collision_probability("simhash", [1, np.nan], [1, 1])
