"""Active sets against a plain-Python twin that follows the definition word by word."""

from __future__ import annotations

import numpy as np
import pytest

from hashfold.errors import InputError
from hashfold.index import Candidates, all_active, select_rows, select_shared
from hashfold.kernels import native
from hashfold.sparse import RaggedIds


def candidates_of(rows: list[list[int]], num_items: int) -> Candidates:
    indptr = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    ids = np.array([i for row in rows for i in row], np.int32)
    return Candidates(indptr, ids, np.zeros(len(ids), np.float32), num_items, np.diff(indptr))


def random_rows(rng: np.random.Generator, rows: int, most: int, num_items: int) -> list[list[int]]:
    return [rng.choice(num_items, rng.integers(0, most + 1), replace=False).tolist() for _ in range(rows)]


@pytest.mark.parametrize("with_labels", [True, False])
@pytest.mark.parametrize("with_candidates", [True, False])
@pytest.mark.parametrize("uniform", [0, 7, 60, 10_000])
def test_shared_follows_the_definition(with_labels, with_candidates, uniform, threads):
    rng, rows, num_items = np.random.default_rng(uniform), 70, 120
    label_rows = [sorted(r) for r in random_rows(rng, rows, 2, 40)] if with_labels else [[]] * rows
    found = random_rows(rng, rows, 2, 60) if with_candidates else [[]] * rows
    labels = RaggedIds.from_lists(label_rows, num_items) if with_labels else None
    candidates = candidates_of(found, num_items) if with_candidates else None

    active = select_shared(candidates, labels, num_items, uniform, seed=3, num_rows=rows)

    certain = list(dict.fromkeys([i for r in label_rows for i in r] + [i for r in found for i in r]))
    drawn = min(uniform, num_items - len(certain))
    assert active.shared
    assert active.num_rows == rows
    assert active.num_certain == len(certain)
    assert active.ids[: len(certain)].tolist() == certain
    assert len(active.ids) == len(set(active.ids.tolist())) == len(certain) + drawn
    assert active.ids.min(initial=0) >= 0
    assert active.ids.max(initial=0) < num_items
    np.testing.assert_array_equal(active.weights[: len(certain)], 1)
    if drawn:
        np.testing.assert_allclose(active.weights[len(certain) :], (num_items - len(certain)) / drawn, rtol=1e-6)
    assert active.stats.active == rows * len(active.ids)
    if with_labels:
        np.testing.assert_array_equal(active.label_indptr, labels.indptr)
        np.testing.assert_array_equal(active.ids[active.label_positions], labels.ids)
        assert active.label_positions.dtype == np.int64
    else:
        assert active.label_positions is None
    if with_labels and with_candidates:
        missed = sum(len(set(want) - set(have)) for want, have in zip(label_rows, found, strict=True))
        assert active.stats.labels_missed == missed
        assert active.stats.labels == len(labels.ids)
    else:
        assert active.stats.labels_missed == active.stats.labels == 0


def test_shared_is_the_same_for_a_seed_and_another_for_another():
    draw = [select_shared(None, None, 10**6, 500, seed=s, num_rows=4).ids for s in (1, 1, 2)]
    np.testing.assert_array_equal(draw[0], draw[1])
    assert len(np.intersect1d(draw[0], draw[2])) < 10  # expected 0.25


@pytest.mark.parametrize("uniform", [8, 30])  # by rejection, and by shuffling what is left
def test_negatives_are_uniform(uniform):
    num_items, draws = 40, 4000
    labels = RaggedIds.from_lists([[5]], num_items)
    counts = np.zeros(num_items)
    for seed in range(draws):
        counts[select_shared(None, labels, num_items, uniform, seed, 1).ids[1:]] += 1
    assert counts[5] == 0
    p = uniform / (num_items - 1)
    # each count is binomial(draws, p); 5.2 standard deviations in 39 bins: one false alarm in 10^5
    assert np.abs(np.delete(counts, 5) - draws * p).max() < 5.2 * np.sqrt(draws * p * (1 - p))


def test_weights_make_the_sum_unbiased():
    """sum_i weight_i f(i) over the active set has the expectation sum over all neurons."""
    num_items, f = 200, np.random.default_rng(0).normal(size=200)
    labels = RaggedIds.from_lists([[3, 9]], num_items)
    sums = []
    for seed in range(3000):
        active = select_shared(None, labels, num_items, 20, seed, 1)
        sums.append((active.weights * f[active.ids]).sum())
    assert abs(np.mean(sums) - f.sum()) < 5 * np.std(sums) / np.sqrt(len(sums))


