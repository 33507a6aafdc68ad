"""Votes of the nearest rows: against a NumPy twin, as rows and labels come, and from a saved state."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.sparse as sp

from hashfold.errors import InputError
from hashfold.index import ROW_INDEXES
from hashfold.kernels import native
from hashfold.model.near import CHANNELS, LEADING, RIVALS, Near
from hashfold.sparse import CsrBatch, RaggedIds

N, WIDTH, LABELS, QUERIES = 400, 120, 70, 30


def sparse_rows(count: int, seed: int) -> CsrBatch:
    random = np.random.default_rng(seed)
    dense = random.random((count, WIDTH)) * (random.random((count, WIDTH)) < 0.08)
    norms = np.linalg.norm(dense, axis=1, keepdims=True)
    return CsrBatch.from_scipy(sp.csr_array(dense / np.where(norms > 0, norms, 1)))


def label_sets(count: int, seed: int, labels: int = LABELS) -> RaggedIds:
    random = np.random.default_rng(seed)
    lists = [random.choice(labels, random.integers(0, 6), replace=False) for _ in range(count)]
    return RaggedIds.from_lists(lists, labels)


def filled(**options) -> Near:
    near = Near(WIDTH, LABELS, **options)
    near.add(sparse_rows(N, 0), label_sets(N, 1))
    return near


def votes_reference(near: Near, y: RaggedIds, x: CsrBatch, power: float, k: int, exclude=None):
    """What `Near.vote` computes, word by word: a list of (labels, scores) for each row."""
    found, answers = near.neighbours(x, exclude), []
    weights = found.scores ** np.float32(power)
    for i in range(len(x)):
        votes = np.zeros(y.num_ids, np.float32)
        for j in range(found.indptr[i], found.indptr[i + 1]):
            votes[y[found.ids[j]]] += weights[j]
        best = np.argsort(-votes, kind="stable")[:k]
        best = best[votes[best] > 0]
        answers.append((best, votes[best]))
    return answers


def assert_votes(voted, answers):
    assert len(voted) == len(answers)
    for i, (labels, scores) in enumerate(answers):
        np.testing.assert_array_equal(voted[i], labels)
        # powers are the C library's in one and NumPy's in the other
        np.testing.assert_allclose(voted.scores[voted.indptr[i] : voted.indptr[i + 1]], scores, rtol=1e-6)


def assert_same(a, b):
    for part in ("indptr", "ids", "scores", "found"):
        np.testing.assert_array_equal(getattr(a, part), getattr(b, part), strict=True)


@pytest.mark.parametrize("index", sorted(ROW_INDEXES))
@pytest.mark.parametrize(("power", "neighbours", "k"), [(1.0, 20, 5), (3.0, 7, 1000), (0.0, 1, 3)])
def test_votes_are_those_of_the_twin(index, power, neighbours, k):
    near = filled(index=index, neighbours=neighbours, power=power)
    x, y = sparse_rows(QUERIES, 2), label_sets(N, 1)
    assert len(near.neighbours(x).ids) > QUERIES // 2
    voted = near.vote(x, k)
    assert (voted.num_items, voted.scores.dtype, voted.ids.dtype) == (LABELS, np.float32, np.int32)
    assert_votes(voted, votes_reference(near, y, x, power, k))
    assert (voted.counts == np.minimum(k, voted.found)).all()


@pytest.mark.parametrize("k", [0, 3, 1000])
def test_a_join_is_the_proposals_and_the_best_voted_with_votes_in_every_channel(k):
    near, x, y = filled(index="inverted"), sparse_rows(QUERIES, 2), label_sets(N, 1)
    proposals = label_sets(QUERIES, 8)
    exclude = np.arange(QUERIES, dtype=np.int32)
    joined, votes = near.join(x, proposals, k, exclude)
    found = near.index.query(x, 100, exclude)
    assert votes.shape == (len(joined.ids), len(CHANNELS))
    for i in range(QUERIES):
        rows, scores = found[i], found.scores[found.indptr[i] : found.indptr[i + 1]]
        sums = np.zeros((y.num_ids, len(CHANNELS)))
        for rank, (row, score) in enumerate(zip(rows, scores, strict=True)):
            for channel, (count, power) in enumerate(CHANNELS):
                sums[y[row], channel] += score**power if rank < count else 0
        best = np.argsort(-sums[:, LEADING], kind="stable")[:k]
        best = best[sums[best, LEADING] > 0]
        expected = [*proposals[i], *(label for label in best if label not in proposals[i])]
        assert joined[i].tolist() == expected
        np.testing.assert_allclose(votes[joined.indptr[i] : joined.indptr[i + 1]], sums[expected], rtol=1e-5)


@pytest.mark.parametrize("k", [0, 3, 1000])
def test_rivals_are_the_labels_and_what_the_nearest_rows_have_beside_them(k):
    near, x, y = filled(index="inverted"), sparse_rows(QUERIES, 2), label_sets(N, 1)
    own, exclude = label_sets(QUERIES, 8), np.arange(QUERIES, dtype=np.int32)
    ((count, power),) = RIVALS
    found, exactly = near.rivals(x, own, k, exclude), filled(index="inverted", neighbours=count, power=power)
    answers = votes_reference(exactly, y, x, power, k, exclude)
    assert len(found) == QUERIES
    for i, (best, _) in enumerate(answers):
        assert found[i].tolist() == [*own[i], *(label for label in best if label not in own[i])]


def test_votes_do_not_depend_on_how_many_labels_there_are():
    """Few labels have a place each; many get places as they come, and of those no two keep the other's votes."""
    x, y, scale = sparse_rows(QUERIES, 2), label_sets(N, 1), 5_000
    few, many = filled(), Near(WIDTH, LABELS * scale)
    lists = [y[i] * scale for i in range(N)]
    many.add(sparse_rows(N, 0), RaggedIds.from_lists(lists, LABELS * scale))
    proposals = label_sets(QUERIES, 8)
    (labels, votes), (spread, same) = (
        near.join(x, RaggedIds(proposals.indptr, proposals.ids * np.int32(by), LABELS * by), 20)
        for near, by in ((few, 1), (many, scale))
    )
    np.testing.assert_array_equal(labels.ids * scale, spread.ids)
    np.testing.assert_array_equal(votes, same)
    np.testing.assert_array_equal(few.vote(x, 9).scores, many.vote(x, 9).scores)


