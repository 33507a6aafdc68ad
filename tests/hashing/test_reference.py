"""The native hashes are those of the NumPy twin, bit for bit, at every instruction set and odd shape."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from hashfold.hashing import FAMILIES, make_family, reference
from hashfold.kernels import native
from hashfold.kernels.native import core
from hashfold.sparse import CsrBatch

SMALLEST_DIM = {"dwta": 2}


@st.composite
def cases(draw):
    name = draw(st.sampled_from(sorted(FAMILIES)))
    dim = draw(st.integers(SMALLEST_DIM.get(name, 1), 70))
    tables, per_table = draw(st.integers(1, 13)), draw(st.integers(1, 9))
    family = make_family(name, dim, tables, per_table, seed=draw(st.integers(0, 2**63 - 1)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = rng.standard_normal((draw(st.integers(0, 70)), dim), dtype=np.float32)
    x *= np.float32(10.0) ** draw(st.integers(-30, 30))
    x[rng.random(x.shape) < draw(st.sampled_from([0.0, 0.5, 0.97]))] = 0
    return family, np.abs(x) if family.refuse_negative else x


@settings(max_examples=60, deadline=None)
@given(cases())
def test_native_equals_reference(case):
    family, x = case
    codes, buckets = reference.codes(family, x), reference.buckets(family, x)
    assert buckets.shape == (len(x), family.num_tables)
    assert buckets.size == 0 or (buckets.min() >= 0 and buckets.max() < family.num_buckets)
    for level in native.isa_levels():
        with native.isa_forced(level):
            for rows in (x, CsrBatch.from_scipy(x)):
                assert np.array_equal(family.codes(rows), codes), level
                assert np.array_equal(family.buckets(rows), buckets), level


def test_gaussian_projection_is_the_twin_and_normal():
    out = np.empty((300, 100), np.float32)
    core.gaussian_projection(17, out)
    assert np.array_equal(out, reference.gaussian_projection(17, 300, 100))
    # 30,000 draws: 5 standard errors of mean, variance and kurtosis
    assert abs(out.mean()) < 5 / 173
    assert abs(out.var() - 1) < 5 * 2**0.5 / 173
    assert abs((out.astype(np.float64) ** 4).mean() - 3) < 5 * 96**0.5 / 173


def test_normal_quantile_and_log():
    u = np.concatenate([2.0 ** -np.arange(2, 53), np.linspace(0.001, 0.999, 999), 1 - 2.0 ** -np.arange(2, 50)])
    # AS 241's PPND7 promises 1e-7 of the value
    assert np.allclose(reference.normal_quantile(u), norm.ppf(u), rtol=2e-7, atol=1e-9)
    x = np.concatenate([10.0 ** np.arange(-300, 300), np.linspace(0.5, 2, 1001)])
    assert np.allclose(reference.log(x), np.log(x), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_rows_of_extreme_values_agree_too(name):
    family = make_family(name, 16, 5, 4, seed=1)
    x = np.zeros((4, 16), np.float32)
    x[0] = np.finfo(np.float32).max  # sums overflow
    x[1] = np.finfo(np.float32).smallest_subnormal
    x[2] = -0.0  # no nonzeros
    with np.errstate(over="ignore", invalid="ignore"):
        expected = reference.codes(family, x)
    for level in native.isa_levels():
        with native.isa_forced(level):
            assert np.array_equal(family.codes(x), expected), level
            assert np.array_equal(family.codes(CsrBatch.from_scipy(x)), expected), level
    assert np.array_equal(expected[2], expected[3])
