"""What every index over sparse rows promises; a new one is covered by being registered."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.sparse as sp

from hashfold.errors import InputError
from hashfold.index import ROW_INDEXES, PackedRowIndex, make_row_index, rows, rows_hashed, rows_packed
from hashfold.kernels import native
from hashfold.sparse import CsrBatch

N, WIDTH, QUERIES = 500, 300, 40


@pytest.fixture(params=sorted(ROW_INDEXES))
def name(request):
    return request.param


@pytest.fixture(params=[rows.BLOCK_ROWS, 64], ids=["one block", "blocks"])
def blocks(request, monkeypatch):
    monkeypatch.setattr(rows, "BLOCK_ROWS", request.param)
    monkeypatch.setattr(rows_packed, "BLOCK_ROWS", request.param)
    monkeypatch.setattr(rows_hashed, "PART_ROWS", 96)


def sparse_rows(count: int, seed: int, width: int = WIDTH, density: float = 0.04) -> CsrBatch:
    """Unit rows of about width * density positive values; columns are unevenly common, some rows are empty."""
    random = np.random.default_rng(seed)
    common = np.minimum(0.8, density * width * 0.3 / (1 + np.arange(width)) + density / 2)
    dense = random.random((count, width)).astype(np.float32) * (random.random((count, width)) < common)
    dense[random.random(count) < 0.05] = 0
    norms = np.linalg.norm(dense, axis=1, keepdims=True)
    return CsrBatch.from_scipy(sp.csr_array(dense / np.where(norms > 0, norms, 1)))


def filled(name: str, count: int = N, seed: int = 0, **options):
    index = make_row_index(name, WIDTH, **options)
    index.add(sparse_rows(count, seed))
    return index


def products(index, x: CsrBatch) -> np.ndarray:
    return (x.to_scipy() @ index.rows().to_scipy().T).toarray()


def assert_same(a, b):
    for part in ("indptr", "ids", "scores", "found"):
        np.testing.assert_array_equal(getattr(a, part), getattr(b, part), strict=True)


def scores_of(found, row):
    return found.scores[found.indptr[row] : found.indptr[row + 1]]


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("k", [1, 7, 10**9])
def test_candidates_keep_their_promises(name, k):
    index, x = filled(name), sparse_rows(QUERIES, 1)
    truth = products(index, x)
    found = index.query(x, k)
    assert (found.indptr.dtype, found.ids.dtype, found.scores.dtype) == (np.int64, np.int32, np.float32)
    assert len(found) == QUERIES
    assert found.num_items == len(index) == N
    assert (found.counts <= min(k, N)).all()
    assert (found.counts <= found.found).all()
    assert (found.found <= N).all()
    assert len(found.ids) > QUERIES // 2
    for i in range(QUERIES):
        assert len(np.unique(found[i])) == len(found[i])
        assert (scores_of(found, i) > 0).all()
        np.testing.assert_allclose(scores_of(found, i), truth[i, found[i]], rtol=1e-5)
        order = np.lexsort((found[i], -scores_of(found, i)))
        np.testing.assert_array_equal(order, np.arange(len(order)))


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("k", [1, 20, N])
@pytest.mark.parametrize("name", ["inverted", "packed"])
def test_an_exact_index_is_brute_force(name, k):
    index, x = filled(name), sparse_rows(QUERIES, 1)
    truth, found = products(index, x), index.query(x, k)
    for i in range(QUERIES):
        best = np.sort(truth[i][truth[i] > 0])[::-1][:k]
        np.testing.assert_allclose(scores_of(found, i), best, rtol=1e-5)
    np.testing.assert_array_equal(found.found, (truth > 0).sum(axis=1))


@pytest.mark.parametrize("k", [1, 2, 10])
@pytest.mark.parametrize("name", ["inverted", "packed"])
def test_a_few_of_many_rows(name, k, monkeypatch):
    """More strips of sums than rows wanted: the best of the strips bound what is looked at."""
    monkeypatch.setattr(rows, "BLOCK_ROWS", 1500)
    monkeypatch.setattr(rows_packed, "BLOCK_ROWS", 1472)
    index, x = filled(name, 4000), sparse_rows(4000, 0).take(np.arange(0, 4000, 37))
    own = np.arange(0, 4000, 37, dtype=np.int32)
    truth = products(index, x)
    for exclude in (None, own):
        found = index.query(x, k, exclude)
        for i in range(len(x)):
            best = np.sort(truth[i][truth[i] > 0])[::-1][:k]
            np.testing.assert_allclose(scores_of(found, i), best, rtol=1e-5)
        truth[np.arange(len(x)), own] = 0


def test_rows_that_are_equal_but_for_rounding_go_by_id(monkeypatch):
    """Rows i and i + 64 are the same, but their sums are added in another order: columns 0 to 9 are common in
    the first block alone.
    """
    monkeypatch.setattr(rows, "BLOCK_ROWS", 64)
    random = np.random.default_rng(0)
    dense = np.zeros((128, 60), np.float32)
    dense[:32] = random.random((32, 60)) * (random.random((32, 60)) < 0.08)
    dense[64:96] = dense[:32]
    dense[32:64, :10] = 0.01
    index = make_row_index("inverted", 60)
    index.add(CsrBatch.from_scipy(dense))
    found = index.query(CsrBatch.from_scipy(random.random((500, 60))), 5)
    for i in range(len(found)):
        ids = found[i].tolist()
        assert all(id - 64 in ids[: ids.index(id)] for id in ids if id >= 64)


@pytest.mark.usefixtures("blocks")
def test_every_index_finds_most_of_the_nearest_rows(name):
    """Also: the same row gets the same bits from each of them that stores it in 8 bits."""
    x = sparse_rows(QUERIES, 1)
    options = {"simhash": {"hashes_per_table": 3}}.get(name, {})  # 500 rows fill no more buckets
    same = {"packed": 0.1}.get(name, 0)
    exact, found = filled("inverted").query(x, 5), filled(name, **options).query(x, 5)
    scores = [dict(zip(exact[i].tolist(), scores_of(exact, i).tolist(), strict=True)) for i in range(QUERIES)]
    hits = 0
    for i in range(QUERIES):
        for id, score in zip(found[i].tolist(), scores_of(found, i).tolist(), strict=True):
            hits += id in scores[i]
            assert abs(scores[i].get(id, score) - score) <= same * score
    assert hits >= 0.8 * len(exact.ids)


@pytest.mark.usefixtures("blocks")
def test_a_row_finds_itself_unless_it_is_excluded(name):
    index, x = filled(name), sparse_rows(N, 0)
    full = np.flatnonzero(np.diff(x.indptr)).astype(np.int32)
    first = index.query(x.take(full), 3)
    np.testing.assert_array_equal(first.ids[first.indptr[:-1]], full)
    without = index.query(x.take(full), 3, exclude=full)
    for row, id in enumerate(full):
        assert id not in without[row]
        others = first[row][first[row] != id]
        np.testing.assert_array_equal(without[row][: len(others)], others)
    assert_same(first, index.query(x.take(full), 3, exclude=np.full(len(full), -1)))


@pytest.mark.usefixtures("blocks")
def test_rows_added_in_parts_are_rows_added_at_once(name):
    x, queries = sparse_rows(N, 0), sparse_rows(QUERIES, 1)
    parts = make_row_index(name, WIDTH)
    for at in (0, 1, 2, 70, 71, 200):
        parts.add(x.take(np.arange(at, {0: 1, 1: 2, 2: 70, 70: 71, 71: 200, 200: N}[at])))
        parts.query(queries, 4)
    assert_same(parts.query(queries, 9), filled(name).query(queries, 9))


@pytest.mark.usefixtures("blocks")
def test_the_state_makes_an_equal_index_that_goes_on(name):
    index, queries = filled(name), sparse_rows(QUERIES, 1)
    again = make_row_index(**json.loads(json.dumps(index.config())))
    again.add(sparse_rows(9, 5))
    state = index.state()
    again.load_state(state)
    assert again.config() == index.config()
    assert set(state) == set(index.state_names)
    for array in state.values():
        array[...] = 0
    for _ in range(2):
        assert_same(again.query(queries, 9), index.query(queries, 9))
        for one in (again, index):
            one.add(sparse_rows(100, 6))
    np.testing.assert_equal(again.state(), index.state())


def test_the_same_bits_with_any_threads_and_instruction_set(name):
    index, x = filled(name), sparse_rows(QUERIES, 1)
    answer = index.query(x, 8)
    before = native.num_threads()
    for threads in (1, 2):
        native.set_num_threads(threads)
        assert_same(index.query(x, 8), answer)
    native.set_num_threads(before)
    for level in native.isa_levels():
        with native.isa_forced(level):
            assert_same(index.query(x, 8), answer)


def test_stored_values_are_within_half_a_step(name):
    x = sparse_rows(N, 0)
    kept = filled(name).rows()
    largest = x.to_scipy().max(axis=1).toarray().reshape(-1, 1)
    steps = {"packed": 16}.get(name, 255)
    assert (np.abs((x.to_scipy() - kept.to_scipy()).toarray()) <= largest / steps * 0.5001).all()
    kept.validate()
    np.testing.assert_array_equal(filled(name).rows(17, 23).values, kept.take(np.arange(17, 23)).values)


def test_columns_far_apart_and_values_far_apart():
    """Steps above 2^16 are bridged, and a row's own scale serves values of any size."""
    wide = 2**21
    columns = np.array([0, 65_535, 131_071, 65_535 * 7, wide - 1], np.int32)
    for size in (1e-38, 1.0, 3e38):
        values = (np.array([255, 17, 100, 1, 254]) * (size / 255)).astype(np.float32)
        index = rows_of(wide, [columns, columns[4:], []], [values, values[4:], []])
        kept = index.rows()
        np.testing.assert_array_equal(kept.indptr, [0, 5, 6, 6])
        np.testing.assert_array_equal(kept.indices[:5], columns)
        np.testing.assert_allclose(kept.values[:5], values, rtol=1e-4)
        query = CsrBatch(np.array([0, 1]), columns[4:], np.ones(1, np.float32), wide)
        found = index.query(query, 3)
        assert sorted(found.ids.tolist()) == [0, 1]
        np.testing.assert_allclose(found.scores, values[4], rtol=1e-4)


