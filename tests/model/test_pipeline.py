"""A combined model: rows and labels added without training, explanations that add up, probabilities."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from hashfold.data import Dataset, TextVectorizer
from hashfold.errors import InputError
from hashfold.model import HashfoldModel, Targets
from hashfold.sparse import CsrBatch, RaggedIds
from hashfold.train import fit_model

LABELS, ROWS = 6, 240
NEW_WORDS = ("yak", "zebra")


def texts(rows: int, seed: int) -> tuple[list[str], list[list[str]]]:
    """Texts about one or two of the labels, which noise hides now and then."""
    rng = np.random.default_rng(seed)
    said, labels = [], []
    for _ in range(rows):
        own = sorted({int(label) for label in rng.integers(0, LABELS, 2)})
        words = [f"word{3 * label + int(n)}" for label in own for n in rng.integers(0, 3, 2)]
        words += [f"noise{n}" for n in rng.integers(0, 8, 3)]
        said.append(" ".join(words))
        labels.append(
            [f"label{label}" for label in own] if rng.random() < 0.8 else [f"label{rng.integers(LABELS)}"]
        )
    return said, labels


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    said, labels = texts(ROWS, 0)
    vectorizer = TextVectorizer.fit([*said, *NEW_WORDS])
    targets, y = Targets.fit(labels)
    data = Dataset(vectorizer.transform(said), y, targets.text_names(), vectorizer=vectorizer)
    settings = {"epochs": 20, "hidden": 16, "lr": 0.02, "batch_size": 16}
    model, _ = fit_model(data, targets=targets, overrides=settings)
    assert model.lookups.parts == ("deep", "wide", "near")
    return model.save(tmp_path_factory.mktemp("model") / "m")


def test_label_vectors_start_where_their_rows_are_if_asked() -> None:
    said, labels = texts(60, 0)
    targets, y = Targets.fit(labels)
    data = Dataset(TextVectorizer.fit(said).transform(said), y)
    settings = {"epochs": 1, "hidden": 16, "lr": 1e-6, "storage": "fp32"}
    for length in (0.0, 3.0):
        made, _ = fit_model(data, targets=targets, parts=("deep",), overrides={**settings, "label_start": length})
        norms = np.linalg.norm(made.network.label_rows()[0], axis=1)
        assert np.allclose(norms, 3.0, atol=0.01) == (length == 3.0)


@pytest.fixture
def model(folder: Path) -> HashfoldModel:
    return HashfoldModel.load(folder)


def best(model: HashfoldModel, rows: Sequence[str], k: int = 1) -> list[list[str]]:
    return [[model.targets.label(i) for i in row] for row in model.top_k(rows, k)[0].tolist()]


def test_a_new_label_is_found_at_once_and_far_rows_are_as_before(model: HashfoldModel) -> None:
    far, _ = texts(30, 1)
    before = model.top_k(far, 3)
    assert model.add(["the zebra noise1"], [["about-zebra"]]) == 1
    assert (model.num_labels, model.num_rows) == (LABELS + 1, ROWS + 1)
    assert best(model, ["zebra noise1", "a zebra"]) == [["about-zebra"], ["about-zebra"]]
    without_noise1 = [row for row, text in enumerate(far) if "noise1" not in text.split()]
    assert len(without_noise1) > 10
    for old, new in zip(before, model.top_k(far, 3), strict=True):
        assert (old[without_noise1] == new[without_noise1]).all()


def test_added_rows_are_saved(model: HashfoldModel, tmp_path: Path) -> None:
    model.add(["zebra", "yak yak word1"], [["about-zebra"], ["about-yak", "label0"]])
    rows = ["zebra", "yak", "word1 noise2"]
    ids, scores = model.top_k(rows, 8)
    again = HashfoldModel.load(model.save(tmp_path / "grown"))
    assert (again.num_labels, again.num_rows) == (LABELS + 2, ROWS + 2)
    assert again.data["rows_added"] == 2
    assert (again.label_counts == model.label_counts).all()
    for name, old, new in zip(("ids", "scores"), (ids, scores), again.top_k(rows, 8), strict=True):
        assert (old == new).all(), name
    assert best(again, rows[:2]) == [["about-zebra"], ["about-yak"]]
    again.add(["yak word1"], [["about-yak"]])
    assert again.label_counts[-1] == 2


def test_a_known_label_gains_from_new_rows(model: HashfoldModel) -> None:
    before = model.label_counts[3]
    assert model.add(["zebra", "zebra zebra"], [["label3"], ["label3"]]) == 2
    assert model.num_labels == LABELS
    assert model.label_counts[3] == before + 2
    assert best(model, ["zebra"]) == [["label3"]]


def test_added_labels_by_every_combination_and_by_lookup(model: HashfoldModel) -> None:
    model.add(["zebra"], [["about-zebra"]])
    for key in model.lookups.choices:
        for lookup in (False, True):
            ids, scores = model.top_k(["zebra", "word1"], 9, parts=key.split("+"), lookup=lookup)
            assert not np.isnan(scores).any()
            assert (ids[0, 0] == LABELS) == ("near" in key), key
    assert np.isfinite(model.top_k(["zebra"], 3, rare=1.0)[1]).all()


def test_rows_are_added_by_ids_and_as_data_sets(model: HashfoldModel) -> None:
    said = ["zebra", "noise1"]
    x = model.vectorizer.transform(said)
    names = [*model.targets.text_names(), "about-zebra"]
    assert model.add(Dataset(x, RaggedIds.from_lists([[LABELS], [1]]), names)) == 2
    assert best(model, ["zebra"]) == [["about-zebra"]]
    assert model.add(x, RaggedIds.from_lists([[LABELS], []])) == 1
    assert model.label_counts[LABELS] == 2


@pytest.mark.parametrize(
    ("rows", "labels", "words"),
    [
        (["zebra"], None, "labels must be given"),
        (["zebra"], [["a"], ["b"]], "each of the 1 rows"),
        (["unheard of"], [["label1"]], "labels and features"),
        (["zebra"], [[]], "labels and features"),
        (["zebra"], [[3]], "all strings or all numbers"),
        (["zebra"], RaggedIds.from_lists([[99]]), "label names"),
        (["zebra"], np.array([[0, 1]]), "as in training"),
        (CsrBatch.from_scipy(np.ones((1, 3))), [["label1"]], "features"),
    ],
)
def test_rows_that_cannot_be_added(model: HashfoldModel, rows: object, labels: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        model.add(rows, labels)  # type: ignore[arg-type]
    assert (model.num_labels, model.num_rows, len(model.lookups.near or ())) == (LABELS, ROWS, ROWS)


def test_a_model_without_neighbours_takes_no_rows(model: HashfoldModel) -> None:
    model.lookups.near = None
    with pytest.raises(InputError, match="neighbours"):
        model.add(["zebra"], [["label1"]])


def test_terms_add_up_to_the_score(model: HashfoldModel) -> None:
    rows, _ = texts(12, 2)
    ids, scores = model.top_k(rows, 2)
    told = model.explain(rows, 2)
    assert [(e.row, e.label_id) for e in told] == [
        (row, int(ids[row, rank])) for row in range(12) for rank in (0, 1)
    ]
    for e, score in zip(told, scores.ravel().tolist(), strict=True):
        assert e.score == score
        assert e.probability == pytest.approx(1 / (1 + np.exp(-score)))
        assert [term.name for term in e.terms] == ["count", "deep", "wide", "near", "rest"]
        assert sum(term.amount for term in e.terms) == pytest.approx(score, abs=1e-4)
        assert e.terms[0].value == model.label_counts[e.label_id]


def test_features_add_up_to_what_the_look_ups_say(model: HashfoldModel) -> None:
    """wide: with the label's bias; deep: with both biases, as relu is linear where it is."""
    text = "word4 word5 noise1"
    (told,) = model.explain([text], top=100)
    x, wide, network = model.encode([text]), model.lookups.wide, model.network
    assert wide is not None
    value = next(term.value for term in told.terms if term.name == "wide")
    assert sum(f.amount for f in told.wide) + wide.bias(told.label_id) == pytest.approx(value, abs=1e-5)
    assert {f.name for f in told.deep} <= {"word4", "word5", "noise1"}
    h, w = network.hidden(x).detach().numpy()[0], network.output.weight.detach().numpy()[told.label_id]
    assert sum(unit.amount for unit in told.hidden) == pytest.approx(h @ w, abs=1e-5)
    assert network.input.bias is not None
    bias = network.input.bias.detach().numpy()[h > 0] @ w[h > 0]
    assert sum(f.amount for f in told.deep) + bias == pytest.approx(h @ w, abs=1e-4)
    assert [abs(unit.amount) for unit in told.hidden] == sorted((abs(u.amount) for u in told.hidden), reverse=True)


