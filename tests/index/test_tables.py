"""Hash tables against dictionaries, given raw bucket ids."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from hashfold.errors import InputError
from hashfold.index import BucketTables


def random_buckets(rng, rows, num_tables, num_buckets):
    """Skewed, so that some buckets are crowded and some are empty."""
    return np.minimum(rng.geometric(0.15, (rows, num_tables)) - 1, num_buckets - 1).astype(np.int32)


def contents(tables: BucketTables) -> list[list[list[int]]]:
    return [[tables.items(t, b) for b in range(tables.num_buckets)] for t in range(tables.num_tables)]


def as_sets(tables: BucketTables) -> list[list[set[int]]]:
    return [[set(bucket) for bucket in table] for table in contents(tables)]


def test_every_item_lies_in_its_buckets(threads):
    buckets = random_buckets(np.random.default_rng(0), 500, 6, 32)
    tables = BucketTables(500, 6, 32)
    tables.build(buckets)
    for t in range(6):
        for b in range(32):
            assert tables.items(t, b) == np.flatnonzero(buckets[:, t] == b).tolist()


@pytest.mark.parametrize("rounds", [1, 30])
def test_updates_leave_what_a_fresh_build_makes(rounds, threads):
    rng = np.random.default_rng(rounds)
    buckets = random_buckets(rng, 300, 4, 16)
    tables = BucketTables(300, 4, 16)
    tables.build(buckets)
    for _ in range(rounds):
        ids = rng.choice(300, 60, replace=False).astype(np.int32)
        buckets[ids] = rng.integers(0, 16, (60, 4), dtype=np.int32)
        tables.update(ids, buckets[ids])
    fresh = BucketTables(300, 4, 16)
    fresh.build(buckets)
    assert as_sets(tables) == as_sets(fresh)
    assert tables.occupancy() == fresh.occupancy()


@pytest.mark.parametrize("policy", ["reservoir", "fifo"])
def test_capacity_keeps_the_right_number(policy):
    buckets = random_buckets(np.random.default_rng(1), 400, 3, 16)
    tables = BucketTables(400, 3, 16, bucket_capacity=7, policy=policy, seed=4)
    tables.build(buckets)
    held, fallen = tables.sizes()
    for t in range(3):
        counts = np.bincount(buckets[:, t], minlength=16)
        np.testing.assert_array_equal(held[t], np.minimum(counts, 7))
        np.testing.assert_array_equal(fallen[t], counts)
        for b in range(16):
            inside = tables.items(t, b)
            assert len(set(inside)) == len(inside)
            assert set(inside) <= set(np.flatnonzero(buckets[:, t] == b).tolist())


def test_fifo_keeps_the_last_and_updates_count_as_last():
    tables = BucketTables(10, 1, 2, bucket_capacity=3, policy="fifo")
    tables.build(np.zeros((10, 1), np.int32))
    assert tables.items(0, 0) == [7, 8, 9]
    tables.update([8, 2], [[1], [1]])  # 8 leaves; 2 had been dropped and leaves too
    assert tables.items(0, 0) == [7, 9]
    assert tables.items(0, 1) == [8, 2]
    tables.update([8], [[0]])
    assert tables.items(0, 0) == [7, 9, 8]
    tables.update([2], [[0]])
    assert tables.items(0, 0) == [9, 8, 2]


def test_reservoir_is_a_uniform_sample():
    """Each of 30 items is among 6 kept with probability 1/5, over independent tables."""
    tables = BucketTables(30, 4000, 1, bucket_capacity=6, seed=9)
    tables.build(np.zeros((30, 4000), np.int32))
    counts = np.zeros(30)
    for t in range(4000):
        counts[tables.items(t, 0)] += 1
    assert counts.sum() == 6 * 4000
    assert np.abs(counts - 800).max() < 5.2 * np.sqrt(4000 * 0.2 * 0.8)  # binomial: a false alarm in 10^5
    other = BucketTables(30, 4000, 1, bucket_capacity=6, seed=10)
    other.build(np.zeros((30, 4000), np.int32))
    assert contents(other) != contents(tables)


@pytest.mark.parametrize("seed", range(8))
def test_reservoir_samples_on_after_removals(seed):
    """As long as nothing that was dropped would have to come back, updates equal a fresh build."""
    buckets = np.ones((200, 1), np.int32)
    buckets[:40] = 0  # bucket 0 is full, and has dropped nothing
    tables = BucketTables(200, 1, 2, bucket_capacity=40, seed=seed)
    tables.build(buckets)
    leaving, arriving = np.arange(0, 40, 3, dtype=np.int32), np.arange(50, 170, dtype=np.int32)
    for ids, to in ((leaving, 1), (arriving, 0)):
        buckets[ids] = to
        tables.update(ids, buckets[ids])
    fresh = BucketTables(200, 1, 2, bucket_capacity=40, seed=seed)
    fresh.build(buckets)
    assert as_sets(tables)[0][0] == as_sets(fresh)[0][0]


def test_reservoir_updates_keep_the_invariants():
    rng = np.random.default_rng(5)
    buckets = random_buckets(rng, 200, 3, 8)
    tables = BucketTables(200, 3, 8, bucket_capacity=5)
    tables.build(buckets)
    for _ in range(20):
        ids = rng.choice(200, 30, replace=False).astype(np.int32)
        buckets[ids] = random_buckets(rng, 30, 3, 8)
        tables.update(ids, buckets[ids])
        for t, table in enumerate(contents(tables)):
            for b, inside in enumerate(table):
                assert len(inside) == len(set(inside)) <= 5
                assert all(buckets[i, t] == b for i in inside)
        np.testing.assert_array_equal(
            tables.sizes()[1], [np.bincount(buckets[:, t], minlength=8) for t in range(3)]
        )


@pytest.mark.parametrize("budget", [1, 5, 40, 1000])
def test_query_ranks_by_collisions(budget, threads):
    rng = np.random.default_rng(budget)
    buckets, queries = random_buckets(rng, 400, 8, 16), random_buckets(rng, 50, 8, 16)
    tables = BucketTables(400, 8, 16, seed=2)
    tables.build(buckets)
    found = tables.query(queries, budget)
    for i, query in enumerate(queries):
        counts = Counter({j: int(c) for j, c in enumerate((buckets == query).sum(axis=1)) if c})
        got, scores = found[i].tolist(), found.scores[found.indptr[i] : found.indptr[i + 1]].tolist()
        assert found.found[i] == len(counts)
        assert scores == sorted(counts.values(), reverse=True)[:budget]
        assert len(set(got)) == len(got)
        assert scores == [counts[j] for j in got]


def test_ties_do_not_favour_the_same_items_everywhere():
    tables = BucketTables(100, 2, 64)
    tables.build(np.stack([np.zeros(100, np.int32), np.arange(100, dtype=np.int32) % 50], axis=1))
    queries = np.stack([np.zeros(13, np.int32), np.arange(50, 63, dtype=np.int32)], axis=1)
    firsts = {tables.query(q[None], 1).ids[0] for q in queries}
    assert len(firsts) > 5  # 13 draws of 100: fewer than 6 distinct is rarer than 10^-8


def test_a_row_does_not_depend_on_its_batch():
    rng = np.random.default_rng(3)
    tables = BucketTables(300, 4, 8)
    tables.build(random_buckets(rng, 300, 4, 8))
    queries = random_buckets(rng, 40, 4, 8)
    together = tables.query(queries, 10)
    for i, query in enumerate(queries):
        np.testing.assert_array_equal(tables.query(query[None], 10).ids, together[i])


def test_many_queries_wear_the_counters_out(one_thread):
    """A counter's epoch comes round after 2^20 queries; counts stay right."""
    tables = BucketTables(4, 1, 2)
    tables.build(np.array([[0], [0], [1], [1]], np.int32))
    queries = np.zeros((300_000, 1), np.int32)
    for _ in range(4):
        found = tables.query(queries, 4)
        assert (found.scores == 1).all()
        assert len(found.ids) == 600_000


