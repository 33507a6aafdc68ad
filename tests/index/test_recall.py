"""What the indexes find, held to what mathematics promises or planted structure makes sure."""

from __future__ import annotations

import numpy as np
import pytest

from hashfold.errors import InputError
from hashfold.hashing.theory import collision_probability, retrieval_probability
from hashfold.index import make_index, recall_at_k
from hashfold.index.kmeans import assign, kmeans
from hashfold.index.lift import Lift


def normal(shape, seed):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def pair(name, vectors, bias=None, **options):
    """An index and the oracle over the same weights."""
    made = [make_index(n, *vectors.shape, **o) for n, o in ((name, options), ("exact", {}))]
    for index in made:
        index.build(vectors, bias)
    return made


def planted(num_centres=40, each=25, dim=16, noise=0.02):
    """Items of norm about 1 in tight, well separated groups, and a query near each centre."""
    centres = normal((num_centres, dim), 1)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    items = np.repeat(centres, each, axis=0) + noise * normal((num_centres * each, dim), 2)
    return items, centres + noise * normal(centres.shape, 3)


@pytest.mark.parametrize("with_bias", [False, True])
def test_exact_finds_everything(with_bias):
    vectors, bias = normal((500, 12), 0), normal(500, 1) if with_bias else None
    index, exact = pair("exact", vectors, bias)
    report = recall_at_k(index, exact, normal((30, 12), 2), k=10, budget=10)
    assert (report.recall, report.scored_fraction, report.candidates_per_row, report.rows_short) == (1, 1, 10, 0)
    assert (report.k, report.budget, report.rows, report.truncated_per_row) == (10, 10, 30, 490)


def test_recall_counts_what_it_should():
    """Exact search with a budget of 4 finds 4 of the top 10."""
    index, exact = pair("exact", normal((100, 8), 0))
    report = recall_at_k(index, exact, normal((20, 8), 1), k=10, budget=4)
    assert report.recall == pytest.approx(0.4)
    assert report.rows_short == 20


def test_clusters_with_every_probe_are_exact():
    vectors, bias = normal((600, 10), 0), normal(600, 1)
    index, exact = pair("clustered", vectors, bias, num_clusters=20, probes=20)
    x = normal((50, 10), 2)
    assert recall_at_k(index, exact, x, 10, 10).recall == 1
    np.testing.assert_allclose(index.query(x, 10).scores, exact.query(x, 10).scores, rtol=1e-5, atol=1e-5)


EVERYTHING = {"num_clusters": 30, "num_branches": 6, "branches": 6, "probes": 30}


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("rows", [1, 50, 300])  # one by one, and cell by cell
def test_a_tree_with_every_probe_is_exact(with_bias, rows):
    """Although it looks at rows in 8 bits: what may be among the best is scored again."""
    vectors, bias = normal((3000, 33), 0), normal(3000, 1) if with_bias else None
    index, exact = pair("tree", vectors, bias, **EVERYTHING)
    x = normal((rows, 33), 2)
    for queries in (x, np.abs(x)):
        found, best = index.query(queries, 10), exact.query(queries, 10)
        np.testing.assert_array_equal(found.ids, best.ids)
        np.testing.assert_allclose(found.scores, best.scores, rtol=1e-5, atol=1e-5)
        assert (found.found == 3000).all()


@pytest.mark.parametrize("recall", [0.5, 0.9, 1.0])
def test_a_tree_is_tuned_to_the_fewest_probes(recall):
    vectors, x = normal((4000, 16), 0), normal((80, 16), 1)
    index, exact = pair("tree", vectors, num_clusters=60, branches=1)
    reached = index.tune(x, recall, k=5)
    assert reached == recall_at_k(index, exact, x, 5, 5).recall
    assert reached >= recall
    index.probes -= 1
    assert index.probes == 0 or recall_at_k(index, exact, x, 5, 5).recall < recall


def test_tuning_says_what_it_cannot_do():
    index, _ = pair("tree", normal((100, 8), 0))
    for x, options, says in (
        (np.zeros((0, 8), np.float32), {}, "x must have rows"),
        (np.zeros((2, 7), np.float32), {}, "x must have shape"),
        (np.zeros((2, 8), np.float32), {"recall": 1.5}, "recall"),
        (np.zeros((2, 8), np.float32), {"k": 0}, "k must be"),
    ):
        with pytest.raises(InputError, match=says):
            index.tune(x, **options)


def test_weights_that_are_no_numbers_any_more_come_last():
    vectors = normal((60, 8), 0)
    index, _ = pair("tree", vectors, num_clusters=3, branches=3, probes=3)
    vectors[::2] = np.nan
    found = index.query(normal((4, 8), 1), 60)
    for i in range(4):
        assert (found[i][:30] % 2 == 1).all()
        assert (found.scores[found.indptr[i] + 30 : found.indptr[i + 1]] == -np.inf).all()


def test_one_row_finds_what_many_find():
    vectors, x = normal((3000, 20), 0), normal((200, 20), 1)
    index, _ = pair("tree", vectors)
    many = index.query(x, 7)
    for i in range(0, 200, 20):
        one = index.query(x[i : i + 1], 7)
        np.testing.assert_array_equal(one.ids, many[i])
        np.testing.assert_array_equal(one.scores, many.scores[many.indptr[i] : many.indptr[i + 1]])