def test_neighbours_are_the_rows_that_vote(model: HashfoldModel) -> None:
    said, labels = texts(ROWS, 0)
    (told,) = model.explain([said[7]], top=4)
    assert (told.neighbours[0].row, told.neighbours[0].similarity) == (7, pytest.approx(1, abs=0.02))
    assert [n.has_label for n in told.neighbours] == [told.label in labels[n.row] for n in told.neighbours]
    assert len(told.neighbours) == 4


def test_an_added_label_is_explained_by_its_neighbours(model: HashfoldModel) -> None:
    model.add(["zebra"], [["about-zebra"]])
    (told,) = model.explain(["a zebra"])
    assert (told.label, told.deep, told.hidden) == ("about-zebra", (), ())
    assert [term.name for term in told.terms] == ["count", "near", "rest"]
    assert sum(term.amount for term in told.terms) == pytest.approx(told.score, abs=1e-4)
    assert [(n.row, n.has_label) for n in told.neighbours] == [(ROWS, True)]


def test_explained_with_some_look_ups_and_with_names(model: HashfoldModel) -> None:
    (told,) = model.explain(["word1 word2"], parts=("deep",))
    assert (told.terms, told.wide, told.neighbours) == ((), (), ())
    assert told.hidden
    (told,) = model.explain(["word1 word2"], parts=("wide", "near"))
    assert [term.name for term in told.terms] == ["count", "wide", "near", "rest"]
    assert told.deep == ()
    names = [f"n{i}" for i in range(model.num_features)]
    (told,) = model.explain(["word1"], feature_names=names)
    (feature,) = told.deep
    assert feature.name == f"n{feature.feature}"
    with pytest.raises(InputError, match="name for each"):
        model.explain(["word1"], feature_names=["one"])


def test_a_row_without_features_is_explained(model: HashfoldModel) -> None:
    (told,) = model.explain(["unheard of"])
    assert (told.wide, told.deep, told.neighbours) == ((), (), ())
    assert np.isfinite(told.score)


def test_probabilities_are_of_every_label(model: HashfoldModel) -> None:
    rows, _ = texts(20, 3)
    chances = model.probabilities([*rows, "unheard of"])
    assert chances.shape == (21, LABELS)
    assert ((chances > 0) & (chances < 1)).all()
    ids, scores = model.top_k(rows, LABELS)
    assert np.take_along_axis(chances[:20], ids.astype(int), 1) == pytest.approx(1 / (1 + np.exp(-scores)))
    model.add(["zebra"], [["about-zebra"]])
    grown = model.probabilities(["zebra", rows[0]])
    assert grown[0].argmax() == LABELS
    assert grown[1, LABELS] == 0  # nothing proposes it