def test_occupancy_adds_up():
    tables = BucketTables(6, 1, 4, bucket_capacity=2)
    assert tables.occupancy().empty == 4
    tables.build(np.array([[0], [0], [0], [0], [1], [1]], np.int32))
    o = tables.occupancy()
    assert (o.tables, o.buckets, o.empty, o.mean, o.largest) == (1, 4, 2, 2.0, 2)
    assert o.dropped_fraction == pytest.approx(2 / 6)
    assert o.empty_fraction == 0.5


@pytest.mark.parametrize(
    "call",
    [
        lambda t: t.build(np.zeros((4, 2), np.int32)),
        lambda t: t.build(np.full((5, 2), 8, np.int32)),
        lambda t: t.query(np.full((1, 2), -1, np.int32), 3),
        lambda t: t.update([5], [[0, 0]]),
        lambda t: t.update([0], [[0, 9]]),
        lambda t: BucketTables(5, 2, 8, policy="lifo"),
        lambda t: BucketTables(5, 2, 8, bucket_capacity=0),
        lambda t: BucketTables(5, 2, 8).query(np.zeros((1, 2), np.int32), 3),
    ],
)
def test_misuse_is_one_line(call):
    tables = BucketTables(5, 2, 8)
    tables.build(np.zeros((5, 2), np.int32))
    with pytest.raises(InputError) as caught:
        call(tables)
    assert "\n" not in str(caught.value)
