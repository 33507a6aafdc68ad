"""What eval says beside the ranking metrics, and scoring with some look-ups left out."""

import numpy as np
import pytest
from cli.conftest import Trained
from cli.helpers import LABELS, refuse, succeed, succeed_json

from hashfold.data import label_counts, read
from hashfold.metrics import contains, expected_calibration_error
from hashfold.model import HashfoldModel

WHOLE = "deep+wide+near"


def test_each_look_up_is_left_out_in_turn(rows: Trained) -> None:
    answer = succeed_json("eval", rows.model, rows.valid)
    tables = answer["contributions"]
    assert list(tables) == [WHOLE, "wide+near", "deep+near", "deep+wide", "near", "deep"]
    assert tables[WHOLE] == {f"P@{k}": answer[f"P@{k}"] for k in (1, 3, 5)}
    for left_out in ("deep", "wide", "near"):
        key = "+".join(part for part in WHOLE.split("+") if part != left_out)
        alone = succeed_json("eval", rows.model, rows.valid, "--without", left_out)
        assert tables[key]["P@3"] == alone["P@3"]
        assert alone["without"] == [left_out]
        assert next(iter(alone["contributions"])) == key


def test_bands_hold_every_label_and_occurrence(rows: Trained) -> None:
    answer = succeed_json("eval", rows.model, rows.valid)
    counts, truth = label_counts(read(rows.train).y), read(rows.valid).y
    assert sum(band["labels"] for band in answer["bands"]) == LABELS
    assert sum(band["occurrences"] for band in answer["bands"]) == len(truth.ids)
    (band,) = [band for band in answer["bands"] if band["low"] == 10]
    assert band["labels"] == ((counts >= 10) & (counts < 100)).sum()
    assert 0.9 < band["R@3"] <= band["R@5"] <= 1


def test_candidates_and_calibration_are_what_the_library_says(rows: Trained) -> None:
    answer = succeed_json("eval", rows.model, rows.valid)
    model, data = HashfoldModel.load(rows.model), read(rows.valid)
    candidates = model.lookups.candidates(model.encode(data.x), ("deep", "near"))
    assert answer["recall@100"] == contains(data.y, candidates).mean() * len(candidates.ids) / len(data.y.ids)
    ids, scores = model.top_k(data.x, 1)
    hits = np.array([[ids[row, 0] in data.y[row]] for row in range(len(data))])
    error = expected_calibration_error(1 / (1 + np.exp(-scores.astype(float))), hits)
    assert answer["ECE@1"] == pytest.approx(error)
    assert answer["ECE@1"] < 0.1


def test_a_softmax_alone_has_no_log_odds(rows: Trained) -> None:
    softmax = succeed_json("eval", rows.model, rows.valid, "--without", "wide", "--without", "near")
    model = HashfoldModel.load(rows.model)
    assert ("ECE@1" in softmax) == (model.network.config.loss == "sigmoid")


def test_the_tables_for_people(rows: Trained) -> None:
    out = succeed("eval", rows.model, rows.valid).stdout
    for words in (
        "recall@100",
        "ECE@5",
        "by a label's training rows",
        "10 to 99",
        "deep + wide + near",
        "wide + near",
    ):
        assert words in out
    assert "nan" not in out


def test_rare_labels_are_favoured(rows: Trained) -> None:
    counts = label_counts(read(rows.train).y)
    frequency = []
    for rare in ("0", "100"):
        answer = succeed_json("predict", rows.model, rows.valid, "-k", "1", "--rare", rare)
        frequency.append(np.mean([counts[row[0]["label"]] for row in answer["predictions"]]))
    assert frequency[1] < frequency[0]
    assert "ECE@1" not in succeed_json("eval", rows.model, rows.valid, "--rare", "1")


def test_combinations_that_there_are_not(rows: Trained) -> None:
    line = refuse("predict", rows.model, rows.valid, "--without", "deep", "--without", "near")
    assert "wide+near" in line
    assert "none" in refuse("eval", rows.model, rows.valid, *(f"--without={p}" for p in WHOLE.split("+")))
    assert "--without" in refuse("eval", rows.model, rows.valid, "--without", "luck")
    assert "--rare" in refuse("eval", rows.model, rows.valid, "--rare", "-1")