def rows_of(width, columns, values):
    indptr = np.cumsum([0, *map(len, columns)])
    index = make_row_index("inverted", width)
    index.add(CsrBatch(indptr, np.concatenate(columns).astype("i4"), np.concatenate(values).astype("f4"), width))
    return index


def test_equal_scores_go_by_smaller_id(name):
    one = sparse_rows(3, 8, density=0.2).take([1])
    index = make_row_index(name, WIDTH)
    index.add(one.take(np.zeros(300, int)))
    assert index.query(one, 4).ids.tolist() == [0, 1, 2, 3]


def test_no_rows_no_queries_and_empty_rows(name):
    index = make_row_index(name, WIDTH)
    none = sparse_rows(0, 0)
    assert len(index) == 0
    assert len(index.query(sparse_rows(3, 0), 5).ids) == 0
    index.add(none)
    assert len(index.rows()) == 0
    index.add(CsrBatch(np.zeros(4, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), WIDTH))
    assert len(index) == 3
    assert len(index.query(sparse_rows(3, 0), 5).ids) == 0
    index.add(sparse_rows(N, 0))
    assert len(index.query(none, 5)) == 0
    empty = CsrBatch(np.zeros(3, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), WIDTH)
    assert index.query(empty, 5).indptr.tolist() == [0, 0, 0]


