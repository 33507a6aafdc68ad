"""Indexes over rows that are made when asked for find what they find over an array of them."""

from __future__ import annotations

import numpy as np
import pytest

from hashfold.errors import InputError
from hashfold.index import INDEXES, VirtualRows, make_index, virtual
from hashfold.index.virtual import EightBitRows

N, DIM, ROWS = 700, 24, 30


class Made(VirtualRows):
    """Rows of an array, counting how many there were at once."""

    def __init__(self, array: np.ndarray) -> None:
        super().__init__(*array.shape)
        self.array, self.most = array, 0

    def make(self, ids: np.ndarray) -> np.ndarray:
        self.most = max(self.most, len(ids))
        return np.ascontiguousarray(self.array[ids])


def rows_of(count: int, dim: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


CASES = {name: (name, {}) for name, index in INDEXES.items() if index.takes_virtual} | {
    "lsh, reranked": ("lsh", {"num_tables": 4, "hashes_per_table": 4, "rerank": True, "lift": "norm"}),
    "clustered, few probes": ("clustered", {"num_clusters": 20, "probes": 5}),
    "clustered, unscored": ("clustered", {"num_clusters": 20, "scored": False, "lift": "bias"}),
}
each = pytest.mark.parametrize(("name", "options"), CASES.values(), ids=CASES)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(virtual, "BLOCK_BYTES", 150 * 4 * DIM)
    monkeypatch.setattr("hashfold.index.topk.MOST_PAIRS", 2000)


@each
@pytest.mark.parametrize("with_bias", [False, True], ids=["", "bias"])
def test_finds_what_an_array_of_the_rows_finds(name, options, with_bias, small_blocks) -> None:
    array, bias = rows_of(N, DIM, 0), rows_of(N, 1, 1)[:, 0] if with_bias else None
    made = Made(array)
    indexes = [make_index(name, N, DIM, **options) for _ in range(2)]
    for index, vectors in zip(indexes, (array, made), strict=True):
        index.build(vectors, bias)
    x = rows_of(ROWS, DIM, 2)
    for budget in (1, 17, N):
        assert_alike(*(index.query(x, budget) for index in indexes))
    if name in ("exact", "lsh"):
        assert made.most <= 150
    moved = np.arange(0, N, 5, dtype=np.int32)
    array[moved] = rows_of(len(moved), DIM, 3)
    for index in indexes:
        index.update(moved, array[moved], None if bias is None else bias[moved])
    assert_alike(*(index.query(x, 17) for index in indexes))
    again = make_index(**indexes[1].config())
    again.load_state(indexes[1].state(), made, bias)
    assert_alike(again.query(x, 17), indexes[1].query(x, 17))


def assert_alike(ours, theirs) -> None:
    np.testing.assert_array_equal(ours.indptr, theirs.indptr)
    np.testing.assert_allclose(ours.scores, theirs.scores, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(ours.found, theirs.found)
    np.testing.assert_array_equal(ours.ids, theirs.ids)


def test_ties_between_blocks_go_to_the_smaller_id(small_blocks) -> None:
    array = np.ones((N, DIM), np.float32)
    index = make_index("exact", N, DIM)
    index.build(Made(array))
    assert index.query(array[:2], 5).ids.tolist() == [0, 1, 2, 3, 4] * 2


def test_no_queries(small_blocks) -> None:
    for name, options in CASES.values():
        index = make_index(name, N, DIM, **options)
        index.build(Made(rows_of(N, DIM, 0)))
        assert len(index.query(np.zeros((0, DIM), np.float32), 3)) == 0


def test_bad_rows_are_refused(small_blocks) -> None:
    array = rows_of(N, DIM, 0)
    index = make_index("exact", N, DIM)
    with pytest.raises(InputError, match=r"vectors must have shape \(700, 24\); got \(699, 24\)"):
        index.build(Made(array[1:]))
    array[-1, -1] = np.nan
    with pytest.raises(InputError, match="vectors must be finite"):
        index.build(Made(array))
    with pytest.raises(InputError, match="precision int8 keeps a copy of every row; got virtual rows"):
        make_index("exact", N, DIM, precision="int8").build(Made(rows_of(N, DIM, 0)))
    with pytest.raises(InputError, match="a tree keeps a copy of every row; got virtual rows"):
        make_index("tree", N, DIM).build(Made(rows_of(N, DIM, 0)))


@pytest.mark.parametrize("name", ["exact", "clustered"])
def test_rows_scanned_in_8_bits_score_as_a_copy_in_8_bits(name, small_blocks) -> None:
    array, x = rows_of(N, DIM, 0), rows_of(ROWS, DIM, 2)
    copied, made = make_index(name, N, DIM, precision="int8"), make_index(name, N, DIM)
    copied.build(array)
    made.build(EightBitRows(Made(array)))
    assert_alike(copied.query(x, 17), made.query(x, 17))
