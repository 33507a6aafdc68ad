"""A model without the deep path: it predicts, explains, grows, is saved and loaded without any network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hashfold.data import Dataset, synthetic
from hashfold.errors import InputError, ModelFolderError
from hashfold.io import MODEL, open_folder
from hashfold.io.sealed import FolderKind, write_folder
from hashfold.model import HashfoldModel
from hashfold.model.lookups import _most_frequent
from hashfold.sparse import CsrBatch, RaggedIds
from hashfold.train import fit_model

FEATURES, LABELS = 300, 60


@pytest.fixture(scope="module")
def examples() -> tuple[Dataset, Dataset]:
    return synthetic(800, FEATURES, LABELS, features_per_row=12, seed=1)


@pytest.fixture(scope="module")
def folder(examples, tmp_path_factory) -> Path:
    model, _ = fit_model(examples[0], parts=("wide", "near"))
    return model.save(tmp_path_factory.mktemp("model") / "m")


@pytest.fixture
def model(folder: Path) -> HashfoldModel:
    return HashfoldModel.load(folder)


def row_of(*features: int) -> CsrBatch:
    ids = np.array(sorted(features), np.int32)
    return CsrBatch(np.array([0, len(ids)]), ids, np.ones(len(ids), np.float32), FEATURES)


def test_nothing_of_a_network_is_saved(folder: Path, model: HashfoldModel) -> None:
    assert (model.network, model.lookups.parts) == (None, ("wide", "near"))
    assert not (folder / "model.safetensors").exists()
    assert "network" not in open_folder(folder, MODEL).config
    card = (folder / "README.md").read_text()
    assert "## Network" not in card
    assert "| parts | ['wide', 'near'] |" in card
    assert "| epochs | 0 |" in card


def test_a_loaded_model_predicts_the_same_bits(examples, model, tmp_path) -> None:
    trained, _ = fit_model(examples[0], parts=("wide", "near"))
    for parts in (None, ("near",)):
        for want, have in zip(
            trained.top_k(examples[1].x, 7, parts=parts), model.top_k(examples[1].x, 7, parts=parts), strict=True
        ):
            np.testing.assert_array_equal(want, have)
    assert model.evaluate(examples[1])["P@1"] > 0.5
    again = HashfoldModel.load(model.save(tmp_path / "again"))
    assert (again.num_features, again.num_labels, again.training) == (FEATURES, LABELS, model.training)


def test_what_each_look_up_adds(examples, model) -> None:
    found = model.evaluate(examples[1], contributions=True, bands=True)
    assert list(found["contributions"]) == ["wide+near", "near"]
    assert found["contributions"]["wide+near"]["P@1"] == found["P@1"]
    assert {"ECE@1", "recall@100", "bands"} <= set(found)
    with pytest.raises(InputError, match="one of wide\\+near, near; got deep"):
        model.top_k(examples[1].x, 1, parts=("deep",))


def test_there_is_no_output_layer_to_look_up(examples, model) -> None:
    for ask in (
        lambda: model.top_k(examples[1].x, 1, lookup=True),
        lambda: model.evaluate(examples[1], lookup=True),
        lambda: model.active_fraction(examples[1].x),
    ):
        with pytest.raises(InputError, match="must have the deep path to look labels up; got wide\\+near"):
            ask()
    with pytest.raises(InputError, match="network, of whose weights storage is"):
        model.save("nowhere", storage="fp16")


def test_a_label_is_explained(examples, model) -> None:
    x = examples[1].x.take(np.arange(5))
    scores = model.top_k(x, 1)[1]
    for told, score in zip(model.explain(x), scores[:, 0].tolist(), strict=True):
        assert [term.name for term in told.terms] == ["count", "wide", "near", "rest"]
        assert sum(term.amount for term in told.terms) == pytest.approx(score, abs=1e-4)
        assert (told.deep, told.hidden) == ((), ())
        assert told.wide
        assert told.neighbours


def test_rows_without_neighbours_get_the_most_frequent_labels(examples, model) -> None:
    used = np.unique(examples[0].x.indices)
    unknown = np.setdiff1d(np.arange(FEATURES), used)
    counts = model.label_counts
    for x in (row_of(), *([row_of(int(unknown[0]))] if len(unknown) else [])):
        ids, scores = model.top_k(x, LABELS)
        found = ids[0][ids[0] >= 0]
        assert set(found) == set(np.flatnonzero(counts))
        assert np.isfinite(scores[0][: len(found)]).all()
        (told,) = model.explain(x)
        assert np.isfinite(told.score)
        assert told.neighbours == ()
    both = np.concatenate([[0], np.diff(examples[1].x.indptr)[:3]]).cumsum()  # such a row among others
    some = examples[1].x.take([0, 1, 2])
    x = CsrBatch(np.concatenate([[0], both]), some.indices, some.values, FEATURES)
    ids, scores = model.top_k(x, 3)
    for want, have in zip(model.top_k(some, 3), (ids[1:], scores[1:]), strict=True):
        np.testing.assert_array_equal(want, have)


def test_the_most_frequent_labels_occur() -> None:
    counts = np.array([3, 0, 5, 3, 1])
    assert [_most_frequent(counts, most).tolist() for most in (1, 2, 3, 9)] == [
        [2],
        [2, 0],
        [2, 0, 3],
        [2, 0, 3, 4],
    ]
    assert _most_frequent(np.zeros(3, np.int64), 2).tolist() == []


def test_rows_and_labels_are_added(model: HashfoldModel, examples, tmp_path) -> None:
    new = row_of(1, 2, 3, 50, 51, 52)
    before = model.top_k(examples[1].x, 3)
    assert model.add(new, RaggedIds.from_lists([[LABELS]])) == 1
    grown = HashfoldModel.load(model.save(tmp_path / "grown"))
    assert (grown.num_labels, grown.lookups.learned) == (LABELS + 1, LABELS)
    for one in (model, grown):
        assert one.top_k(new, 1)[0].tolist() == [[LABELS]]
        assert np.mean(one.top_k(examples[1].x, 3)[0][:, 0] == before[0][:, 0]) > 0.95
        (told,) = one.explain(new)
        assert [term.name for term in told.terms] == ["count", "near", "rest"]
    assert grown.add(new, RaggedIds.from_lists([[LABELS + 1]])) == 1
    assert grown.num_labels == LABELS + 2


def test_probabilities(examples, model) -> None:
    chances = model.probabilities(examples[1].x)
    assert ((chances >= 0) & (chances <= 1)).all()
    best = model.top_k(examples[1].x, 1)
    told = np.take_along_axis(chances, best[0].astype(int), 1)  # among all labels, not the likely ones alone
    assert told == pytest.approx(1 / (1 + np.exp(-best[1])), abs=0.01)


@pytest.mark.parametrize("rows", [1, 7, 60])
def test_too_few_rows_to_combine_leave_the_neighbours(examples, rows, tmp_path) -> None:
    """Scores are then the logarithms of votes, and probabilities shares of them."""
    told: list[str] = []
    few = examples[0].take(np.arange(rows))
    trained, _ = fit_model(few, few, parts=("wide", "near"), say=told.append)
    assert "near alone" in told[-1]
    model = HashfoldModel.load(trained.save(tmp_path / "m"))
    assert (model.lookups.parts, model.lookups.choices) == (("near",), ["near"])
    x = few.x.take([0])
    ids, scores = model.top_k(x, 3)
    assert ids[0, 0] in few.y[0]
    shares = model.probabilities(x)[0]
    assert shares.sum() == pytest.approx(1, abs=1e-5)
    assert shares[ids[0, 0]] == shares.max()
    assert not model.gives_log_odds()
    assert trained.metrics["P@1"] > 0.9
    (told_of,) = model.explain(x)
    assert (told_of.terms, told_of.probability) == ((), None)
    assert told_of.score == scores[0, 0]
    assert np.isfinite(model.top_k(row_of(), 1)[1]).all()
    assert model.add(row_of(8, 9), RaggedIds.from_lists([[LABELS]])) == 1
    assert model.top_k(row_of(8, 9), 1)[0].tolist() == [[LABELS]]


def contents_of(path: Path) -> tuple[dict, dict]:
    folder = open_folder(path, MODEL)
    files = {n: folder.tensors(n) if n.endswith("safetensors") else folder.lines(n) for n in folder.files}
    return folder.config, files


def test_folders_of_version_2_are_read(examples, tmp_path) -> None:
    """They had a network, and did not say how many labels training knew."""
    settings = {"epochs": 2, "hidden": 8}
    model, _ = fit_model(examples[0], overrides=settings)
    model.add(row_of(1, 2, 3), RaggedIds.from_lists([[LABELS]]))
    config, files = contents_of(model.save(tmp_path / "new"))
    old = {name: value for name, value in config["lookups"].items() if name not in ("parts", "learned")}
    kind = FolderKind(MODEL.format, 2, MODEL.manifest, MODEL.noun)
    loaded = HashfoldModel.load(write_folder(tmp_path / "old", kind, {**config, "lookups": old}, files))
    assert (loaded.lookups.learned, loaded.num_labels) == (LABELS, LABELS + 1)
    for want, have in zip(model.top_k(examples[1].x, 5), loaded.top_k(examples[1].x, 5), strict=True):
        np.testing.assert_array_equal(want, have)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"learned": LABELS + 1}, "label counts must match"),
        ({"learned": 0}, "learned"),
        ({"learned": "many"}, "learned"),
        ({"learned": None}, "learned"),
        ({"near": None}, "does not describe a model"),
        ({"mixers": {"deep+near": ["count", "deep"]}}, "must fit the look-ups that there are"),
        ({"mixers": {"near": ["count", "wide"]}}, "must fit the look-ups that there are"),
    ],
)
def test_folders_that_contradict_themselves(folder, tmp_path, change, words) -> None:
    config, files = contents_of(folder)
    path = write_folder(tmp_path / "bad", MODEL, {**config, "lookups": {**config["lookups"], **change}}, files)
    with pytest.raises(ModelFolderError, match=words):
        HashfoldModel.load(path)


def test_without_network_and_neighbours_it_is_no_model(folder, tmp_path) -> None:
    config, files = contents_of(folder)
    lookups = {name: value for name, value in config["lookups"].items() if name != "near"}
    path = write_folder(tmp_path / "bad", MODEL, {**config, "lookups": lookups}, files)
    with pytest.raises(ModelFolderError, match="lacks 'network'"):
        HashfoldModel.load(path)
