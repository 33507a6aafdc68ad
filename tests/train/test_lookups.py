"""Neighbours, cross weights and their mixture, trained after the network."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from hashfold.data import Dataset, TfIdf, drop_unusable, label_counts, synthetic
from hashfold.errors import InputError
from hashfold.metrics import contains, evaluate, expected_calibration_error
from hashfold.model import LookupNetwork, Lookups, NetworkConfig, PrunedWide
from hashfold.model.near import LEADING
from hashfold.sparse import CsrBatch, Ragged, RaggedIds
from hashfold.train import lookups as module
from hashfold.train.lookups import LookupConfig, fit_lookups, split, split_alike


@pytest.fixture(scope="module")
def examples():
    train, test = synthetic(num_rows=3_000, num_features=600, num_labels=150, seed=3)
    train = drop_unusable(train)[0]
    weighting = TfIdf.fit(train.x)
    return replace(train, x=weighting.transform(train.x)), replace(test, x=weighting.transform(test.x))


@pytest.fixture(scope="module")
def network(examples) -> LookupNetwork:
    return LookupNetwork(NetworkConfig(examples[0].num_features, examples[0].num_labels, hidden=8))


def fitted(network: LookupNetwork | None, train, **settings) -> Lookups:
    config = LookupConfig(held_out=300, buckets=2**16, **settings)
    return fit_lookups(network, train, label_counts(train.y), config)


def p_at_1(lookups: Lookups, test, parts: tuple[str, ...] | None = None) -> float:
    return evaluate(lookups.top_k(test.x, 5, parts=parts)[0], test.y)["P@1"]


def test_an_untrained_network_is_outweighed_by_what_has_learned(examples, network) -> None:
    train, test = examples
    lookups = fitted(network, train)
    assert p_at_1(lookups, test) > p_at_1(lookups, test, ("deep",)) + 0.3
    assert len(lookups.near) == len(train)  # held-out rows are neighbours in the end


def test_cross_weights_may_be_few_and_each_its_own(examples, network) -> None:
    train, test = examples
    shared, own = fitted(network, train), fitted(network, train, weights=4_000)
    assert isinstance(own.wide, PrunedWide)
    assert own.wide.nbytes < shared.wide.nbytes / 3
    assert p_at_1(own, test) > p_at_1(shared, test) - 0.03
    again = fitted(network, train, weights=4_000)
    np.testing.assert_array_equal(own.top_k(test.x, 5)[0], again.top_k(test.x, 5)[0])


def test_held_out_rows_are_neither_neighbours_nor_counted_while_the_mixture_is_fitted(
    examples, network, monkeypatch
) -> None:
    seen = []
    fit = module._fit_mixers

    def watched(lookups, rows, held, config, say):
        seen.append((len(lookups.near), lookups.counts + label_counts(held.y), len(held)))
        fit(lookups, rows, held, config, say)

    monkeypatch.setattr(module, "_fit_mixers", watched)
    lookups = fitted(network, examples[0])
    [(neighbours, counts, held)] = seen
    assert (neighbours, held) == (len(examples[0]) - 300, 300)
    assert (counts == label_counts(examples[0].y)).all()
    assert (lookups.counts == counts).all()


def test_held_out_rows_train_the_cross_weights_in_the_end(examples, network, monkeypatch) -> None:
    before = []
    fit = module._fit_mixers

    def watched(lookups, rows, held, config, say):
        before.append(misses(lookups.wide, held))
        fit(lookups, rows, held, config, say)

    def misses(wide, held):
        return np.maximum(0, 1 - wide.scores(held.x, Ragged(held.y.indptr, held.y.ids))).mean()

    monkeypatch.setattr(module, "_fit_mixers", watched)
    lookups = fitted(network, examples[0])
    _, held = split(len(examples[0]), 300, 0)
    assert misses(lookups.wide, examples[0].take(held)) < 0.85 * before[0]


def test_shortlists_start_with_a_rows_own_labels_and_never_repeat(examples, network) -> None:
    train, _ = examples
    config = LookupConfig(shortlist=10)
    for near in (module._neighbours(train, config), None):
        found = Lookups(network, label_counts(train.y), near=near)
        lists = module.shortlists(found, train, np.arange(len(train), dtype=np.int32), config)
        assert len(lists) == len(train)
        for row in range(0, len(train), 97):
            own, ids = train.y[row], lists[row]
            assert (ids[: len(own)] == own).all()
            assert len(np.unique(ids)) == len(ids) <= len(own) + 10


def test_rare_labels_are_favoured_where_they_count_more(examples, network) -> None:
    train, test = examples
    counts, front = label_counts(train.y), []
    for rare in (0.0, 1.0):
        lookups = fitted(network, train, rare=rare)
        ids, odds = lookups.top_k(test.x, 5)
        front.append(counts[ids[:, 0]].mean())
        hits = contains(test.y, Ragged(5 * np.arange(len(ids) + 1), ids.ravel()))
        assert expected_calibration_error(expit(odds).ravel(), hits) < 0.08
    assert front[1] < 0.97 * front[0]


def test_the_deep_path_alone_has_no_fit_to_favour_them_in() -> None:
    with pytest.raises(InputError, match="rare is of the mixture's fit"):
        LookupConfig(parts=("deep",), rare=1.0)
    with pytest.raises(InputError, match="rare"):
        LookupConfig(rare=-0.5)


def test_without_wide_or_near_the_other_is_combined_with_deep(examples, network) -> None:
    train, test = examples
    for part, absent in (("wide", "near"), ("near", "wide")):
        lookups = fitted(network, train, parts=("deep", part))
        assert getattr(lookups, absent) is None
        assert p_at_1(lookups, test) > p_at_1(lookups, test, ("deep",))


def test_the_same_seed_gives_the_same_scores(examples, network) -> None:
    train, test = examples
    first, second = (fitted(network, train).top_k(test.x, 5) for _ in range(2))
    assert (first[0] == second[0]).all()
    assert (first[1] == second[1]).all()


def test_too_few_held_out_rows_leave_the_deep_path_alone(examples, network) -> None:
    few = examples[0].take(np.arange(100))
    told: list[str] = []
    config = LookupConfig(held_out=10, buckets=2**12)
    lookups = fit_lookups(network, few, label_counts(few.y), config, told.append)
    assert lookups.parts == ("deep",)
    assert not lookups.mixers
    assert "too few" in told[-1]


def test_split_is_a_partition() -> None:
    kept, held = split(50, 7, seed=1)
    assert len(held) == 7
    assert (np.sort(np.concatenate([kept, held])) == np.arange(50)).all()


def test_all_rows_held_out_are_refused() -> None:
    with pytest.raises(InputError, match="held_out"):
        split(50, 50, seed=1)


def test_without_a_network_the_others_are_the_same_and_combined(examples, network) -> None:
    train, test = examples
    beside, alone = fitted(network, train), fitted(None, train, parts=("wide", "near"))
    assert (alone.parts, list(alone.mixers)) == (("wide", "near"), ["wide+near", "near"])
    for part in ("wide", "near"):
        want, have = getattr(beside, part).state(), getattr(alone, part).state()
        assert all((want[name] == have[name]).all() for name in want)
    both = p_at_1(beside, test, ("wide", "near"))
    assert p_at_1(alone, test) == pytest.approx(both, abs=0.02)
    assert both > 0.9


def test_too_few_held_out_rows_leave_the_neighbours_alone_without_a_network(examples) -> None:
    few, test = examples[0].take(np.arange(100)), examples[1]
    for held_out, words in ((10, "near alone: .* too few"), (0, "near alone: no rows")):
        told: list[str] = []
        config = LookupConfig(("wide", "near"), held_out=held_out, buckets=2**12)
        lookups = fit_lookups(None, few, label_counts(few.y), config, told.append)
        assert (lookups.parts, lookups.choices, lookups.mixers) == (("near",), ["near"], {})
        assert re.search(words, told[-1])
        assert len(lookups.near) == 100  # those held out as well
        scores = lookups.top_k(test.x, 5)[1]
        votes = lookups.near.join(test.x, Ragged(np.zeros(len(test) + 1, np.int64), np.zeros(0, np.int32)), 5)[1]
        assert np.exp(scores[:, 0]).max() == pytest.approx(votes[:, LEADING].max(), rel=1e-3)
        assert p_at_1(lookups, test) > 0.2


def test_somebody_must_propose_labels() -> None:
    with pytest.raises(InputError, match="deep or near"):
        LookupConfig(("wide",))


def test_a_row_held_out_does_not_give_a_rare_label_away(examples) -> None:
    """Of a label with few rows the mixture cannot tell whether one of them was held out."""
    train, test = examples
    counts = np.arange(train.num_labels)  # whatever they are
    near = module._neighbours(train, LookupConfig())
    pairs, features = Lookups(None, counts, near=near).features(test.x)
    rare = counts[pairs.ids] <= 4
    assert rare.any()
    assert np.unique(features[rare, 0]).size == 1
    assert (features[~rare, 0] == np.log1p(counts[pairs.ids[~rare]]).astype(np.float32)).all()


def test_split_alike_takes_one_row_from_each_label_with_others() -> None:
    labels = np.array([0, 1, 1, 2, 2, 2, 3, 4, 4, 4, 4], np.int32)
    y = RaggedIds(np.arange(len(labels) + 1, dtype=np.int64), labels, 6)
    kept, held = split_alike(y, seed=1)
    assert (np.sort(np.concatenate([kept, held])) == np.arange(len(labels))).all()
    assert sorted(labels[held]) == [1, 2, 4]
    assert any((split_alike(y, seed)[1] != held).any() for seed in range(2, 9))


def test_split_alike_takes_no_more_than_one_row_from_a_label_where_rows_have_several() -> None:
    rng = np.random.default_rng(0)
    y = RaggedIds.from_lists([rng.choice(40, rng.integers(0, 4), replace=False) for _ in range(60)], 40)
    kept, held = split_alike(y, seed=0)
    lost = label_counts(y) - label_counts(y.take(kept))
    assert lost.max() == 1
    assert len(held) >= 5
    assert (label_counts(y.take(kept))[lost > 0] > 0).all()
    assert all(len(y[row]) for row in held)


def rare_labels(labels: int = 3_000, features: int = 4_000) -> tuple[Dataset, Dataset]:
    """A third of the labels has two training rows and a test row, the others one training row: words of their own
    among many common ones.
    """
    rng = np.random.default_rng(0)
    words = rng.integers(200, features, (labels, 6))

    def rows(ids: np.ndarray) -> Dataset:
        own = np.take_along_axis(words[ids], rng.random((len(ids), 6)).argsort(1)[:, :2], 1)
        texts = [np.unique(row) for row in np.concatenate([own, rng.integers(0, 200, (len(ids), 12))], 1)]
        indptr = np.concatenate([[0], np.cumsum([len(t) for t in texts])])
        x = CsrBatch(indptr, np.concatenate(texts).astype(np.int32), np.ones(indptr[-1], np.float32), features)
        return Dataset(x, RaggedIds(np.arange(len(ids) + 1), ids.astype(np.int32), labels))

    twice = np.arange(labels // 3)
    train = rows(rng.permutation(np.concatenate([np.arange(labels), twice])))
    weighting = TfIdf.fit(train.x)
    return tuple(replace(part, x=weighting.transform(part.x)) for part in (train, rows(twice)))


def test_labels_of_one_or_two_rows_want_all_to_lose_alike() -> None:
    train, test = rare_labels()
    settings = {"parts": ("wide", "near"), "held_out": 300, "buckets": 2**20}
    counts = label_counts(train.y)
    alike, random = (fit_lookups(None, train, counts, LookupConfig(alike=a, **settings)) for a in (True, False))
    assert len(alike.near) == len(train)
    assert (alike.counts == counts).all()
    assert p_at_1(alike, test) > p_at_1(random, test) + 0.02


def test_alike_is_refused_where_rows_train_a_network() -> None:
    with pytest.raises(InputError, match="alike must be false where rows train a network"):
        LookupConfig(alike=True)