@pytest.mark.parametrize("name", ["clustered", "tree"])
@pytest.mark.parametrize("lift", ["none", "bias", "norm"])
def test_clusters_find_planted_groups_with_few_probes(name, lift):
    vectors, queries = planted()
    index, exact = pair(name, vectors, num_clusters=40, probes=4, lift=lift)
    report = recall_at_k(index, exact, queries, k=10, budget=10)
    assert report.recall > 0.9  # the true top 10 lie within one group, which k-means splits or keeps whole
    assert report.scored_fraction < 0.25


@pytest.mark.parametrize(("name", "options"), [("clustered", {}), ("tree", {"branches": 45})])
def test_probes_buy_recall(name, options):
    vectors, x = normal((2000, 16), 0), normal((60, 16), 1)
    reports = []
    for probes in (1, 4, 16, 45):
        index, exact = pair(name, vectors, num_clusters=45, probes=probes, **options)
        reports.append(recall_at_k(index, exact, x, 10, 10))
    recalls = [r.recall for r in reports]
    assert recalls == sorted(recalls)
    assert recalls[-1] == 1
    # better than looking at the same share of the items at random, whose recall is that share
    assert all(r.recall > 1.5 * r.scored_fraction for r in reports[:2])


def test_unscored_clusters_return_the_best_lists_first():
    vectors, queries = planted()
    index, exact = pair("clustered", vectors, num_clusters=40, probes=3, scored=False)
    found = index.query(queries, 1000)
    best = exact.query(queries, 1)
    hits = [int(best[i][0]) in found[i].tolist() for i in range(len(queries))]
    assert np.mean(hits) > 0.9
    scored, _ = pair("clustered", vectors, num_clusters=40, probes=3)
    for a, b in zip(found.found, scored.query(queries, 1000).found, strict=True):
        assert a == b


@pytest.mark.parametrize("name", ["clustered", "tree"])
def test_an_item_with_a_large_bias_is_found(name):
    """Only the lift lets the clusters see the bias."""
    vectors, bias = normal((500, 8), 0), np.zeros(500, np.float32)
    bias[123] = 50
    index, exact = pair(name, vectors, bias, num_clusters=22, probes=1)
    x = normal((30, 8), 2)
    assert (exact.query(x, 1).ids == 123).all()
    assert (index.query(x, 1).ids == 123).all()


@pytest.mark.parametrize(("tables", "hashes", "noise"), [(4, 8, 0.1), (12, 10, 0.25)])
def test_lsh_finds_a_neighbour_as_often_as_theory_says(tables, hashes, noise):
    """P[found] = 1 - (1 - p^K)^L for each query; the mean over independent index seeds is held to it."""
    rng, dim, seeds = np.random.default_rng(4), 20, 40
    vectors = normal((60, dim), 5)
    x = vectors + noise * rng.normal(size=vectors.shape).astype(np.float32)
    theory = np.array(
        [
            retrieval_probability(collision_probability("simhash", q, v), hashes, tables)
            for q, v in zip(x, vectors, strict=True)
        ]
    )
    hits = np.zeros((seeds, 60))
    for seed in range(seeds):
        index = make_index("lsh", 60, dim, num_tables=tables, hashes_per_table=hashes, seed=seed)
        index.build(vectors)
        found = index.query(x, 60)
        hits[seed] = [i in found[i] for i in range(60)]
    # Hits of one seed share its hashes: the spread between seeds is the honest error of the mean.
    error = max(hits.mean(axis=1).std() / np.sqrt(seeds), 1e-3)
    assert abs(hits.mean() - theory.mean()) < 5 * error
    assert 0.3 < theory.mean() < 0.999  # the test is not trivial


@pytest.mark.parametrize("family", ["simhash", "sparse_simhash", "dwta"])
def test_lsh_families_beat_chance_on_planted_groups(family):
    vectors, queries = planted()
    index, exact = pair("lsh", vectors, family=family, num_tables=20, hashes_per_table=4)
    report = recall_at_k(index, exact, queries, k=10, budget=50)
    assert report.recall > 0.5  # 50 of 1,000 at random would find .05


def test_lsh_with_minhash_on_sparse_counts():
    rng = np.random.default_rng(8)
    vectors = (rng.random((300, 60)) < 0.15).astype(np.float32)
    index, _ = pair("lsh", vectors, family="minhash", num_tables=16, hashes_per_table=2)
    found = index.query(vectors, 1)
    assert (vectors[found.ids] == vectors).all()  # a row agrees with itself in every table
    assert (found.scores == 16).all()


def test_reranking_orders_by_inner_product_and_finds_more():
    vectors, bias = normal((1000, 12), 0), normal(1000, 1)
    x = normal((40, 12), 2)
    plain, exact = pair("lsh", vectors, bias, hashes_per_table=5)
    ranked, _ = pair("lsh", vectors, bias, hashes_per_table=5, rerank=True)
    found = ranked.query(x, 20)
    scores = x @ vectors.T + bias
    at = np.repeat(np.arange(40), found.counts)
    np.testing.assert_allclose(found.scores, scores[at, found.ids], rtol=1e-5, atol=1e-5)
    assert recall_at_k(ranked, exact, x, 10, 20).recall > recall_at_k(plain, exact, x, 10, 20).recall