@pytest.mark.parametrize("fill", ["none", "uniform"])
@pytest.mark.parametrize(("budget", "minimum"), [(1, 0), (4, 0), (6, 6), (3, 20), (50, 100)])
def test_rows_follow_the_definition(budget, minimum, fill, threads):
    rng, rows, num_items = np.random.default_rng(budget), 90, 40
    label_rows = [sorted(r) for r in random_rows(rng, rows, 5, num_items)]
    found = random_rows(rng, rows, 8, num_items)
    labels = RaggedIds.from_lists(label_rows, num_items)

    active = select_rows(candidates_of(found, num_items), labels, num_items, budget, minimum, fill, seed=11)

    filled = rows_filled = truncated = missed = 0
    for i in range(rows):
        want, have = label_rows[i], [c for c in found[i] if c not in label_rows[i]]
        room = max(0, budget - len(want))
        certain = want + have[:room]
        drawn = max(0, min(minimum, num_items) - len(certain)) if fill == "uniform" else 0
        got = active.ids[active.indptr[i] : active.indptr[i + 1]].tolist()
        weights = active.weights[active.indptr[i] : active.indptr[i + 1]]
        assert got[: len(certain)] == certain
        assert len(got) == len(set(got)) == len(certain) + drawn
        np.testing.assert_array_equal(weights[: len(certain)], 1)
        if drawn:
            np.testing.assert_allclose(weights[len(certain) :], (num_items - len(certain)) / drawn, rtol=1e-6)
        filled, rows_filled = filled + drawn, rows_filled + (drawn > 0)
        truncated += len(have) - len(have[:room])
        missed += len(set(want) - set(found[i]))
    stats = active.stats
    assert (stats.filled, stats.rows_filled, stats.truncated) == (filled, rows_filled, truncated)
    assert (stats.labels_missed, stats.labels, stats.active) == (missed, len(labels.ids), len(active.ids))
    np.testing.assert_array_equal(active.ids[active.label_positions], labels.ids)
    assert len(active.ids) == len(active.weights) == active.indptr[-1]


def test_rows_without_labels_keep_the_candidates_in_order():
    active = select_rows(candidates_of([[4, 2, 9], [], [1]], 10), None, 10, budget=2)
    assert active.ids.tolist() == [4, 2, 1]
    assert active.indptr.tolist() == [0, 2, 2, 3]
    assert active.label_positions is None
    assert active.stats.truncated == 1


def test_rows_do_not_depend_on_threads():
    found = candidates_of(random_rows(np.random.default_rng(1), 200, 3, 1000), 1000)
    before, sets = native.num_threads(), []
    for count in (1, 2):
        native.set_num_threads(count)
        sets.append(select_rows(found, None, 1000, 10, minimum=10, seed=5))
    native.set_num_threads(before)
    np.testing.assert_array_equal(sets[0].ids, sets[1].ids)


def test_every_row_draws_its_own_fill():
    active = select_rows(candidates_of([[]] * 20, 10**6), None, 10**6, 10, minimum=10, seed=5)
    assert len(np.unique(active.ids)) > 195  # 200 draws from a million: a repeat is expected in 1 of 50 runs


def test_all_active_covers_all():
    labels = RaggedIds.from_lists([[1, 3], []], 5)
    active = all_active(5, labels, 2)
    assert active.covers_all
    assert active.label_positions.tolist() == [1, 3]
    assert active.stats.active_fraction == 1


def test_no_rows_at_all():
    active = select_shared(Candidates.empty(0, 9), RaggedIds.from_lists([], 9), 9, 4, 0, 0)
    assert len(active.ids) == 4
    assert len(select_rows(Candidates.empty(0, 9), None, 9, 3).ids) == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda: select_shared(None, RaggedIds.from_lists([[7]], 8), 5, 1, 0, 1),
        lambda: select_shared(None, RaggedIds.from_lists([[1]], 5), 5, 1, 0, 2),
        lambda: select_shared(None, None, 5, -1, 0, 1),
        lambda: select_shared(None, None, 0, 1, 0, 1),
        lambda: select_rows(candidates_of([[7]], 8), None, 5, 1),
        lambda: select_rows(candidates_of([[1]], 5), None, 5, 0),
        lambda: select_rows(candidates_of([[1]], 5), None, 5, 1, fill="best"),
        lambda: all_active(5, RaggedIds.from_lists([[1]], 5), 2),
    ],
)
def test_misuse_is_one_line(call):
    with pytest.raises(InputError) as caught:
        call()
    assert "\n" not in str(caught.value)
