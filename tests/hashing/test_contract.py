"""What every registered hash family promises."""

import numpy as np
import pytest

from hashfold.errors import InputError
from hashfold.hashing import FAMILIES, make_family
from hashfold.kernels import native
from hashfold.sparse import CsrBatch


def rows_of(rng, rows, dim, zeros=0.5):
    x = rng.random((rows, dim), dtype=np.float32) + 0.01
    x[rng.random(x.shape) < zeros] = 0
    return x


@pytest.fixture(params=sorted(FAMILIES))
def family(request):
    return make_family(request.param, dim=40, num_tables=11, hashes_per_table=3, seed=5)


@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.95])
def test_sparse_rows_get_the_codes_of_dense_rows(family, zeros):
    x = rows_of(np.random.default_rng(1), 83, 40, zeros)
    x[7] = 0
    sparse = CsrBatch.from_scipy(x)
    assert np.array_equal(family.codes(x), family.codes(sparse))
    assert np.array_equal(family.buckets(x), family.buckets(sparse))


def test_config_rebuilds_the_family_and_seeds_differ(family):
    x = rows_of(np.random.default_rng(2), 50, 40)
    config = family.config()
    assert np.array_equal(make_family(**config).buckets(x), family.buckets(x))
    other = make_family(**(config | {"seed": 6}))
    assert (other.buckets(x) != family.buckets(x)).mean() > 0.2


def test_threads_do_not_change_codes(family):
    x = rows_of(np.random.default_rng(3), 300, 40)
    before, codes = native.num_threads(), []
    for threads in (1, 2):
        native.set_num_threads(threads)
        codes.append(family.codes(x))
    native.set_num_threads(before)
    assert np.array_equal(*codes)


@pytest.mark.parametrize(
    "bad", [np.zeros((2, 39)), np.zeros(40), np.full((1, 40), np.nan), np.full((1, 40), np.inf)]
)
def test_bad_rows_are_refused_in_one_line(family, bad):
    with pytest.raises(InputError) as error:
        family.codes(bad.astype(np.float32))
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(family.name)
