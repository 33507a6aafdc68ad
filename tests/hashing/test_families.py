"""What single families promise beyond the contract, and their options."""

import numpy as np
import pytest
from scipy.stats import chisquare

from hashfold.errors import InputError
from hashfold.hashing import FAMILIES, make_family
from hashfold.sparse import CsrBatch

RNG = np.random.default_rng


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_bucket_is_reached_and_about_as_often(name):
    options = {"bucket_bits": 9} if name in ("minhash", "doph") else {}
    per_table = 3 if name == "dwta" else 9
    family = make_family(name, 64, 1, per_table, seed=3, **options)
    assert family.num_buckets == 512
    x = RNG(1).standard_normal((40_000, 64), dtype=np.float32)
    if name in ("minhash", "doph"):
        x = np.where(RNG(2).random(x.shape) < 0.1, np.abs(x), 0)
    counts = np.bincount(family.buckets(x)[:, 0], minlength=512)
    assert len(counts) == 512
    assert counts.min() > 0


def test_dwta_codes_use_all_their_bits():
    """Eight places are three bits (not two, as some implementations have it)."""
    family = make_family("dwta", 64, 5, 4, bin_size=8)
    assert family.num_buckets == 8**4
    codes = family.codes(RNG(0).standard_normal((20_000, 64), dtype=np.float32))
    for column in codes.T:
        assert chisquare(np.bincount(column, minlength=8)).pvalue > 1e-6
    joined = (codes.reshape(-1, 5, 4) << (3 * np.arange(4))).sum(axis=2)
    x = RNG(0).standard_normal((20_000, 64), dtype=np.float32)
    assert np.array_equal(family.buckets(x), joined)


@pytest.mark.parametrize("name", ["simhash", "sparse_simhash", "dwta"])
def test_scaling_changes_nothing(name):
    family = make_family(name, 50, 20, 5, seed=2)
    x = RNG(3).standard_normal((100, 50), dtype=np.float32)
    # powers of two scale without rounding
    assert np.array_equal(family.codes(x), family.codes(x * np.float32(2.0**20)))


def test_dwta_sees_only_the_order_of_values():
    family = make_family("dwta", 50, 20, 2, seed=2)
    x = RNG(3).standard_normal((100, 50), dtype=np.float32)
    x[:, ::4] = 0
    assert np.array_equal(family.codes(x), family.codes(np.arctan(x)))


def test_doph_sees_only_which_values_are_nonzero():
    family = make_family("doph", 50, 20, 2, seed=2)
    x = RNG(3).standard_normal((100, 50), dtype=np.float32) * (RNG(4).random((100, 50)) < 0.3)
    assert np.array_equal(family.codes(x.astype(np.float32)), family.codes((x != 0).astype(np.float32)))


def test_simhash_of_the_opposite_is_the_complement():
    family = make_family("simhash", 50, 20, 5)
    x = RNG(3).standard_normal((100, 50), dtype=np.float32)
    assert np.array_equal(family.codes(-x), 1 - family.codes(x))


def test_simhash_with_more_tables_keeps_the_first():
    few, many = make_family("simhash", 50, 3, 5, seed=9), make_family("simhash", 50, 7, 5, seed=9)
    x = RNG(3).standard_normal((100, 50), dtype=np.float32)
    assert np.array_equal(few.buckets(x), many.buckets(x)[:, :3])


@pytest.mark.parametrize("fraction", [0.05, 1 / 3, 1.0])
def test_sparse_simhash_has_the_fraction_asked_for(fraction):
    projection = make_family("sparse_simhash", 500, 50, 4, nonzero_fraction=fraction).projection
    entries = 500 * 200
    assert abs(projection.nnz - fraction * entries) <= 5 * np.sqrt(entries * fraction * (1 - fraction))
    assert abs(projection.data.sum()) < 5 * np.sqrt(projection.nnz)
    assert set(np.unique(projection.data)) == {-1.0, 1.0}


def test_sparse_simhash_blocks_do_not_show():
    """A projection of more rows than are drawn at once starts like a smaller one."""
    few, many = make_family("sparse_simhash", 40, 50, 20), make_family("sparse_simhash", 3000, 50, 20)
    assert (few.projection != many.projection[:40]).nnz == 0


def test_rows_that_no_bin_covers_still_get_codes_of_their_own():
    """16 bins of 8 hold 128 of 5,000 features; the others are lent."""
    family = make_family("dwta", 5000, 4, 4)
    x = CsrBatch.from_scipy(np.eye(5000, dtype=np.float32)[:300])
    assert (family.codes(x).max(axis=1) > 0).mean() > 0.8  # 1 in 8 has place 0


def test_minhash_of_two_features_draws_them_by_weight():
    family = make_family("minhash", 2, 500, 20)
    codes = family.codes(np.array([[3, 1], [3, 0]], np.float32))
    # J = 3 / 4; 10,000 independent hashes, 5 standard errors
    assert abs((codes[0] == codes[1]).mean() - 0.75) < 5 * np.sqrt(0.75 * 0.25 / 10_000)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("simhash", {"hashes_per_table": 31}, "at most 30 bits; got 31"),
        ("dwta", {"hashes_per_table": 11}, "at most 30 bits; got 33"),
        ("dwta", {"bin_size": 6}, "power of two; got 6"),
        ("dwta", {"bin_size": 64}, r"bin_size must be an integer in \[2, 32\]; got 64"),
        ("dwta", {"dim": 1}, "dim must be at least 2"),
        ("sparse_simhash", {"nonzero_fraction": 0}, "nonzero_fraction must be"),
        ("sparse_simhash", {"nonzero_fraction": 1.5}, "nonzero_fraction must be"),
        ("minhash", {"bucket_bits": 31}, "bucket_bits must be"),
        ("doph", {"bucket_bits": 0}, "bucket_bits must be"),
        ("simhash", {"bin_size": 8}, "there are no options; got 'bin_size'"),
        ("simhash", {"dim": 0}, "dim must be"),
        ("simhash", {"seed": -1}, "seed must be"),
        ("simhash", {"num_tables": 0}, "num_tables must be"),
        ("nohash", {}, "name must be one of doph, dwta, minhash"),
    ],
)
def test_bad_options_are_refused_in_one_line(name, options, message):
    with pytest.raises(InputError, match=message) as error:
        make_family(name, **({"dim": 32, "num_tables": 2, "hashes_per_table": 2} | options))
    assert "\n" not in str(error.value)


def test_minhash_refuses_negative_values():
    family = make_family("minhash", 3, 2, 2)
    with pytest.raises(InputError, match=r"finite and not negative; got -1.0 at position 4"):
        family.codes(np.array([[1, 0, 2], [0, -1, 2]], np.float32))


def test_sparse_rows_of_another_width_or_with_bad_features_are_refused():
    family = make_family("simhash", 3, 2, 2)
    with pytest.raises(InputError, match="x must have 3 columns; got 4"):
        family.codes(CsrBatch.from_scipy(np.ones((2, 4), np.float32)))
    bad = CsrBatch(np.array([0, 1]), np.array([3], np.int32), np.ones(1, np.float32), 3)
    with pytest.raises(InputError, match=r"features of x must lie in \[0, 3\)"):
        family.codes(bad)
    with pytest.raises(InputError, match="x must be an array of float32"):
        family.codes([["a", "b", "c"]])
