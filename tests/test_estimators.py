"""HashfoldClassifier: every form of X and y, scikit-learn's tools, files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from cli.helpers import WORDS, write_texts, write_xmc
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.utils.validation import NotFittedError

from hashfold import HashfoldClassifier
from hashfold.errors import InputError
from hashfold.model import PrunedWide

SMALL: dict[str, Any] = {"hidden": 32, "epochs": 20, "batch_size": 8, "lr": 0.02}

TEXTS = [f"{extra} {word} {more}" for word in WORDS[:4] for extra, more in zip("abcde", "fghij", strict=True)]
CLASSES = [word for word in WORDS[:4] for _ in range(5)]
LISTS = [[word, "all"] for word in CLASSES]


def counts() -> sp.csr_matrix:
    columns = [WORDS.index(word) for word in CLASSES]
    return sp.csr_matrix((np.full(20, 2.0), (np.arange(20), columns)), shape=(20, 6))


def indicator() -> sp.csr_matrix:
    columns = [WORDS.index(word) for word in CLASSES]
    return sp.csr_matrix((np.ones(20), (np.arange(20), columns)), shape=(20, 4))


@pytest.mark.parametrize("X", [TEXTS, counts(), counts().toarray()], ids=["texts", "sparse", "dense"])
@pytest.mark.parametrize("y", [CLASSES, np.array(CLASSES), LISTS, indicator(), indicator().toarray().astype(int)])
def test_every_form_of_x_and_y(X: Any, y: Any) -> None:
    model = HashfoldClassifier(**SMALL).fit(X, y)
    predicted = model.predict(X)
    assert model.score(X, y) == 1.0
    if y is LISTS:
        assert [sorted(row) for row in predicted] == [sorted(row) for row in LISTS]
    elif sp.issparse(predicted):
        assert (predicted.toarray() == indicator().toarray()).all()
    else:
        assert predicted.tolist() == CLASSES
        assert isinstance(predicted, np.ndarray)


def test_top_k_gives_labels_as_they_were_written() -> None:
    model = HashfoldClassifier(**SMALL).fit(TEXTS, CLASSES)
    labels, scores = model.top_k(TEXTS, k=2)
    assert labels.shape == scores.shape == (20, 2)
    assert labels[:, 0].tolist() == CLASSES
    assert (scores[:, 0] > scores[:, 1]).all()
    numbers = [10 * WORDS.index(word) for word in CLASSES]
    labels, _ = HashfoldClassifier(**SMALL).fit(TEXTS, numbers).top_k(TEXTS, k=9)
    assert labels.shape == (20, 4)
    assert labels[:, 0].tolist() == numbers


def test_lookup_finds_what_exact_finds() -> None:
    model = HashfoldClassifier(**SMALL).fit(TEXTS, CLASSES)
    assert model.top_k(TEXTS, k=1, lookup=True)[0][:, 0].tolist() == CLASSES


def test_scores_of_all_labels() -> None:
    model = HashfoldClassifier(**SMALL).fit(TEXTS, CLASSES)
    scores = model.decision_function(TEXTS)
    assert scores.shape == (20, 4)
    assert model.classes_[scores.argmax(1)].tolist() == CLASSES


def test_digits() -> None:
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, random_state=0)
    model = HashfoldClassifier(seed=1).fit(x_train, y_train)
    assert model.score(x_test, y_test) > 0.95
    assert (model.predict(x_test) == y_test).mean() == pytest.approx(model.score(x_test, y_test))


def test_inside_a_pipeline() -> None:
    model = make_pipeline(TfidfVectorizer(), HashfoldClassifier(**SMALL)).fit(TEXTS, CLASSES)
    assert model.predict(TEXTS).tolist() == CLASSES
    assert model.score(TEXTS, CLASSES) == 1.0


def test_clone_and_search() -> None:
    model = HashfoldClassifier(**SMALL)
    assert clone(model).get_params() == model.get_params()
    assert "hidden=32" in repr(model)
    search = GridSearchCV(model, {"lr": [1e-5, 0.02]}, cv=2).fit(counts(), CLASSES)
    assert search.best_params_ == {"lr": 0.02}


def test_same_seed_same_model_and_other_seed_another() -> None:
    fitted = [HashfoldClassifier(**SMALL, seed=seed, threads=1).fit(TEXTS, CLASSES) for seed in (1, 1, 2)]
    scores = [model.decision_function(TEXTS) for model in fitted]
    assert (scores[0] == scores[1]).all()
    assert (scores[0] != scores[2]).any()


def test_validation_and_early_stopping() -> None:
    model = HashfoldClassifier(**SMALL | {"epochs": 50}, patience=2)
    model.fit(TEXTS, CLASSES, valid=(TEXTS, CLASSES))
    assert "P@1" in model.history_[0]
    assert len(model.history_) < 50
    with pytest.raises(InputError, match="held-out"):
        model.fit(TEXTS, CLASSES)


@pytest.mark.parametrize("y", [CLASSES, LISTS, indicator(), [3 * i % 4 for i in range(20)]])
def test_saved_and_loaded(y: Any, tmp_path: Path) -> None:
    model = HashfoldClassifier(**SMALL).fit(TEXTS, y)
    model.save(tmp_path / "m")
    again = HashfoldClassifier.load(tmp_path / "m")
    assert again.get_params() == model.get_params()
    before, after = model.top_k(TEXTS, 3), again.top_k(TEXTS, 3)
    assert (before[0] == after[0]).all()
    assert (before[1] == after[1]).all()
    assert type(again.predict(TEXTS)) is type(model.predict(TEXTS))
    assert again.classes_.dtype == model.classes_.dtype


def test_a_file_holds_its_labels(tmp_path: Path) -> None:
    train, valid = write_xmc(tmp_path / "t.txt"), write_xmc(tmp_path / "v.txt", 50, 1)
    model = HashfoldClassifier(**SMALL).fit(train, valid=str(valid))
    assert model.history_[-1]["P@1"] > 0.9
    labels, _ = model.top_k(valid, 1)
    assert labels.shape == (50, 1)
    texts = HashfoldClassifier(**SMALL).fit(write_texts(tmp_path / "t.csv"))
    assert texts.predict(["an eagle"]) == [["about-eagle"]]
    with pytest.raises(InputError, match="which holds the labels"):
        model.fit(train, CLASSES)


@pytest.mark.parametrize(
    ("X", "y", "words"),
    [
        (counts(), CLASSES[:-1], "each of the 20 rows"),
        (counts(), None, "y must hold the labels"),
        (np.full((20, 2), np.nan), CLASSES, "finite"),
        (np.zeros((20, 2)), CLASSES, "labels and features"),
        (np.ones(20), CLASSES, "2-D"),
        (TEXTS, [[] for _ in TEXTS], "labels"),
        ("nowhere.txt", None, "nowhere.txt"),
    ],
)
def test_unusable_input(X: Any, y: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        HashfoldClassifier(**SMALL).fit(X, y)


@pytest.mark.parametrize(
    ("setting", "value"), [("hidden", 0), ("lr", -1.0), ("loss", "hinge"), ("epochs", 0), ("index", "no")]
)
def test_unusable_settings(setting: str, value: Any) -> None:
    with pytest.raises(InputError, match=setting):
        HashfoldClassifier(**{setting: value}).fit(TEXTS, CLASSES)


def test_unusable_rows_to_predict() -> None:
    model = HashfoldClassifier(**SMALL)
    with pytest.raises(NotFittedError):
        model.predict(TEXTS)
    model.fit(counts(), CLASSES)
    with pytest.raises(InputError, match="sparse rows"):
        model.predict(TEXTS)
    with pytest.raises(InputError, match="6 features"):
        model.predict(np.ones((2, 7)))


def many(rows: int, seed: int) -> tuple[list[str], list[str]]:
    """Enough texts to hold some out: each is about its class, some with another class's word beside it."""
    rng = np.random.default_rng(seed)
    about = [WORDS[i] for i in rng.integers(0, 4, rows)]
    beside = [WORDS[i] for i in rng.integers(0, 4, rows)]
    return [f"{own} {own} {other} x{rng.integers(9)}" for own, other in zip(about, beside, strict=True)], about