def test_an_excluded_row_does_not_vote():
    near, x, y = filled(), sparse_rows(N, 0), label_sets(N, 1)
    own = np.arange(N, dtype=np.int32)
    voted = near.vote(x, 10, exclude=own)
    assert_votes(voted, votes_reference(near, y, x, 1, 10, own))
    assert (near.vote(x, 10).scores.sum() - voted.scores.sum()) > N


def test_new_rows_and_labels_vote_at_once():
    near = filled(neighbours=1)
    new, labels = sparse_rows(1, 99), RaggedIds.from_lists([[3, LABELS + 7]], LABELS + 10)
    near.add(new, labels)
    assert (len(near), near.num_labels) == (N + 1, LABELS + 10)
    voted = near.vote(new, 5)
    assert voted.ids.tolist() == [3, LABELS + 7]
    np.testing.assert_allclose(voted.scores, 1, atol=0.02)
    assert voted.num_items == LABELS + 10
    near.add(sparse_rows(2, 5), label_sets(2, 5, labels=4))
    assert near.num_labels == LABELS + 10


def test_rows_in_parts_are_rows_at_once():
    near, x, y = Near(WIDTH, 1), sparse_rows(N, 0), label_sets(N, 1)
    for part in np.split(np.arange(N), [1, 50, 51, 300]):
        near.add(x.take(part), y.take(part))
    queries = sparse_rows(QUERIES, 2)
    assert_same(near.vote(queries, 9), filled().vote(queries, 9))


def test_the_state_makes_an_equal_one():
    near, x = filled(index="minhash", options={"num_tables": 20}, neighbours=9, power=2), sparse_rows(QUERIES, 2)
    again = Near(**json.loads(json.dumps(near.config())))
    again.load_state(near.state())
    assert again.config() == near.config()
    assert again.nbytes == near.nbytes > 0
    for _ in range(2):
        assert_same(again.vote(x, 6), near.vote(x, 6))
        for one in (again, near):
            one.add(sparse_rows(5, 7), label_sets(5, 7))


