"""The wide path: update by update against a NumPy twin, and as labels, rows and budgets vary."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from hashfold.errors import InputError
from hashfold.kernels import native
from hashfold.kernels.hashed_blocks import Blocks, FitRule, Tasks, fit, fit_reference
from hashfold.model import Wide
from hashfold.model.wide import block_sizes, buckets_for
from hashfold.sparse import CsrBatch, Ragged

N, WIDTH, LABELS = 60, 90, 25


def sparse_rows(count: int = N, seed: int = 0, width: int = WIDTH) -> CsrBatch:
    """Rows 0 and 7 are empty."""
    random = np.random.default_rng(seed)
    dense = random.standard_normal((count, width)) * (random.random((count, width)) < 0.12)
    dense[[0, 7][:count]] = 0
    return CsrBatch.from_scipy(dense.astype(np.float32))


def chosen_pairs(count: int = N, seed: int = 1, labels: int = LABELS) -> tuple[Ragged, np.ndarray]:
    """Labels 3 and 4 never occur; row 5 has no pair."""
    random = np.random.default_rng(seed)
    known = np.setdiff1d(np.arange(labels), [3, 4])
    lists = [random.permutation(known)[: random.integers(0, 9)] for _ in range(count)]
    lists[5 % count] = known[:0]
    ids = np.concatenate(lists).astype(np.int32)
    indptr = np.concatenate([[0], np.cumsum([len(one) for one in lists])]).astype(np.int64)
    return Ragged(indptr, ids), (random.random(len(ids)) < 0.4).astype(np.float32)


def trained(budget: int = 3000, **options) -> Wide:
    wide = Wide(WIDTH, LABELS, budget_buckets=budget, **options)
    wide.fit(sparse_rows(), *chosen_pairs())
    return wide


def tasks_of(pairs: Ragged, targets: np.ndarray, labels: np.ndarray) -> Tasks:
    """Label by label, by a loop."""
    rows = np.repeat(np.arange(len(pairs), dtype=np.int32), pairs.counts)
    own = [np.flatnonzero(pairs.ids == label) for label in labels]
    indptr = np.concatenate([[0], np.cumsum([len(o) for o in own])]).astype(np.int64)
    order = np.concatenate(own)
    return Tasks(labels.astype(np.int32), indptr, rows[order], targets[order])


RULES = {
    "default": FitRule(),
    "logistic": FitRule(loss="logistic", lr=0.3),
    "l2": FitRule(l2=0.05, floor=0, epochs=3),
    "one epoch": FitRule(epochs=1, bias_rate=0, seed=2**63 - 1),
    "damped": FitRule(initial_sum=0.7, seed=9),
}


@pytest.mark.parametrize("level", native.isa_levels())
@pytest.mark.parametrize("sign", [False, True])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_fit_makes_the_updates_of_the_twin(rule, sign, level):
    """The same floats in the same order: equal bits, but for the exponential of the C library."""
    x, labels = sparse_rows(), np.array([6, 0, 11, 24])
    tasks = tasks_of(*chosen_pairs(), labels)
    sizes = np.full(LABELS, 5, np.int32)
    sizes[[0, 11]] = 200, 16
    blocks = Blocks.of_sizes(sizes, seed=3, sign=sign)
    starts = np.random.default_rng(0).standard_normal(sizes.sum(), np.float32)
    for warm in (False, True):
        ours, theirs = starts.copy(), starts.copy()
        biases = np.full((2, LABELS), -1, np.float32)
        with native.isa_forced(level):
            losses = fit(x, tasks, blocks, rule, biases[0], buckets=ours, warm=warm)
        wanted = fit_reference(x, tasks, blocks, rule, biases[1], theirs, warm)
        tolerance = {"rtol": 0, "atol": 2e-4 if rule.loss == "logistic" else 0}
        np.testing.assert_allclose(ours, theirs, **tolerance)
        np.testing.assert_allclose(biases[0], biases[1], **tolerance)
        np.testing.assert_allclose(losses, wanted, rtol=1e-3 if rule.loss == "logistic" else 1e-12)
        untouched = np.repeat(~np.isin(np.arange(LABELS), labels), sizes)
        assert (ours[untouched] == starts[untouched]).all()
        assert (biases[0, ~np.isin(np.arange(LABELS), labels)] == -1).all()
        assert (ours != starts).any()


@pytest.mark.parametrize("sign", [False, True])
def test_codes_are_the_floats_rounded(sign):
    x, sizes = sparse_rows(), np.full(LABELS, 30, np.int32)
    tasks, blocks = tasks_of(*chosen_pairs(), np.arange(LABELS)), Blocks.of_sizes(sizes, sign=sign)
    floats, codes = np.zeros(sizes.sum(), np.float32), np.zeros(sizes.sum(), np.int8)
    scales, bias = np.zeros(LABELS, np.float32), np.zeros((2, LABELS), np.float32)
    fit(x, tasks, blocks, FitRule(), bias[0], buckets=floats)
    fit(x, tasks, blocks, FitRule(), bias[1], codes=codes, scales=scales)
    assert (bias[0] == bias[1]).all()
    each = np.repeat(scales, sizes)
    assert (np.abs(codes * each - floats) <= 0.5001 * each).all()
    assert np.abs(codes.reshape(LABELS, -1)).max(1).tolist() == [127 * (s > 0) for s in scales]
    assert scales[3] == scales[4] == 0 < scales[6]


def test_scores_are_those_of_the_twin_and_their_contributions():
    wide, x, (pairs, _) = trained(sign=True, seed=5), sparse_rows(40, 9), chosen_pairs(40, 8)
    labels = np.setdiff1d(np.arange(LABELS), [3, 4])
    floats, bias = np.zeros(wide.num_buckets, np.float32), np.full(LABELS, -1, np.float32)
    blocks = Blocks.of_sizes(wide.sizes, 5, True)
    fit_reference(sparse_rows(), tasks_of(*chosen_pairs(), labels), blocks, FitRule(seed=5), bias, floats)
    scores = wide.scores(x, pairs)
    assert (scores.dtype, scores.shape) == (np.float32, (len(pairs.ids),))
    rows = np.repeat(np.arange(40), pairs.counts)
    for score, row, label in zip(scores, rows, pairs.ids, strict=True):
        features, amounts = wide.contributions(x, row, label)
        assert features.tolist() == x.take([row]).indices.tolist()
        np.testing.assert_allclose(score, wide.bias(label) + amounts.sum(dtype=np.float64), atol=1e-5)
        places, signs = blocks.places_and_signs(features, label)
        exact = floats[blocks.offsets[label] + places] * signs * x.take([row]).values
        np.testing.assert_allclose(score, bias[label] + exact.sum(), atol=0.05)
        largest = np.abs(floats[blocks.offsets[label] :][: wide.sizes[label]]).max()
        step = 0.51 * largest / 127 * np.abs(x.take([row]).values)
        assert (np.abs(amounts - exact) <= step + 1e-6).all()


def test_it_learns_what_it_was_shown():
    x, (pairs, targets) = sparse_rows(), chosen_pairs()
    wide = Wide(WIDTH, LABELS, budget_buckets=20_000, epochs=30)
    loss = wide.fit(x, pairs, targets)
    rows = np.repeat(np.arange(N), pairs.counts)
    known = np.diff(x.indptr)[rows] > 0
    right = (wide.scores(x, pairs) > 0) == (targets > 0.5)
    assert right[known].mean() > 0.97
    assert 0 < loss < 0.1
    assert Wide(WIDTH, LABELS, budget_buckets=20_000, epochs=1).fit(x, pairs, targets) > 2 * loss


def test_labels_without_pairs_and_rows_without_features_score_the_bias():
    wide, x = trained(start_bias=-0.75), sparse_rows()
    every = Ragged(np.arange(0, N * LABELS + 1, LABELS), np.tile(np.arange(LABELS, dtype=np.int32), N))
    scores = wide.scores(x, every).reshape(N, LABELS)
    assert (scores[:, [3, 4]] == -0.75).all()
    assert scores[0].tolist() == scores[7].tolist() == [wide.bias(label) for label in range(LABELS)]
    assert wide.sizes[[3, 4]].tolist() == [0, 0]
    assert wide.contributions(x, 1, 3)[1].tolist() == [0] * x.take([1]).nnz


@pytest.mark.parametrize("empty", ["rows", "pairs", "features"])
def test_nothing_to_train_on(empty):
    x, (pairs, targets) = sparse_rows(), chosen_pairs()
    if empty == "rows":
        x, pairs, targets = x.take(np.arange(0)), Ragged(np.zeros(1, np.int64), pairs.ids[:0]), targets[:0]
    elif empty == "pairs":
        pairs, targets = Ragged(np.zeros(N + 1, np.int64), pairs.ids[:0]), targets[:0]
    else:
        x = CsrBatch(np.zeros(N + 1, np.int64), x.indices[:0], x.values[:0], WIDTH)
    wide = Wide(WIDTH, LABELS, budget_buckets=3000)
    wide.fit(x, pairs, targets)
    scores = wide.scores(sparse_rows(), chosen_pairs()[0])
    assert np.isfinite(scores).all()
    assert (scores == -1).all() == (empty != "features")


def test_one_label_only():
    x = sparse_rows()
    pairs, targets = Ragged(np.arange(N + 1), np.zeros(N, np.int32)), (x.to_scipy()[:, [2]].toarray() > 0).ravel()
    wide = Wide(WIDTH, 1, budget_buckets=1000, epochs=20)
    wide.fit(x, pairs, targets.astype(np.float32))
    right = (wide.scores(x, pairs) > 0) == targets
    assert right.mean() > 0.95
    assert right[targets].mean() > 0.5


def test_the_threads_change_nothing():
    before, random = native.num_threads(), np.random.default_rng(0)
    x, ids = sparse_rows(900), [random.permutation(200)[:30] for _ in range(900)]
    pairs = Ragged(np.arange(0, 27_001, 30), np.concatenate(ids).astype(np.int32))
    targets = (random.random(27_000) < 0.3).astype(np.float32)
    states = []
    try:
        for threads in (1, 3):
            native.set_num_threads(threads)
            wide = Wide(WIDTH, 200, budget_buckets=30_000)
            wide.fit(x, pairs, targets)
            states.append([*wide.state().values(), wide.scores(x, pairs)])
    finally:
        native.set_num_threads(before)
    for one, three in zip(*states, strict=True):
        np.testing.assert_array_equal(one, three)


def test_a_label_does_not_depend_on_the_others():
    """Trained alone, with a block of the same size, it gets the same codes."""
    whole, (pairs, targets) = trained(), chosen_pairs()
    only = tasks_of(pairs, targets, np.array([6]))
    codes, scales, bias = np.zeros(whole.num_buckets, np.int8), np.zeros(LABELS, np.float32), np.full(LABELS, -1.0)
    blocks = Blocks.of_sizes(whole.sizes)
    fit(sparse_rows(), only, blocks, FitRule(), bias.astype(np.float32), codes=codes, scales=scales)
    own = slice(blocks.offsets[6], blocks.offsets[7])
    assert codes[own].any()
    assert (codes[own] == whole.state()["codes"][own]).all()


def test_seed_and_sign_matter():
    codes = [
        trained(**o).state()["codes"].tolist() for o in ({}, {"seed": 1}, {"sign": True}, {}, {"initial_sum": 1.0})
    ]
    assert codes[0] == codes[3] != codes[4]
    assert codes[0] != codes[1] != codes[2] != codes[0]


def test_added_rows_train_their_labels_and_no_other():
    wide, x, (pairs, _) = trained(), sparse_rows(), chosen_pairs()
    before = wide.scores(x, pairs)
    new = sparse_rows(30, 50)
    labels = Ragged(np.arange(0, 61, 2), np.tile(np.array([3, 6], np.int32), 30))
    targets = np.tile(np.array([1, 0], np.float32), 30)
    wide.add(new, labels, targets)
    after, touched = wide.scores(x, pairs), np.isin(pairs.ids, [3, 6])
    assert (after[~touched] == before[~touched]).all()
    assert (after[touched] != before[touched]).any()
    assert wide.sizes[3] >= 16 == wide.sizes.dtype.itemsize * 4
    added = wide.scores(new, labels)
    assert added[0::2].mean() > 0 > added[1::2].mean()


def test_added_labels_make_it_grow():
    wide, x, (pairs, _) = trained(), sparse_rows(), chosen_pairs()
    before = wide.scores(x, pairs)
    new = Ragged(np.arange(N + 1), np.full(N, LABELS + 4, np.int32))
    with pytest.raises(InputError, match=r"labels of pairs must lie in \[0, 25\)"):
        wide.add(x, new, np.ones(N, np.float32))
    wide.add(x, new, np.ones(N, np.float32), num_labels=LABELS + 6)
    assert wide.num_labels == LABELS + 6
    assert (wide.scores(x, pairs) == before).all()
    full = np.diff(x.indptr) > 3
    assert wide.scores(x, new)[full].mean() > 0
    assert wide.scores(x, Ragged(new.indptr, new.ids + 1)).tolist() == [-1] * N
    fresh = Wide(WIDTH, 0, budget_buckets=16)
    fresh.add(x, new, np.ones(N, np.float32), num_labels=LABELS + 6)
    assert fresh.scores(x, new)[full].mean() > 0


def test_the_state_makes_an_equal_one():
    wide, x, (pairs, targets) = (
        trained(sign=True, loss="logistic", initial_sum=0.5, seed=2**40 + 3),
        sparse_rows(),
        chosen_pairs(),
    )
    again = Wide(**json.loads(json.dumps(wide.config())))
    again.load_state(wide.state())
    assert again.config() == wide.config()
    assert again.nbytes == wide.nbytes > wide.num_buckets > 0
    for _ in range(2):
        assert (again.scores(x, pairs) == wide.scores(x, pairs)).all()
        for one in (again, wide):
            one.add(x, pairs, 1 - targets)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": lambda a: a[:-1]}, r"sizes must have shape \(25\)"),
        ({"sizes": lambda a: a + 1}, "codes must have shape"),
        ({"sizes": lambda a: a - 1}, "at least 0"),
        ({"sizes": lambda a: a.astype(np.int64)}, "sizes must be of int32"),
        ({"codes": lambda a: a[:-1]}, "codes must have shape"),
        ({"scales": lambda a: a * np.float32("nan")}, "scales must be finite"),
        ({"bias": lambda a: a + np.float32("inf")}, "bias must be finite"),
        ({"nonzeros": lambda a: a - 10**9}, "at least 0"),
        ({"codes": None}, "none for codes"),
    ],
)
def test_a_damaged_state_changes_nothing(change, message):
    wide = trained()
    arrays, before = wide.state(), wide.scores(sparse_rows(), chosen_pairs()[0])
    for name, damage in change.items():
        if damage is None:
            arrays.pop(name)
        else:
            arrays[name] = damage(arrays[name])
    with pytest.raises(InputError, match=message):
        wide.load_state(arrays)
    assert (wide.scores(sparse_rows(), chosen_pairs()[0]) == before).all()


def test_blocks_share_the_budget_by_nonzeros():
    nonzeros, labels = np.array([1000, 0, 100, 0, 3], np.int64), np.array([0, 2, 3, 4], np.int32)
    sizes = block_sizes(nonzeros, labels, 5, 500)
    assert sizes.dtype == np.int32
    assert sizes.sum() <= 500
    assert sizes[1] == 0
    assert sizes[[3, 4]].tolist() == [16, 16]
    assert 8 < (sizes[0] - 16) / (sizes[2] - 16) < 12
    assert block_sizes(nonzeros, labels, 5, 10**9).tolist() == [4000, 0, 400, 16, 16]
    assert block_sizes(nonzeros, labels, 5, 64).tolist() == [16, 0, 16, 16, 16]
    with pytest.raises(InputError, match="at least 64, 16 for each of 4 labels; got 63"):
        block_sizes(nonzeros, labels, 5, 63)


def test_buckets_for():
    assert buckets_for(10, 2**40) == 2**18
    assert buckets_for(10**7, 2**40) == 10**7
    assert buckets_for(2**35, 2**40) == 2**28
    assert buckets_for(10**7, 12345) == 12345
    with pytest.raises(InputError, match="bytes_budget"):
        buckets_for(10**7, 3)


X, (PAIRS, TARGETS) = sparse_rows(), chosen_pairs()
BAD = {
    "width": (sparse_rows(width=WIDTH + 1), PAIRS, TARGETS, "x must have 90 columns; got 91"),
    "rows": (sparse_rows(N - 1), PAIRS, TARGETS, "as many rows; got 59 and 60"),
    "nan": (replace(X, values=X.values * np.float32("nan")), PAIRS, TARGETS, "x must be finite"),
    "label": (X, Ragged(PAIRS.indptr, PAIRS.ids + 9), TARGETS, r"labels of pairs must lie in \[0, 25\)"),
    "negative": (X, Ragged(PAIRS.indptr, PAIRS.ids - 9), TARGETS, r"labels of pairs must lie in \[0, 25\)"),
    "targets": (X, PAIRS, TARGETS[1:], "targets must have shape"),
    "target": (X, PAIRS, TARGETS * 2, r"targets must lie in \[0, 1\]"),
    "nan target": (X, PAIRS, TARGETS * np.float32("nan"), r"targets must lie in \[0, 1\]"),
    "pairs": (X, Ragged(PAIRS.indptr, PAIRS.ids[:-1]), TARGETS[:-1], "must end at the number of pairs"),
}


@pytest.mark.parametrize(("x", "pairs", "targets", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_refused(x, pairs, targets, message):
    wide = trained()
    before = wide.scores(X, PAIRS)
    for call in (wide.fit, wide.add):
        with pytest.raises(InputError, match=message):
            call(x, pairs, targets)
    if "target" not in message:
        with pytest.raises(InputError, match=message):
            wide.scores(x, pairs)
    assert (wide.scores(X, PAIRS) == before).all()


def test_an_overflow_is_refused():
    wide = trained()
    before = wide.scores(X, PAIRS)
    wide.rule = replace(wide.rule, lr=1e38)
    with pytest.raises(InputError, match=r"overflow at label \d+; lower lr"):
        wide.fit(replace(X, values=X.values * np.float32(1e3)), PAIRS, TARGETS)
    assert (wide.scores(X, PAIRS) == before).all()


@pytest.mark.parametrize(
    "options",
    [
        {"budget_buckets": 15},
        {"epochs": 0},
        {"lr": 0},
        {"loss": "hinge"},
        {"floor": 2},
        {"l2": -1},
        {"seed": -1},
        {"initial_sum": -1},
    ],
)
def test_bad_settings_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        Wide(**({"num_features": WIDTH, "num_labels": LABELS, "budget_buckets": 100} | options))


def test_too_small_a_budget_is_refused():
    with pytest.raises(InputError, match="budget_buckets must be at least 368"):
        trained(budget=367)
    assert trained(budget=368).num_buckets == 368