@pytest.mark.parametrize("parts", [("deep", "wide", "near"), ("deep",), ("wide", "near"), ("near",)])
def test_probabilities_of_classes_add_up(parts: tuple[str, ...]) -> None:
    X, y = many(300, 0)
    model = HashfoldClassifier(**(SMALL if "deep" in parts else {}), parts=parts).fit(X, y)
    assert model.model_.lookups.parts == parts
    chances = model.predict_proba([*X[:50], "unheard of"])
    assert chances.shape == (51, 4)
    assert chances.sum(1) == pytest.approx(1, abs=1e-5)
    assert model.classes_[chances[:50].argmax(1)].tolist() == model.predict(X[:50]).tolist()
    assert np.isfinite(chances).all()


def test_probabilities_of_lists_are_of_each_label() -> None:
    X, y = many(300, 0)
    model = HashfoldClassifier(**SMALL, loss="softmax").fit(X, [[label, "all"] for label in y])
    chances = model.predict_proba(X[:50])
    assert (chances[:, model.classes_.tolist().index("all")] > 0.9).all()
    assert (chances.sum(1) > 1.5).all()
    predicted = model.predict(X[:50])  # although the network's loss is a softmax
    assert np.mean([sorted(row) == sorted([label, "all"]) for row, label in zip(predicted, y, strict=False)]) > 0.9