def test_the_threads_change_nothing():
    near, x, before = filled(), sparse_rows(300, 2), native.num_threads()
    answers = []
    for threads in (1, 2):
        native.set_num_threads(threads)
        answers.append(near.vote(x, 6))
    native.set_num_threads(before)
    assert_same(*answers)


def test_nothing_to_vote_is_an_empty_answer():
    near, x = Near(WIDTH, 0), sparse_rows(3, 0)
    assert near.vote(x, 5).indptr.tolist() == [0, 0, 0, 0]
    near.add(sparse_rows(4, 1), RaggedIds.from_lists([[], [], [], []], 0))
    assert near.vote(x, 5).indptr.tolist() == [0, 0, 0, 0]
    empty = CsrBatch(np.zeros(2, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), WIDTH)
    assert filled().vote(empty, 5).found.tolist() == [0]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda n: n.add(sparse_rows(3, 0), label_sets(2, 0)), "as many rows; got 3 and 2"),
        (lambda n: n.add(sparse_rows(1, 0), RaggedIds(np.array([0, 1]), np.array([5], "i4"), 5)), "must lie in"),
        (lambda n: n.add(CsrBatch.from_scipy(-np.ones((1, WIDTH))), label_sets(1, 0)), "at least 0"),
        (lambda n: n.vote(sparse_rows(1, 0), 0), "k_labels"),
        (lambda n: n.vote(CsrBatch.from_scipy(np.ones((1, 3))), 2), f"rows must be {WIDTH} wide"),
        (lambda n: Near(WIDTH, -1), "num_labels"),
        (lambda n: Near(WIDTH, 1, neighbours=0), "neighbours"),
        (lambda n: Near(WIDTH, 1, power=-1), "power"),
        (lambda n: Near(WIDTH, 1, index="lsh"), "name must be one of"),
        (lambda n: Near(WIDTH, 1, options={"pole": 3}), "'pole'"),
        (lambda n: n.load_state({}), "labels"),
        (lambda n: n.load_state(n.state() | {"labels": n.state()["labels"][:-1]}), "a contradiction"),
        (lambda n: n.load_state(n.state() | {"rows.scales": n.state()["rows.scales"][:-1]}), "a contradiction"),
        (lambda n: n.load_state(n.state() | {"rows.scales": np.float32(3)}), "a contradiction"),
        (lambda n: n.load_state(n.state() | {"rows.values": n.state()["rows.values"][:-1]}), "a contradiction"),
        (lambda n: n.load_state(n.state() | {"colour": n.state()["labels"]}), "colour"),
        (lambda n: Near(WIDTH, LABELS - 9).load_state(n.state()), f"below {LABELS - 9}"),
    ],
)
def test_misuse_is_one_line_and_changes_nothing(call, says):
    near, x = filled(), sparse_rows(QUERIES, 2)
    before, answer = near.state(), near.vote(x, 5)
    with pytest.raises(InputError) as caught:
        call(near)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    np.testing.assert_equal(near.state(), before)
    assert_same(near.vote(x, 5), answer)


def test_packed_rows_keep_their_share_and_length_their_labels_and_settings():
    near = filled(index="inverted", neighbours=7, power=3.0)
    before = near.index.rows()
    for share in (0.3, 1.0):
        small = near.packed(8, share)
        assert small.config() | near.config() == near.config() | {"index": "inverted", "options": {}}
        rows = small.index.rows()
        lengths, old = (np.sqrt(r.to_scipy().power(2).sum(axis=1)) for r in (rows, before))
        np.testing.assert_allclose(lengths, old, rtol=1e-4)
        for part in ("indptr", "ids"):
            np.testing.assert_array_equal(getattr(small.labels(), part), getattr(near.labels(), part))
        for i in range(0, N, 50):
            span = slice(before.indptr[i], before.indptr[i + 1])
            squares = np.sort(before.values[span].astype(np.float64) ** 2)[::-1]
            wanted = np.searchsorted(np.cumsum(squares), share * squares.sum() * (1 - 1e-9)) + 1
            kept = rows.indices[rows.indptr[i] : rows.indptr[i + 1]]
            assert len(kept) == min(wanted, len(squares))
            assert set(kept) <= set(before.indices[span])
    with pytest.raises(InputError, match="share"):
        near.packed(2, 0.0)