def test_bytes_are_told(name):
    small, large = filled(name, 100), filled(name, 400)
    assert 0 < small.row_nbytes < large.row_nbytes < large.nbytes
    entries, count = large.rows().nnz, len(large)
    assert large.row_nbytes <= 3 * entries + 12 * (count + 1)
    assert sum(a.nbytes for a in large.state().values()) <= 3 * entries + 6 * count


def with_values(*values):
    return CsrBatch(np.array([0, len(values)]), np.arange(len(values), dtype="i4"), np.array(values, "f4"), WIDTH)


UNSORTED = CsrBatch(np.array([0, 2]), np.array([5, 3], "i4"), np.ones(2, "f4"), WIDTH)
OUTSIDE = CsrBatch(np.array([0, 1]), np.array([WIDTH], "i4"), np.ones(1, "f4"), WIDTH)
GOOD = sparse_rows(2, 3)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda i: i.add(with_values(1, np.nan)), "must be finite; got nan at position 1"),
        (lambda i: i.add(with_values(-1)), "at least 0"),
        (lambda i: i.add(UNSORTED), "must ascend"),
        (lambda i: i.add(OUTSIDE), "must lie in"),
        (lambda i: i.add(sparse_rows(2, 0, width=WIDTH + 1)), f"rows must be {WIDTH} wide"),
        (lambda i: i.add(np.ones((2, WIDTH))), "CsrBatch"),
        (lambda i: i.query(with_values(np.inf), 3), "at least 0"),
        (lambda i: i.query(OUTSIDE, 3), "must lie in"),
        (lambda i: i.query(sparse_rows(2, 0, width=WIDTH - 1), 3), f"rows must be {WIDTH} wide"),
        (lambda i: i.query(GOOD, 0), "k must be"),
        (lambda i: i.query(GOOD, 3, exclude=[1]), "exclude must have shape (2)"),
        (lambda i: i.query(GOOD, 3, exclude=[0, N]), "exclude must lie in"),
        (lambda i: i.query(GOOD, 3, exclude=[-2, 0]), "exclude must lie in"),
        (lambda i: i.rows(3, N + 1), "last must be"),
        (lambda i: i.rows(5, 3), "first must be"),
        (lambda i: make_row_index(i.name, 0), "num_cols"),
        (lambda i: make_row_index(i.name, 5, colour=3), "'colour'"),
    ],
)
def test_misuse_is_one_line_and_changes_nothing(name, call, says):
    index = filled(name)
    before = index.state()
    with pytest.raises(InputError) as caught:
        call(index)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    np.testing.assert_equal(index.state(), before)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("annoy", {}, "one of inverted, minhash, packed, pruned, simhash"),
        ("pruned", {"budget": 0}, "budget"),
        ("pruned", {"pool": 0}, "pool"),
        ("packed", {"bits": 9}, "bits"),
        ("packed", {"block_rows": 2**20}, "block_rows"),
        ("packed", {"block_rows": 100}, "a multiple of 64"),
        ("minhash", {"num_tables": 2**10, "bucket_bits": 20}, "buckets of all tables"),
        ("minhash", {"seed": -1}, "seed"),
        ("simhash", {"hashes_per_table": 40}, "bits"),
        ("simhash", {"nonzero_fraction": 0}, "nonzero_fraction"),
        ("simhash", {"pool": 1.5}, "pool"),
    ],
)
def test_bad_options_are_refused(name, options, says):
    with pytest.raises(InputError, match=says):
        make_row_index(name, WIDTH, **options)


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(name):
    index = filled(name)
    before = index.state()
    wrong = [before | {"more": np.zeros(1)}, dict(list(before.items())[1:])]
    wrong += [before | {part: a[:-1]} for part, a in before.items()]
    more = {part: np.append(a, a[-1:]) for part, a in before.items()}
    if name == "packed":
        del more["scales"]  # of a row without entries
    wrong += [before | {part: a} for part, a in more.items()]
    wrong += [before | {part: a.astype(np.float64)} for part, a in before.items()]
    wrong += [before | {part: a * 0} for part, a in before.items() if part in ("values", "columns", "levels")]
    wrong += [before | {coded(name): before[coded(name)] | 128}]
    wrong += [before | {"scales": bad} for bad in (-before["scales"], before["scales"] * np.nan)]
    wide = make_row_index(name, WIDTH + 9)
    wide.add(sparse_rows(5, 0, WIDTH + 9, density=0.9))
    for state in [*wrong, wide.state()]:
        with pytest.raises(InputError) as caught:
            index.load_state(state)
        assert "\n" not in str(caught.value)
    np.testing.assert_equal(index.state(), before)


