"""A trained model folded: smaller in every part, and still nearly as good."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hashfold.data import synthetic
from hashfold.errors import InputError, ModelFolderError
from hashfold.index import PackedRowIndex
from hashfold.model import FoldedNetwork, HashfoldModel, LookupNetwork, Lookups, PrunedWide
from hashfold.train import Fold, fit_model, fold_model, fold_within
from hashfold.train.folding import _lines


@pytest.fixture(scope="module")
def data():
    return synthetic(num_rows=3_000, num_features=600, num_labels=150, seed=3)


@pytest.fixture(scope="module")
def model(data) -> HashfoldModel:
    return fit_model(data[0], overrides={"epochs": 5, "hidden": 40})[0]


@pytest.fixture(scope="module")
def small(model) -> HashfoldModel:
    return fold_model(model, Fold(bits=3, buckets=20_000, near_bits=3, near_share=0.7))


def same(one: HashfoldModel, other: HashfoldModel, rows, **ways) -> bool:
    pairs = zip(one.top_k(rows.x, 5, **ways), other.top_k(rows.x, 5, **ways), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_every_part_is_smaller_and_the_model_nearly_as_good(model, small, data) -> None:
    test = data[1]
    assert isinstance(small.network, FoldedNetwork)
    weights = 40 * (model.num_features + model.num_labels)
    books_and_biases = 4 * (model.num_features + 2 * model.num_labels + 40)
    assert small.network.nbytes <= weights * 3 / 8 + books_and_biases + 64
    assert small.lookups.wide.num_buckets <= 20_000 < model.lookups.wide.num_buckets
    assert isinstance(small.lookups.near.index, PackedRowIndex)
    assert small.lookups.near.index.nbytes < 0.4 * model.lookups.near.index.nbytes
    for parts in (None, ("deep", "near"), ("wide", "near")):
        before, after = (m.evaluate(test, (1,), parts=parts)["P@1"] for m in (model, small))
        assert after > before - 0.06


def test_cross_weights_of_their_own_stay_as_they_are(data, tmp_path) -> None:
    trained = fit_model(data[0], overrides={"epochs": 2, "hidden": 40, "weights": 6_000})[0]
    fold = fold_within(trained, 80_000)
    assert (fold.weights, fold.buckets, fold.near_bits) == (None, None, 2)
    small = fold_model(trained, fold)
    assert small.lookups.wide is trained.lookups.wide
    assert sum(f.stat().st_size for f in small.save(tmp_path / "m").glob("*.safetensors")) < 90_000
    assert small.evaluate(data[1], (1,))["P@1"] > trained.evaluate(data[1], (1,))["P@1"] - 0.06
    with pytest.raises(InputError, match="a model is folded once"):
        fold_within(small, 50_000)


@pytest.fixture(scope="module")
def pruned(model) -> HashfoldModel:
    return fold_model(model, Fold(weights=6_000, near_share=0.7))


def test_few_cross_weights_of_their_own_are_as_good_as_many_shared(model, pruned, data) -> None:
    wide = pruned.lookups.wide
    assert isinstance(wide, PrunedWide)
    assert wide.nbytes < 0.2 * model.lookups.wide.nbytes
    for parts in (None, ("wide", "near"), ("deep", "wide")):
        before, after = (m.evaluate(data[1], (1,), parts=parts)["P@1"] for m in (model, pruned))
        assert after > before - 0.03


def test_a_model_of_few_cross_weights_comes_back_explains_and_grows(pruned, data, tmp_path) -> None:
    again = HashfoldModel.load(pruned.save(tmp_path / "m"))
    assert same(pruned, again, data[1])
    [told] = again.explain(data[1].x.take([0]))
    assert told.wide
    assert again.add(data[1]) == len(data[1])


def test_the_model_handed_in_stays_as_it_is(model, data) -> None:
    before = model.top_k(data[1].x, 5)
    fold_model(model, Fold(bits=2, label_bits=3, buckets=5_000, near_share=0.4))
    for have, want in zip(model.top_k(data[1].x, 5), before, strict=True):
        np.testing.assert_array_equal(have, want)
    assert isinstance(model.network, LookupNetwork)


def test_the_folder_comes_back_bit_for_bit_and_is_small(model, small, data, tmp_path) -> None:
    again = HashfoldModel.load(small.save(tmp_path / "small"))
    for lookup in (False, True):
        assert same(small, again, data[1], lookup=lookup)
    whole = model.save(tmp_path / "whole")
    size = {p: sum(f.stat().st_size for f in p.iterdir()) for p in (tmp_path / "small", whole)}
    assert size[tmp_path / "small"] < 0.5 * size[whole]
    assert again.training["fold"] == vars(Fold(bits=3, buckets=20_000, near_bits=3, near_share=0.7))


def test_a_folded_model_explains_adds_and_gives_probabilities(small, data, tmp_path) -> None:
    test = data[1]
    [told] = small.explain(test.x.take([0]))
    assert all((told.deep, told.hidden, told.wide, told.neighbours))
    total = sum(term.amount for term in told.terms)
    assert total == pytest.approx(told.score, abs=1e-4)
    assert small.probabilities(test.x.take(np.arange(5))).shape == (5, small.num_labels)
    grown = HashfoldModel.load(small.save(tmp_path / "m"))
    assert grown.add(test) == len(test)


def test_the_folded_network_is_the_network_of_its_own_rows(model, small, data, monkeypatch) -> None:
    folded, x = small.network, small.encode(data[1].x)
    dense = LookupNetwork(replace(model.network.config, storage="int8"))  # which scores labels in 8 bits
    with torch.no_grad():
        dense.input.weight.copy_(
            torch.from_numpy(folded.feature_rows(np.arange(small.num_features, dtype=np.int32)))
        )
        dense.input.bias.copy_(folded.feature_bias)
        dense.output.weight.copy_(torch.from_numpy(folded.label_rows()[0][:]))
        dense.output.bias.copy_(folded.label_bias)
    torch.testing.assert_close(folded.hidden(x), dense.hidden(x).detach())
    np.testing.assert_allclose(folded.top_k(x, 5)[1], dense.top_k(x, 5)[1], rtol=1e-3, atol=1e-3)
    monkeypatch.setattr("hashfold.index.virtual.BLOCK_BYTES", 4 * 40 * 50)  # fifty rows of V or W at a time
    torch.testing.assert_close(folded.hidden(x), dense.hidden(x).detach())
    assert (folded.top_k(x, 5)[0] == dense.top_k(x, 5)[0]).mean() > 0.99
    assert folded.hidden(x.take(np.zeros(0, np.int64))).shape == (0, 40)


@pytest.mark.parametrize("megabytes", [0.06, 0.08, 0.15])
def test_a_budget_is_kept_in_memory(model, megabytes) -> None:
    most = int(megabytes * 1e6)
    lookups = fold_model(model, fold_within(model, most)).lookups
    taken = sum(
        part.nbytes for part in (lookups.network, lookups.wide, lookups.near, lookups.counts) if part is not None
    )
    assert 0.5 * most < taken <= most


def test_a_budget_may_leave_the_deep_path_out(model, data, tmp_path) -> None:
    assert fold_within(model, 100_000).bits == 3
    fold = fold_within(model, 60_000)
    assert fold.without_deep
    small = fold_model(model, fold)
    assert small.network is None
    assert set(small.lookups.mixers) == {"wide+near", "near"}
    before, after = (m.evaluate(data[1], (1,), parts=("wide", "near"))["P@1"] for m in (model, small))
    assert after > before - 0.1
    again = HashfoldModel.load(small.save(tmp_path / "m"))
    assert same(small, again, data[1])
    with pytest.raises(InputError, match="without_deep"):
        fold_model(small, Fold(without_deep=True))
    with pytest.raises(InputError, match="bits"):
        Fold(bits=2, without_deep=True)


def test_what_fits_a_budget_stays(model) -> None:
    assert fold_within(model, 100_000_000) == Fold(bits=3, label_bits=3)


def test_scores_are_brought_back_to_what_they_were() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 2)).astype(np.float32)
    y = x * [2.0, 0.5] + [1.0, -3.0]
    slope, offset = _lines(x, y.astype(np.float32), rng.uniform(0.1, 1, 500).astype(np.float32))
    np.testing.assert_allclose(slope, [2.0, 0.5], rtol=1e-5)
    np.testing.assert_allclose(offset, [1.0, -3.0], rtol=1e-5)
    constant = np.ones((500, 1), np.float32)
    slope, offset = _lines(constant, 2 * constant, np.ones(500, np.float32))
    assert slope * 1 + offset == pytest.approx(2.0)


def test_bad_folds_are_refused(model, small, pruned, data, tmp_path) -> None:
    with pytest.raises(InputError, match="a folded one"):
        fold_model(small, Fold(bits=2))
    with pytest.raises(InputError, match="at least"):
        fold_within(model, 1_000)
    for fold in (Fold(weights=100), Fold(buckets=5_000)):
        with pytest.raises(InputError, match="a folded one"):
            fold_model(pruned, fold)
    with pytest.raises(InputError, match="a folded one"):
        fold_within(pruned, 10_000_000)
    with pytest.raises(InputError, match="weights must not"):
        Fold(weights=5, buckets=5_000)
    lookups = Lookups(model.network, model.label_counts, wide=model.lookups.wide)
    with pytest.raises(InputError, match="a model without near"):
        fold_model(replace(model, lookups=lookups), Fold(buckets=5_000))
    with pytest.raises(InputError, match="a model without it"):
        fold_model(replace(model, lookups=lookups), Fold(near_share=0.5))
    with pytest.raises(InputError, match="Fold"):
        Fold(bits=9)
    with pytest.raises(InputError, match="a folded one"):
        small.save(tmp_path / "m", storage="fp16")


def test_a_folder_whose_parts_disagree_is_refused(small, tmp_path, monkeypatch) -> None:
    specs = small.network.specs()
    specs["labels"] = {**specs["labels"], "out_features": 7}
    monkeypatch.setattr(small.network, "specs", lambda: specs)
    path = small.save(tmp_path / "m")
    with pytest.raises(ModelFolderError, match="shapes"):
        HashfoldModel.load(path)
