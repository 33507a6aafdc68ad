"""A network that learns only labels with rows enough, beside look-ups that know the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hashfold.data import Dataset, synthetic
from hashfold.errors import InputError, ModelFolderError
from hashfold.io import MODEL, open_folder
from hashfold.io.sealed import write_folder
from hashfold.model import HashfoldModel, Outputs
from hashfold.sparse import RaggedIds
from hashfold.train import Callback, fit_model
from hashfold.train.callbacks import RunInfo
from hashfold.train.folding import Fold, fold_model
from hashfold.train.lookups import split

FEATURES, LABELS, LEAST = 300, 120, 12


@pytest.fixture(scope="module")
def examples() -> tuple[Dataset, Dataset]:
    return synthetic(900, FEATURES, LABELS, features_per_row=12, seed=1)


@pytest.fixture(scope="module")
def trained(examples) -> HashfoldModel:
    model, _ = fit_model(examples[0], examples[1], overrides={"least_rows": LEAST})
    return model


def learned(examples) -> np.ndarray:
    """By definition: the labels of at least so many of the rows that are not held out."""
    held_out = len(examples[0]) // 10
    kept, _ = split(len(examples[0]), held_out, 0)
    rows = [examples[0].y[row] for row in kept]
    return np.array([label for label in range(LABELS) if sum(label in row for row in rows) >= LEAST])


def test_outputs_are_labels_and_back() -> None:
    outputs = Outputs(np.array([1, 4, 6], np.int32), 8)
    assert (len(outputs), outputs.partial) == (3, True)
    assert outputs.labels(np.array([2, 0, -1, 1], np.int32)).tolist() == [6, 1, -1, 4]
    assert outputs.places(np.array([0, 1, 4, 6, 7, 8, 100], np.int32)).tolist() == [-1, 0, 1, 2, -1, -1, -1]
    y = outputs.of(RaggedIds.from_lists([[0, 4, 7], [], [1, 6], [5]], 8))
    assert [y[row].tolist() for row in range(4)] == [[1, 3, 10], [], [0, 2], [8]]
    y.validate()
    assert [y.below(3)[row].tolist() for row in range(4)] == [[1], [], [0, 2], []]


def test_all_outputs_are_their_labels() -> None:
    outputs = Outputs.with_rows(np.array([3, 9, 4]), 3)
    assert (len(outputs), outputs.partial, outputs.nbytes) == (3, False, 0)
    assert outputs.places(np.array([0, 2, 3], np.int32)).tolist() == [0, 2, -1]
    y = RaggedIds.from_lists([[0, 2]], 3)
    assert outputs.of(y) is y
    assert Outputs.with_rows(np.array([3, 9, 4]), 4).ids.tolist() == [1, 2]
    assert not Outputs.with_rows(np.array([3, 9, 4]), 10).partial  # a network needs labels
    assert not Outputs.with_rows(np.array([0, 9, 4]), 1).partial


@pytest.mark.parametrize("labels", [[], [2, 1], [1, 1], [-1, 2], [1, 3]])
def test_labels_of_outputs_must_ascend(labels) -> None:
    with pytest.raises(InputError, match="Outputs: labels must ascend from 0 to at most 2"):
        Outputs(np.array(labels, np.int32), 3)


def test_the_network_learns_labels_with_rows_enough_and_proposes_only_those(examples, trained) -> None:
    wanted = learned(examples)
    assert 10 < len(wanted) < LABELS - 10
    assert trained.network.config.num_labels == len(wanted)
    np.testing.assert_array_equal(trained.lookups.outputs.ids, wanted)
    alone = trained.top_k(examples[1].x, LABELS, parts=("deep",))[0]
    assert set(alone[alone >= 0].tolist()) == set(wanted.tolist())
    best = alone[:, 0]
    right = np.mean([label in examples[1].y[row] for row, label in enumerate(best)])
    assert right > 0.3  # labels, not outputs


def test_it_proposes_what_it_ranks_first(examples, trained) -> None:
    x = trained.encode(examples[1].x.take(np.arange(30)))
    for lookup in (False, True):
        proposed = trained.lookups.candidates(x, ("deep",), proposals=5, lookup=lookup)
        ranked, logits = trained.lookups.deep.ranked(x, 5, lookup)
        assert [proposed[row].tolist() for row in range(30)] == [ranked[row].tolist() for row in range(30)]
        assert (np.diff(logits.reshape(30, 5)) <= 0).all()
    assert np.isin(proposed.ids, trained.lookups.outputs.ids).all()


def test_the_other_look_ups_find_the_rest(examples, trained) -> None:
    found = trained.top_k(examples[1].x, 5)[0]
    rare = np.setdiff1d(np.arange(LABELS), learned(examples))
    hits = [label for row, labels in enumerate(found) for label in labels if label in examples[1].y[row]]
    assert np.isin(hits, rare).sum() > 5
    assert trained.metrics["P@1"] == trained.evaluate(examples[1])["P@1"] > 0.5


def test_a_label_without_an_output_counts_as_the_least_of_its_row(examples, trained) -> None:
    x, lookups = examples[1].x.take(np.arange(20)), trained.lookups
    pairs, columns = lookups.features(trained.encode(x))
    has = lookups.outputs.places(pairs.ids) >= 0
    assert 0 < (~has).sum() < len(has)
    for row in range(len(pairs)):
        own = slice(pairs.indptr[row], pairs.indptr[row + 1])
        said, known = columns[own, 1], has[own]
        assert (said[~known] <= said[known].min() + 1e-5).all()


def test_it_is_saved_and_loaded_whole(examples, trained, tmp_path: Path) -> None:
    folder = trained.save(tmp_path / "m")
    loaded = HashfoldModel.load(folder)
    np.testing.assert_array_equal(loaded.lookups.outputs.ids, trained.lookups.outputs.ids)
    for want, have in zip(trained.top_k(examples[1].x, 5), loaded.top_k(examples[1].x, 5), strict=True):
        np.testing.assert_array_equal(want, have)
    with_lookup = loaded.top_k(examples[1].x, 5, lookup=True)[0]
    assert np.mean(with_lookup[:, 0] == trained.top_k(examples[1].x, 5)[0][:, 0]) > 0.8


def test_a_folder_whose_outputs_do_not_fit_is_refused(trained, tmp_path: Path) -> None:
    folder = open_folder(trained.save(tmp_path / "m"), MODEL)
    parts = {n: folder.tensors(n) if n.endswith("tensors") else folder.lines(n) for n in folder.files}
    outputs = np.asarray(parts["lookups.safetensors"]["outputs"])
    for given, why in ((outputs[:-1], "the network's labels must match"), (outputs[::-1].copy(), "must ascend")):
        changed = {**parts, "lookups.safetensors": {**parts["lookups.safetensors"], "outputs": given}}
        write_folder(tmp_path / "altered", MODEL, folder.config, changed, readme="", overwrite=True)
        with pytest.raises(ModelFolderError, match=why):
            HashfoldModel.load(tmp_path / "altered")


def test_labels_are_explained_with_and_without_an_output(examples, trained) -> None:
    x = examples[1].x.take(np.arange(60))
    known = set(trained.lookups.outputs.ids.tolist())
    seen = set()
    for told in trained.explain(x, 3):
        assert sum(term.amount for term in told.terms) == pytest.approx(told.score, abs=1e-3)
        assert bool(told.hidden) == (told.label_id in known)
        seen.add(told.label_id in known)
    assert seen == {True, False}


def test_rows_and_labels_are_added_beside_it(examples, trained, tmp_path: Path) -> None:
    model = HashfoldModel.load(trained.save(tmp_path / "before"))
    model.add(examples[1].x.take([0, 1]), RaggedIds.from_lists([[LABELS], [LABELS + 1, 0]], LABELS + 2))
    assert model.top_k(examples[1].x.take([0]), 3)[0][0].tolist().count(LABELS) == 1
    again = HashfoldModel.load(model.save(tmp_path / "m"))
    for want, have in zip(model.top_k(examples[1].x, 5), again.top_k(examples[1].x, 5), strict=True):
        np.testing.assert_array_equal(want, have)


def test_it_is_folded(examples, trained, tmp_path: Path) -> None:
    folded = fold_model(trained, Fold(bits=4, near_bits=4))
    before, after = (m.evaluate(examples[1])["P@1"] for m in (trained, folded))
    assert after > before - 0.05
    again = HashfoldModel.load(folded.save(tmp_path / "m"))
    np.testing.assert_array_equal(again.top_k(examples[1].x, 5)[0], folded.top_k(examples[1].x, 5)[0])


def test_rows_of_rare_labels_alone_are_not_trained_on(examples) -> None:
    class Watcher(Callback):
        def on_start(self, run: RunInfo) -> None:
            self.run = run

    watcher = Watcher()
    fit_model(examples[0], overrides={"least_rows": LEAST, "epochs": 1}, callbacks=[watcher])
    kept, _ = split(len(examples[0]), len(examples[0]) // 10, 0)
    some = set(learned(examples).tolist())
    assert watcher.run.rows == sum(bool(some & set(examples[0].y[row].tolist())) for row in kept) < len(kept)


def test_where_nothing_can_combine_them_the_neighbours_are_left(examples) -> None:
    told: list[str] = []
    model, _ = fit_model(examples[0], overrides={"least_rows": LEAST, "held_out": 10}, say=told.append)
    assert model.lookups.parts == ("near",)
    assert any(line.startswith("near alone: ") for line in told)