def test_rows_and_labels_are_added_without_training(tmp_path: Path) -> None:
    X, y = many(300, 0)
    model = HashfoldClassifier(**SMALL).fit(X, y)
    far = many(40, 5)[0]
    before = model.decision_function(far)
    X_new = ["x1 x2 x3 x4"] * 3
    assert model.partial_fit(X_new, ["zoo"] * 3) is model
    assert model.classes_.tolist() == [*WORDS[:4], "zoo"]
    assert model.predict(["x1 x2 x3 x4", "apple apple"]).tolist() == ["zoo", "apple"]
    assert model.predict_proba(X_new).argmax(1).tolist() == [4, 4, 4]
    assert (model.decision_function(far)[:, :4].argmax(1) == before.argmax(1)).mean() > 0.9
    model.save(tmp_path / "m")
    again = HashfoldClassifier.load(tmp_path / "m")
    assert again.predict(X_new).tolist() == ["zoo"] * 3
    assert again.get_params() == model.get_params()
    with pytest.raises(InputError, match="strings"):
        model.partial_fit(X_new, [1, 2, 3])
    with pytest.raises(InputError, match="one label"):
        model.partial_fit(X_new[:1], [["zoo", "apple"]])


def test_partial_fit_first_is_fit_and_indicators_grow() -> None:
    rng = np.random.default_rng(0)
    y = np.eye(4, dtype=int)[rng.integers(0, 4, 300)]
    X = np.concatenate([y * 2.0, rng.integers(0, 2, (300, 4))], 1)
    model = HashfoldClassifier(**SMALL).partial_fit(X, y)
    model.partial_fit([[0, 0, 0, 0, 9, 1, 0, 0]] * 3, np.array([[0, 0, 0, 0, 1]] * 3))
    assert model.predict([[0, 0, 0, 0, 9, 1, 0, 0]]).toarray().tolist() == [[0, 0, 0, 0, 1]]
    assert model.score(X, y) > 0.9


def test_too_few_rows_to_hold_any_out() -> None:
    """10 rows: the deep path alone, which takes no rows without training."""
    model = HashfoldClassifier(**SMALL).fit(TEXTS[:10], CLASSES[:10])
    assert model.model_.lookups.parts == ("deep",)
    assert model.predict_proba(TEXTS[:10]).sum(1) == pytest.approx(1, abs=1e-5)
    with pytest.raises(InputError, match="neighbours"):
        model.partial_fit(["a zoo"], ["zoo"])


@pytest.mark.parametrize("rows", [10, 300])
def test_without_a_network(rows: int, tmp_path: Path) -> None:
    """10 rows: neighbours alone, which vote; 300: with cross weights, combined."""
    X, y = many(rows, 0)
    model = HashfoldClassifier(parts=("wide", "near")).fit(X, y)
    assert model.model_.network is None
    assert model.model_.lookups.parts == (("near",) if rows == 10 else ("wide", "near"))
    assert (model.history_, model.n_features_in_) == ([], model.model_.num_features)
    assert model.score(X, y) > 0.9
    assert set(model.predict([*X[:5], "unheard of"])) <= set(y)
    assert np.isfinite(model.top_k(["unheard of"], 1)[1]).all()
    model.save(tmp_path / "m")
    again = HashfoldClassifier.load(tmp_path / "m")
    assert again.get_params() == model.get_params()
    assert (again.decision_function(X) == model.decision_function(X)).all()
    with pytest.raises(InputError, match="deep path"):
        again.top_k(X, 1, lookup=True)
    assert again.partial_fit(["x1 x2 x3 x4"] * 3, ["zoo"] * 3).predict(["x1 x2 x3 x4"]).tolist() == ["zoo"]


def test_one_class_only() -> None:
    for rows in (10, 300):
        X, _ = many(rows, 0)
        model = HashfoldClassifier(**SMALL).fit(X, ["only"] * rows)
        assert model.predict(["apple", "unheard of"]).tolist() == ["only", "only"]
        assert model.predict_proba(["apple", "unheard of"]) == pytest.approx(1)


def test_settings_reach_the_look_ups() -> None:
    X, y = many(400, 0)
    settings = {"weights": 60, "optimizer": "compact_adam", "label_norm": 3.0}
    model = HashfoldClassifier(epochs=2, hidden=16, **settings).fit(X, y).model_
    assert isinstance(model.lookups.wide, PrunedWide)
    assert model.network.config.optimizer == "compact_adam"
    lengths = model.network.output.weight.detach().norm(dim=1).numpy()
    assert lengths == pytest.approx(3.0, rel=0.02)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"effort": "heroic"}, "effort"),
        ({"parts": ("wide",)}, "deep or near"),
        ({"parts": ("wide", "near"), "hidden": 8}, "hidden"),
        ({"parts": ("deep", "luck")}, "parts"),
        ({"buckets": 0}, "buckets"),
        ({"rare": -1}, "rare"),
    ],
)
def test_unusable_effort_and_parts(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        HashfoldClassifier(**settings).fit(TEXTS, CLASSES)