def test_scores_follow_the_live_weights():
    """Tables stay as they were, scores do not."""
    vectors, x = normal((200, 6), 0), normal((5, 6), 1)
    for name, options in (
        ("exact", {}),
        ("clustered", {"num_clusters": 5, "probes": 5}),
        ("tree", {"num_clusters": 5, "branches": 5, "probes": 5}),
        ("lsh", {"rerank": True}),
    ):
        index, _ = pair(name, vectors, **options)
        before = index.query(x, 3)
        vectors *= 2
        after = index.query(x, 3)
        np.testing.assert_array_equal(before.ids, after.ids)
        np.testing.assert_allclose(after.scores, 2 * before.scores, rtol=1e-6)


def test_many_buckets_are_folded_to_fit_the_items():
    vectors = normal((300, 10), 0)
    index, _ = pair("lsh", vectors, num_tables=3, hashes_per_table=24)
    assert index.occupancy().buckets == 3 * 1024
    assert (index.query(vectors, 1).scores == 3).all()  # every row still meets itself


def test_capacity_drops_are_reported():
    vectors, _ = planted()
    index, _ = pair("lsh", vectors, num_tables=4, hashes_per_table=3, bucket_capacity=10)
    o = index.occupancy()
    assert o.largest == 10
    assert 0.5 < o.dropped_fraction < 1


def test_kmeans_ends_where_lloyd_must():
    """At the fixed point every centroid is the mean of the points nearest to it."""
    points = normal((500, 6), 0)
    centroids = kmeans(points, 9, 200, np.random.default_rng(1))
    members = np.square(points[:, None] - centroids[None]).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(assign(points, centroids), members)
    for c in range(9):
        np.testing.assert_allclose(centroids[c], points[members == c].mean(axis=0), atol=1e-5)


def test_kmeans_never_gets_worse_and_loses_no_cluster():
    points = normal((400, 5), 0)
    points[:200] = points[0]  # many equal points: starts that coincide leave clusters empty
    inertia = []
    for iterations in range(8):
        c = kmeans(points, 12, iterations, np.random.default_rng(3))
        inertia.append(float(np.square(points - c[assign(points, c)]).sum()))
        assert np.isfinite(c).all()
    assert inertia[-1] < inertia[0]


def test_the_lift_turns_inner_products_into_distances():
    vectors, bias, x = normal((50, 6), 0), normal(50, 1), normal((9, 6), 2)
    lift = Lift.fit("norm", vectors, bias)
    items, queries = lift.items(vectors, bias), lift.queries(x)
    np.testing.assert_allclose(np.linalg.norm(items, axis=1), lift.largest, rtol=1e-5)
    np.testing.assert_allclose(queries @ items.T, x @ vectors.T + bias, rtol=1e-4, atol=1e-5)
    distance = np.linalg.norm(queries[:, None] - items[None], axis=2)
    np.testing.assert_array_equal(distance.argmin(axis=1), (x @ vectors.T + bias).argmax(axis=1))


def test_vectors_too_long_to_square_are_refused():
    with pytest.raises(InputError, match="scale them down"):
        pair("clustered", np.full((5, 2), 1e30, np.float32))


def test_reports_need_matching_indexes_and_rows():
    a, exact = pair("exact", normal((5, 2), 0))
    other, _ = pair("exact", normal((6, 2), 0))
    for index, queries in ((other, normal((1, 2), 0)), (a, np.zeros((0, 2), np.float32))):
        with pytest.raises(InputError):
            recall_at_k(index, exact, queries, 1, 1)


@pytest.mark.parametrize("nonnegative", [False, True])
def test_eight_bits_keep_the_order_of_nearly_everything(nonnegative):
    """Noise of about 1 % of the scores' spread swaps neighbours at the cut only."""
    vectors, x = normal((5000, 64), 0), normal((50, 64), 1)
    x = np.maximum(x, 0) if nonnegative else x
    exact, rough = make_index("exact", 5000, 64), make_index("exact", 5000, 64, precision="int8")
    exact.build(vectors)
    rough.build(vectors)
    assert recall_at_k(rough, exact, x, k=100, budget=100).recall > 0.97
    assert recall_at_k(rough, exact, x, k=100, budget=110).recall > 0.999


def test_eight_bits_follow_the_weights_only_when_told():
    vectors = normal((50, 8), 0)
    index = make_index("exact", 50, 8, precision="int8")
    index.build(vectors)
    before = index.query(normal((3, 8), 1), 5)
    vectors[:] = 0
    np.testing.assert_array_equal(index.query(normal((3, 8), 1), 5).scores, before.scores)
    index.refill()
    assert not index.query(normal((3, 8), 1), 5).scores.any()
    with pytest.raises(InputError, match="precision must be one of fp32, int8"):
        make_index("exact", 50, 8, precision="int4")