def coded(name: str) -> str:
    """The array of the state that says which columns a row has."""
    return {"packed": "lists"}.get(name, "columns")


def test_damaged_columns_never_pass_for_rows(name):
    """Any change of a byte gives an error or rows that keep their promises."""
    state = filled(name, 60).state()
    random = np.random.default_rng(0)
    index, refused = make_row_index(name, WIDTH), 0
    for _ in range(200):
        columns = state[coded(name)].copy()
        columns[random.integers(len(columns))] = random.integers(256)
        try:
            index.load_state(state | {coded(name): columns})
        except InputError:
            refused += 1
        else:
            index.rows().validate()
            index.query(GOOD, 3)
    assert refused > 50


def test_a_budget_visits_the_heaviest_columns_that_fit():
    """Column 0 is heavy but in all rows: it costs 1,000 / 24. Columns 1 and 2 fit together, 3 not any more."""
    dense = np.zeros((1000, 8), np.float32)
    dense[:, 0] = 1
    dense[:10, 1] = 1
    dense[10:15, 2] = 1
    dense[15:25, 3] = 1
    query = CsrBatch.from_scipy(np.array([[4, 3, 2, 1, 0, 0, 0, 0]], np.float32))
    met = {20: range(15), 25: range(25), 9: range(10, 15), 4: range(0), 70: range(1000)}
    for budget, ids in met.items():
        index = make_row_index("pruned", 8, budget=budget, pool=1000)
        index.add(CsrBatch.from_scipy(dense))
        found = index.query(query, 1000)
        assert sorted(found.ids.tolist()) == list(ids)
        scores = dict(zip(found.ids.tolist(), found.scores.tolist(), strict=True))
        for id, score in {0: 7, 10: 6, 15: 5, 25: 4}.items():
            assert scores.get(id, score) == pytest.approx(score)


