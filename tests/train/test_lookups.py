"""Neighbours, cross weights and their mixture, trained after the network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hashfold.data import TfIdf, drop_unusable, label_counts, synthetic
from hashfold.errors import InputError
from hashfold.metrics import evaluate
from hashfold.model import LookupNetwork, Lookups, NetworkConfig
from hashfold.train import lookups as module
from hashfold.train.lookups import LookupConfig, fit_lookups, split, usable, without_negatives


@pytest.fixture(scope="module")
def examples():
    train, test = synthetic(num_rows=3_000, num_features=600, num_labels=150, seed=3)
    train = drop_unusable(train)[0]
    weighting = TfIdf.fit(train.x)
    return replace(train, x=weighting.transform(train.x)), replace(test, x=weighting.transform(test.x))


@pytest.fixture(scope="module")
def network(examples) -> LookupNetwork:
    return LookupNetwork(NetworkConfig(examples[0].num_features, examples[0].num_labels, hidden=8))


def fitted(network: LookupNetwork, train, **settings) -> Lookups:
    config = LookupConfig(held_out=300, buckets=2**16, **settings)
    return fit_lookups(network, train, label_counts(train.y), config)


def p_at_1(lookups: Lookups, test, parts: tuple[str, ...] | None = None) -> float:
    return evaluate(lookups.top_k(test.x, 5, parts=parts)[0], test.y)["P@1"]


def test_an_untrained_network_is_outweighed_by_what_has_learned(examples, network) -> None:
    train, test = examples
    lookups = fitted(network, train)
    assert p_at_1(lookups, test) > p_at_1(lookups, test, ("deep",)) + 0.3
    assert len(lookups.near) == len(train)  # held-out rows are neighbours in the end


def test_held_out_rows_are_neither_neighbours_nor_counted_while_the_mixture_is_fitted(
    examples, network, monkeypatch
) -> None:
    seen = []
    fit = module._fit_mixers

    def watched(lookups, held, config, say):
        seen.append((len(lookups.near), lookups.counts + label_counts(held.y), len(held)))
        fit(lookups, held, config, say)

    monkeypatch.setattr(module, "_fit_mixers", watched)
    lookups = fitted(network, examples[0])
    [(neighbours, counts, held)] = seen
    assert (neighbours, held) == (len(examples[0]) - 300, 300)
    assert (counts == label_counts(examples[0].y)).all()
    assert (lookups.counts == counts).all()


def test_shortlists_start_with_a_rows_own_labels_and_never_repeat(examples, network) -> None:
    train, _ = examples
    config = LookupConfig(shortlist=10)
    for near in (module._neighbours(train, config), None):
        found = Lookups(network, label_counts(train.y), near=near)
        lists = module._shortlists(found, train, np.arange(len(train), dtype=np.int32), config)
        assert len(lists) == len(train)
        for row in range(0, len(train), 97):
            own, ids = train.y[row], lists[row]
            assert (ids[: len(own)] == own).all()
            assert len(np.unique(ids)) == len(ids) <= len(own) + 10


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


def test_values_below_zero_go_without_neighbours(examples) -> None:
    train, _ = examples
    assert "near" in without_negatives(LookupConfig(), train).parts
    flipped = replace(train, x=replace(train.x, values=-train.x.values))
    assert "near" not in without_negatives(LookupConfig(), flipped).parts


def test_somebody_must_propose_labels() -> None:
    assert usable({"near", "wide"}) == ("wide", "near")
    with pytest.raises(InputError, match="deep or near must be left"):
        usable({"wide"})
