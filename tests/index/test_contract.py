"""What every registered index promises; a new one is covered by being registered."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hashfold.errors import InputError
from hashfold.index import INDEXES, NeuronIndex, make_index, select_rows, select_shared
from hashfold.kernels import native
from hashfold.sparse import CsrBatch

N, DIM, ROWS = 700, 24, 40


def rows_of(count: int, dim: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


@pytest.fixture(params=[*sorted(INDEXES), "clustered:int8", "exact:int8"])
def name(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["", "bias"])
def bias(request):
    return rows_of(N, 1, 3)[:, 0] if request.param else None


def made(name: str, num_items: int, dim: int, **options) -> NeuronIndex:
    """`name` or `name:precision`."""
    name, _, precision = name.partition(":")
    return make_index(name, num_items, dim, **options, **({"precision": precision} if precision else {}))


def built(name: str, vectors, bias=None, **options) -> NeuronIndex:
    index = made(name, *vectors.shape, **options)
    index.build(vectors, bias)
    return index


def assert_same(a, b):
    np.testing.assert_array_equal(a.indptr, b.indptr)
    np.testing.assert_array_equal(a.ids, b.ids)
    np.testing.assert_array_equal(a.scores, b.scores)
    np.testing.assert_array_equal(a.found, b.found)


@pytest.mark.parametrize("budget", [1, 10, 10**9])
def test_candidates_keep_their_promises(name, bias, budget):
    index = built(name, rows_of(N, DIM, 0), bias)
    x = rows_of(ROWS, DIM, 1)
    found = index.query(x, budget)
    assert (found.indptr.dtype, found.ids.dtype, found.scores.dtype) == (np.int64, np.int32, np.float32)
    assert len(found) == ROWS
    assert found.num_items == N
    assert (found.counts <= budget).all()
    assert (found.counts <= found.found).all()
    assert (found.found <= N).all()
    assert found.truncated == found.found.sum() - len(found.ids)
    assert len(found.ids) > 0
    for i in range(ROWS):
        scores = found.scores[found.indptr[i] : found.indptr[i + 1]]
        assert (np.diff(scores) <= 0).all()
        assert len(np.unique(found[i])) == len(found[i])
        assert ((found[i] >= 0) & (found[i] < N)).all()


def test_a_smaller_budget_gives_the_head_of_a_larger_one(name, bias):
    index = built(name, rows_of(N, DIM, 0), bias)
    x = rows_of(ROWS, DIM, 1)
    small, large = index.query(x, 5), index.query(x, 50)
    for i in range(ROWS):
        np.testing.assert_array_equal(small[i], large[i][:5])


def test_update_equals_refill(name, bias):
    vectors, x = rows_of(N, DIM, 0), rows_of(ROWS, DIM, 1)
    index = built(name, vectors.copy(), None if bias is None else bias.copy())
    for seed in range(5):
        ids = np.random.default_rng(seed).choice(N, 90, replace=False).astype(np.int32)
        index.update(ids, rows_of(90, DIM, seed), None if bias is None else rows_of(90, 1, seed)[:, 0])
    updated = index.query(x, 30)
    occupancy = index.occupancy()
    index.refill()
    assert_same(updated, index.query(x, 30))
    assert occupancy == index.occupancy()


def test_update_reaches_the_moved_item(name):
    """An item moved onto a query is its first candidate, and was not before."""
    vectors, x = rows_of(N, DIM, 0), rows_of(1, DIM, 5)
    index = built(name, vectors)
    target = int(np.argmin(vectors @ x[0]))
    assert index.query(x, 1)[0].tolist() != [target]
    index.update([target], 100 * x)
    assert index.query(x, 1)[0].tolist() == [target]


def test_the_same_seed_and_any_threads_give_the_same_bits(name, bias):
    vectors, x, before, answers = rows_of(N, DIM, 0), rows_of(ROWS, DIM, 1), native.num_threads(), []
    for threads in (1, 2, 2):
        native.set_num_threads(threads)
        answers.append(built(name, vectors, bias).query(x, 20))
    native.set_num_threads(before)
    assert_same(answers[0], answers[1])
    assert_same(answers[1], answers[2])


def test_config_makes_an_equal_index(name, bias):
    vectors, x = rows_of(N, DIM, 0), rows_of(ROWS, DIM, 1)
    index = built(name, vectors, bias)
    again = make_index(**json.loads(json.dumps(index.config())))
    again.build(vectors, bias)
    assert again.config() == index.config()
    assert_same(again.query(x, 20), index.query(x, 20))


def test_sparse_queries_equal_dense_ones(name, bias):
    index = built(name, rows_of(N, DIM, 0), bias)
    x = rows_of(ROWS, DIM, 1)
    x[np.random.default_rng(2).random(x.shape) < 0.6] = 0
    assert_same(index.query(x, 20), index.query(CsrBatch.from_scipy(x), 20))


def test_occupancy_adds_up(name):
    index = made(name, N, DIM)
    empty = index.occupancy()
    assert empty.mean == empty.largest == 0
    assert empty.empty == empty.buckets
    index.build(rows_of(N, DIM, 0))
    full = index.occupancy()
    assert full.mean * (full.buckets - full.empty) == pytest.approx(full.tables * N * (1 - full.dropped_fraction))
    assert full.mean <= full.largest <= N


def test_a_single_item_and_a_single_query(name):
    index = built(name, np.ones((1, DIM), np.float32))
    assert index.query(np.ones((1, DIM), np.float32), 5).ids.tolist() == [0]


def test_no_queries(name, bias):
    index = built(name, rows_of(N, DIM, 0), bias)
    found = index.query(np.zeros((0, DIM), np.float32), 4)
    assert len(found) == 0
    assert len(found.ids) == 0
    sparse = CsrBatch(np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), DIM)
    assert len(index.query(sparse, 4)) == 0


def test_candidates_become_active_sets(name):
    found = built(name, rows_of(N, DIM, 0)).query(rows_of(ROWS, DIM, 1), 8)
    shared = select_shared(found, None, N, uniform=20, seed=0, num_rows=ROWS)
    assert set(found.ids.tolist()) == set(shared.ids[: shared.num_certain].tolist())
    rows = select_rows(found, None, N, budget=8, minimum=8, seed=0)
    assert (np.diff(rows.indptr) == 8).all()
    assert rows.stats.filled == 8 * ROWS - len(found.ids)


def test_the_weights_are_kept_by_reference_and_never_by_surprise(name):
    vectors = rows_of(N, DIM, 0)
    before = vectors.copy()
    index = built(name, vectors)
    index.query(rows_of(ROWS, DIM, 1), 10)
    np.testing.assert_array_equal(vectors, before)
    index.update([3], np.zeros((1, DIM), np.float32))
    before[3] = 0
    np.testing.assert_array_equal(vectors, before)
    vectors.flags.writeable = False
    index.build(vectors)
    index.update([4], np.zeros((1, DIM), np.float32))
    np.testing.assert_array_equal(vectors, before)


BAD = np.zeros((N, DIM), np.float32)
BAD[5, 2] = np.nan


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda i: i.build(BAD), "vectors must be finite"),
        (lambda i: i.build(np.zeros((N, DIM + 1), "f")), "vectors must have shape"),
        (lambda i: i.build(np.zeros((N - 1, DIM), "f")), "vectors must have shape"),
        (lambda i: i.build(np.zeros((N, DIM), "f"), np.zeros(3, "f")), "bias must have shape"),
        (lambda i: i.build(np.zeros((N, DIM), "f"), np.full(N, np.inf, "f")), "bias must be finite"),
        (lambda i: i.query(BAD[:6], 3), "x must be finite"),
        (lambda i: i.query(np.zeros((2, DIM - 1), "f"), 3), "x must"),
        (lambda i: i.query(CsrBatch.from_scipy(np.zeros((2, DIM + 1))), 3), "x must"),
        (lambda i: i.query(np.zeros((2, DIM), "f"), 0), "budget"),
        (lambda i: i.update([0, 0], np.zeros((2, DIM), "f")), "ids must be distinct"),
        (lambda i: i.update([N], np.zeros((1, DIM), "f")), "ids must lie in"),
        (lambda i: i.update([0], BAD[5:6]), "vectors must be finite"),
        (lambda i: i.update([0], np.zeros((1, DIM), "f"), np.zeros(1, "f")), "bias must be given as"),
        (lambda i: make_index(i.name, N, DIM).query(BAD, 3), "call build first"),
        (lambda i: make_index(i.name, 0, DIM), "num_items"),
        (lambda i: make_index(i.name, N, DIM, colour=3), "'colour'"),
    ],
)
def test_misuse_is_one_line(name, call, says):
    index = built(name, rows_of(N, DIM, 0))
    with pytest.raises(InputError) as caught:
        call(index)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match="one of clustered, exact, lsh, tree"):
        make_index("annoy", 5, 3)


def test_a_query_that_meets_nothing_is_empty_not_filled():
    """10 signs equal to those of a vector at more than 120 degrees: chance below (1/3)^10 an item."""
    index = built("lsh", np.abs(rows_of(N, DIM, 0)), num_tables=1, hashes_per_table=10)
    found = index.query(-np.abs(rows_of(3, DIM, 1)), 4)
    assert found.indptr.tolist() == [0, 0, 0, 0]
    assert found.found.tolist() == [0, 0, 0]
    assert select_rows(found, None, N, 5, minimum=5, fill="none").stats.filled == 0
    assert select_rows(found, None, N, 5, minimum=5).stats.rows_filled == 3