def test_a_quick_query_visits_half_and_scores_no_more_than_asked_for():
    """Each of the columns costs 100 / 24."""
    dense = np.zeros((100, 4), np.float32)
    dense[:10, 1] = 1
    dense[10:16, 2] = 1
    dense[16:, 3] = 1
    x, query = CsrBatch.from_scipy(dense), CsrBatch.from_scipy(np.array([[0, 3, 2, 1]], np.float32))
    for name, options in (("pruned", {"budget": 8, "pool": 50}), ("inverted", {})):
        index = make_row_index(name, 4, **options)
        index.add(x)
        slow, quick = index.query(query, 100), index.query(query, 100, quick=True)
        if name == "inverted":
            assert len(slow.ids) == len(quick.ids) == 100
        else:
            assert (sorted(slow.ids), sorted(quick.ids)) == (list(range(16)), list(range(10)))
        assert index.query(query, 3, quick=True).ids.tolist() == [0, 1, 2]


@pytest.mark.usefixtures("blocks")
def test_common_and_rare_columns_add_up_alike():
    """A column may be a list in one block and a byte a row in another, and change when rows come."""
    random = np.random.default_rng(0)
    shares = np.array([1, 0.5, 0.1, 0.07, 0.06, 0.05, 0.02, 0.004])
    dense = np.where(random.random((700, 8)) < shares, random.random((700, 8)), 0).astype(np.float32)
    dense[300:400, 0] = 0
    dense[100:130, 7] = 1
    x = CsrBatch.from_scipy(dense)
    index = make_row_index("inverted", 8)
    for part in np.split(np.arange(700), [3, 10, 64, 65, 130, 400]):
        index.add(x.take(part))
        truth, found = products(index, x), index.query(x, len(index))
        np.testing.assert_array_equal(found.counts, (truth > 0).sum(axis=1))
        for i in range(0, 700, 50):
            np.testing.assert_allclose(scores_of(found, i), truth[i, found[i]], rtol=1e-5)


