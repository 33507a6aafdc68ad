"""The native scans against their NumPy twins, at every instruction set."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hashfold.errors import InputError
from hashfold.index import BucketTables
from hashfold.index.base import Candidates
from hashfold.index.topk import exact_candidates, listed, probed, rescored, score_rows, top_k, top_k_reference
from hashfold.kernels import native
from hashfold.kernels.quantized import QuantizedQueries, QuantizedRows, scores_reference
from hashfold.sparse import CsrBatch

SHAPES = [(1, 1, 1, 1), (3, 5, 7, 2), (2, 300, 33, 300), (70, 500, 17, 10), (260, 1000, 64, 1), (40, 97, 128, 97)]


def data(rows, num_items, dim, seed=0):
    """Multiples of 1/8 with exact float32 sums, so that every order of summation gives the same bits."""
    rng = np.random.default_rng(seed)
    values = [rng.integers(-8, 9, shape) / 8 for shape in ((rows, dim), (num_items, dim), (num_items,))]
    return [v.astype(np.float32) for v in values]


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("rows", "num_items", "dim", "k"), SHAPES)
def test_top_k_equals_its_twin_bit_for_bit(rows, num_items, dim, k, with_bias, isa, threads):
    x, vectors, bias = data(rows, num_items, dim)
    bias = bias if with_bias else None
    for have, want in zip(top_k(x, vectors, bias, k), top_k_reference(x, vectors, bias, k), strict=True):
        np.testing.assert_array_equal(have, want)


@pytest.mark.parametrize("rows", [1, 50])
def test_top_k_equals_torch_on_real_numbers(rows, isa):
    rng = np.random.default_rng(1)
    x, vectors = rng.normal(size=(rows, 100)).astype("f"), rng.normal(size=(2000, 100)).astype("f")
    want = torch.topk(torch.from_numpy(x) @ torch.from_numpy(vectors).T, 20)
    ids, scores = top_k(x, vectors, None, 20)
    # sums of 100 products: |error| <= 100 eps sum |x w|, at most 100 * 6e-8 * |x| |w| < 1e-3
    np.testing.assert_allclose(scores, want.values.numpy(), atol=1e-3)
    at_ids = np.take_along_axis(x @ vectors.T, ids.astype(np.int64), 1)
    np.testing.assert_allclose(at_ids, scores, atol=1e-3)


@pytest.mark.parametrize("rows", [1, 40])
def test_scores_that_are_no_numbers_never_win(rows, isa):
    x, vectors = np.ones((rows, 1), "f"), np.array([[np.nan], [1], [np.inf], [-np.inf], [2]], "f")
    ids, scores = top_k(x, vectors, None, 4)
    assert ids[-1].tolist() == [2, 4, 1, 3]
    assert scores[-1].tolist() == [np.inf, 2, 1, -np.inf]
    with pytest.raises(InputError, match="scores must be numbers"):
        top_k(x, vectors, None, 5)


@pytest.mark.parametrize("rows", [1, 60])
@pytest.mark.parametrize("budget", [1, 9, 500])
def test_probed_is_the_best_of_the_lists(rows, budget, isa, threads):
    x, vectors, bias = data(rows, 400, 20, seed=2)
    rng = np.random.default_rng(3)
    members = rng.integers(0, 11, (400, 1)).astype(np.int32)  # list 11 stays empty
    lists = BucketTables(400, 1, 12)
    lists.build(members)
    probes = np.stack([rng.choice(12, 5, replace=False) for _ in range(rows)]).astype(np.int32)
    found = probed(lists.native, probes, lists.sizes()[0][0], x, vectors, bias, budget)
    scores = x @ vectors.T + bias
    for i in range(rows):
        inside = np.flatnonzero(np.isin(members[:, 0], probes[i]))
        order = inside[np.argsort(-scores[i, inside], kind="stable")][:budget]
        np.testing.assert_array_equal(found[i], order)
        np.testing.assert_array_equal(found.scores[found.indptr[i] : found.indptr[i + 1]], scores[i, order])
        assert found.found[i] == len(inside)


def test_listed_follows_the_probes():
    lists = BucketTables(6, 1, 3)
    lists.build(np.array([[0], [1], [2], [0], [1], [2]], np.int32))
    probes, list_scores = np.array([[2, 0], [1, 2]], np.int32), np.array([[5, 4], [7, 1]], np.float32)
    found = listed(lists.native, probes, lists.sizes()[0][0], list_scores, 6, budget=3)
    assert found.ids.tolist() == [2, 5, 0, 1, 4, 2]
    assert found.scores.tolist() == [5, 5, 4, 7, 7, 1]
    assert found.found.tolist() == [4, 4]


def test_rescored_ranks_anew(isa):
    x, vectors, bias = data(30, 100, 9, seed=5)
    rng = np.random.default_rng(6)
    rows = [rng.choice(100, rng.integers(0, 20), replace=False) for _ in range(30)]
    indptr = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    ids = np.concatenate(rows).astype(np.int32)
    found = Candidates(indptr, ids, np.zeros(len(ids), "f"), 100, np.diff(indptr))
    best = rescored(found, x, vectors, bias, budget=6)
    scores = x @ vectors.T + bias
    for i, row in enumerate(rows):
        want = sorted(row, key=lambda j, i=i: (-scores[i, j], j))[:6]
        assert best[i].tolist() == want


def test_sparse_queries_equal_dense_ones(monkeypatch):
    x, vectors, bias = data(20, 50, 30, seed=7)
    x[np.random.default_rng(8).random(x.shape) < 0.7] = 0
    monkeypatch.setattr("hashfold.index.base.DENSE_BLOCK_BYTES", 4 * 30 * 6)  # blocks of 6 rows
    dense, sparse = (exact_candidates(q, vectors, bias, 7) for q in (x, CsrBatch.from_scipy(x)))
    np.testing.assert_array_equal(dense.ids, sparse.ids)
    np.testing.assert_array_equal(dense.scores, sparse.scores)


def real(rows, num_items, dim, seed=0):
    """Real numbers: queries of either sign (even rows) and without negative values (odd rows)."""
    rng = np.random.default_rng(seed)
    x, vectors, bias = (rng.normal(size=s).astype("f") for s in ((rows, dim), (num_items, dim), (num_items,)))
    x[1::2] = np.abs(x[1::2])
    vectors[num_items // 2 :] = vectors[: num_items - num_items // 2]  # ties but for the bias
    return x, QuantizedRows.quantize(vectors), bias


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("rows", "num_items", "dim", "k"), [*SHAPES, (9, 40, 3, 40), (50, 120, 131, 7)])
def test_quantized_top_k_equals_its_twin_bit_for_bit(rows, num_items, dim, k, with_bias, isa, threads):
    x, items, bias = real(rows, num_items, dim)
    bias = bias if with_bias else None
    for have, want in zip(top_k(x, items, bias, k), top_k_reference(x, items, bias, k), strict=True):
        np.testing.assert_array_equal(have, want)


@pytest.mark.parametrize("rows", [1, 50])
def test_quantized_scores_are_near_the_exact_ones(rows):
    rng = np.random.default_rng(1)
    x, vectors = rng.normal(size=(rows, 100)).astype("f"), rng.normal(size=(2000, 100)).astype("f")
    ids, scores = top_k(x, QuantizedRows.quantize(vectors), None, 20)
    exact = np.take_along_axis(x @ vectors.T, ids.astype(np.int64), 1)
    # a step of a row is max / 127, of a query its span / 255; errors of half a step (a query's: of one) each
    weight_step, query_step = np.abs(vectors).max() / 127, 2 * np.abs(x).max() / 255
    bound = np.abs(x).sum(1).max() * weight_step / 2 + np.abs(vectors).sum(1).max() * query_step * 1.5
    assert np.abs(scores - exact).max() <= bound
    assert np.abs(scores - exact).mean() <= bound / 20


def test_quantized_scores_are_one_sum_wherever_they_are_taken(isa):
    """One row, a batch, given candidates, lists: the same bits."""
    x, items, bias = real(40, 300, 37)
    all_scores = scores_reference(QuantizedQueries.quantize(x), items, bias)
    indptr, ids = np.arange(41, dtype=np.int64) * 300, np.tile(np.arange(300, dtype=np.int32), 40)
    given = np.empty(len(ids), "f")
    score_rows(x, items, bias, indptr, ids, given)
    np.testing.assert_array_equal(given.reshape(40, 300), all_scores)
    for i in range(3):
        alone, batch = top_k(x[i : i + 1], items, bias, 300), top_k(x, items, bias, 300)
        np.testing.assert_array_equal(alone[0][0], batch[0][i])
        np.testing.assert_array_equal(alone[1][0], batch[1][i])
    lists = BucketTables(300, 1, 4)
    lists.build(np.random.default_rng(3).integers(0, 4, (300, 1)).astype(np.int32))
    for rows in (slice(0, 1), slice(0, 40)):
        probes = np.tile(np.array([2, 0], np.int32), (len(x[rows]), 1))
        found = probed(lists.native, probes, lists.sizes()[0][0], x[rows], items, bias, 300)
        of_rows = np.repeat(np.arange(len(found)), found.counts)
        np.testing.assert_array_equal(found.scores, all_scores[of_rows, found.ids])
        assert (found.counts > 100).all()


def test_quantized_equal_scores_go_by_id(isa):
    items = QuantizedRows.quantize(np.ones((200, 5), "f"))
    for rows in (1, 40):
        ids, _ = top_k(np.ones((rows, 5), "f"), items, None, 9)
        np.testing.assert_array_equal(ids, np.tile(np.arange(9), (rows, 1)))


def test_native_scans_refuse_parts_that_do_not_fit():
    x, items, _ = real(2, 10, 8)
    ids, scores, counts = np.empty((2, 3), np.int32), np.empty((2, 3), "f"), np.empty(2, np.int64)
    for codes, scales, sums in (
        (items.codes[:, :7].copy(), items.scales, items.sums),
        (items.codes, items.scales[:9], items.sums),
        (items.codes, items.scales, items.sums[:9]),
    ):
        with pytest.raises(RuntimeError, match="hashfold internal error"):
            native.core.top_k_quantized(x, codes, scales, sums, None, ids, scores, counts)