def test_full_buckets_are_left_out_first_and_count_less():
    """600 rows like one half of the query, one like the other: a small budget meets the one alone."""
    dense = np.zeros((601, 40), np.float32)
    dense[:600, :20] = 0.2
    dense[600, 20:] = 0.2
    query = CsrBatch.from_scipy(np.where(np.arange(40) < 20, 0.2, 0.15)[None])
    for budget, met in ((599, 1), (10**6, 601)):
        index = make_row_index("minhash", 40, num_tables=40, budget=budget, pool=1, bucket_bits=12)
        index.add(CsrBatch.from_scipy(dense))
        found = index.query(query, 1)
        assert found.found.tolist() == [met]
        assert found.ids.tolist() == [600]


def tf_idf_rows(count: int, seed: int = 0, width: int = WIDTH) -> CsrBatch:
    """Unit rows of (1 + log count) * idf: columns differ by orders of magnitude."""
    random = np.random.default_rng(seed)
    counts = random.geometric(0.6, (count, width)) * (random.random((count, width)) < 0.08)
    idf = np.exp(np.random.default_rng(99).uniform(-2, 2, width))
    dense = np.where(counts > 0, 1 + np.log(np.maximum(counts, 1)), 0) * idf
    return CsrBatch.from_scipy(
        sp.csr_array(dense / np.maximum(np.linalg.norm(dense, axis=1, keepdims=True), 1e-9))
    )


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize(("bits", "error"), [(1, 0.05), (2, 0.01), (4, 1e-3), (8, 2e-5)])
def test_fitted_levels_come_near_to_tf_idf_rows_and_keep_their_lengths(bits, error):
    x = tf_idf_rows(N)
    index = PackedRowIndex.of(x, bits)
    kept = index.rows()
    kept.validate()
    assert (kept.to_scipy() - x.to_scipy()).power(2).sum() / x.to_scipy().power(2).sum() < error
    lengths = np.sqrt(kept.to_scipy().power(2).sum(axis=1))
    np.testing.assert_allclose(lengths, np.sqrt(x.to_scipy().power(2).sum(axis=1)), rtol=1e-5)
    if bits <= 4:
        plain = make_row_index("packed", WIDTH, bits=bits)
        plain.add(x)
        own = (plain.rows().to_scipy() - x.to_scipy()).power(2).sum()
        assert own > 3 * (kept.to_scipy() - x.to_scipy()).power(2).sum()


@pytest.mark.usefixtures("blocks")
def test_fitted_rows_are_searched_exactly_saved_and_added_to():
    index, x = PackedRowIndex.of(tf_idf_rows(N), 2), tf_idf_rows(QUERIES, 1)
    again = make_row_index(**index.config())
    again.load_state(index.state())
    for part in (tf_idf_rows(30, 3), tf_idf_rows(70, 4)):
        for one in (index, again):
            truth, found = products(one, x), one.query(x, 20)
            for i in range(QUERIES):
                best = np.sort(truth[i])[::-1][:20]
                np.testing.assert_allclose(scores_of(found, i), best[best > 0], rtol=1e-5)
            one.add(part)
        assert_same(index.query(x, 9), again.query(x, 9))
        error = (index.rows(len(index) - len(part)).to_scipy() - part.to_scipy()).power(2).sum()
        assert error < 0.02 * len(part)
    np.testing.assert_equal(index.state(), again.state())


def test_packed_rows_take_little_memory():
    x = tf_idf_rows(20_000, width=400)
    index = PackedRowIndex.of(x, 2)
    assert index.nbytes < 0.98 * x.nnz + 8 * 400 + 4 * len(x)
    assert sum(a.nbytes for a in index.state().values()) <= index.nbytes


def test_rows_without_entries_can_be_fitted():
    nothing = CsrBatch(np.zeros(4, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), WIDTH)
    index = PackedRowIndex.of(nothing, 2)
    assert len(index) == 3
    assert len(index.query(sparse_rows(2, 0), 3).ids) == 0
    ones = PackedRowIndex.of(with_values(1, 1, 0, 1), 3)  # fewer values than levels
    np.testing.assert_allclose(ones.rows().values, 1, rtol=1e-6)
