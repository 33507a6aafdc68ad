"""Rows added without training, labels explained, effort and look-ups chosen, from the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
from cli.conftest import FEW, Trained
from cli.helpers import FEATURES, LABELS, refuse, run, succeed, succeed_json, write_xmc

NEW = f"4 {FEATURES} {LABELS + 1}\n{LABELS} 36:5 37:5 38:5\n" + f"{LABELS} 36:4 37:5 38:6\n" * 3
LIKE = f"1 {FEATURES} {LABELS}\n 36:5 37:4 38:6\n"


def test_rows_are_added_and_found(rows: Trained, tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text(NEW)
    answer = succeed_json("add", rows.model, tmp_path / "new.txt", "-o", tmp_path / "grown")
    assert (answer["rows_added"], answer["labels_added"], answer["rows"]) == (4, 1, 304)
    assert succeed("predict", tmp_path / "grown", "-k", "1", stdin=LIKE).stdout.startswith(f"{LABELS}\t")
    assert not succeed("predict", rows.model, "-k", "1", stdin=LIKE).stdout.startswith(f"{LABELS}\t")
    scored = succeed_json("eval", tmp_path / "grown", tmp_path / "new.txt")
    assert scored["P@1"] == 1
    assert succeed_json("eval", tmp_path / "grown", rows.valid)["P@1"] > 0.9


def test_rows_are_added_in_place_when_asked(rows: Trained, tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text(NEW)
    model = tmp_path / "model"
    succeed("train", rows.train, "-o", model, *FEW)
    before = (model / "config.json").read_bytes()
    assert "overwriting" in refuse("add", model, tmp_path / "new.txt")
    assert (model / "config.json").read_bytes() == before
    assert "added 4 rows and 1 new labels" in succeed("add", model, tmp_path / "new.txt", "--overwrite").stdout
    assert "added 4 rows and 0 new labels" in succeed("add", model, tmp_path / "new.txt", "--overwrite").stdout
    assert json.loads((model / "config.json").read_text())["data"]["rows_added"] == 8


def test_rows_with_names_are_added(texts: Trained, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text(
        "text,labels\nthe the common4,about-nothing\nunheard,about-boat\n,about-boat\n"
    )
    answer = succeed_json("add", texts.model, tmp_path / "new.csv", "-o", tmp_path / "grown")
    assert (answer["rows_added"], answer["labels_added"]) == (1, 1)
    out = succeed(
        "predict", tmp_path / "grown", "-k", "1", stdin="the the common4\nan eagle\n"
    ).stdout.splitlines()
    assert [line.split("\t")[0] for line in out] == ["about-nothing", "about-eagle"]


def test_rows_that_cannot_be_added(rows: Trained, texts: Trained, tmp_path: Path) -> None:
    (tmp_path / "none.txt").write_text(f"1 {FEATURES} {LABELS}\n 1:1\n")
    assert "labels and features" in refuse("add", rows.model, tmp_path / "none.txt", "-o", tmp_path / "m")
    assert "trained on" in refuse("add", texts.model, rows.valid, "-o", tmp_path / "m")
    assert "gone.txt" in refuse("add", rows.model, tmp_path / "gone.txt", "-o", tmp_path / "m")
    succeed("train", rows.train, "-o", tmp_path / "deep", *FEW, "--without", "near")
    assert "neighbours" in refuse("add", tmp_path / "deep", rows.valid, "-o", tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_label_is_explained(texts: Trained) -> None:
    answer = succeed_json("predict", texts.model, "--explain", stdin="an eagle common1\nthe boat\n")
    first, second = answer["explanations"]
    assert (first["row"], first["label"], second["row"], second["label"]) == (0, "about-eagle", 1, "about-boat")
    assert first["deep"][0]["name"] == first["wide"][0]["name"] == "eagle"
    assert first["deep"][0]["amount"] > 0
    assert sum(term["amount"] for term in first["terms"]) == pytest.approx(first["score"], abs=1e-4)
    assert all(neighbour["has_label"] for neighbour in first["neighbours"][:3])
    assert first["hidden"]


def test_explanations_for_people(texts: Trained, rows: Trained, tmp_path: Path) -> None:
    out = succeed("predict", texts.model, "--explain", "-k", "2", stdin="an eagle\n").stdout
    assert out.startswith("row 0: about-eagle  score ")
    assert out.count("row 0:") == 2
    for word in ("terms", "wide", "deep", "hidden", "neighbours", "eagle +"):
        assert word in out
    names = tmp_path / "names.txt"
    names.write_text("".join(f"name{n}\n" for n in range(FEATURES)))
    out = succeed("predict", rows.model, "--explain", "--feature-names", names, stdin=LIKE).stdout
    assert "name36 " in out
    assert "feature 36 " in succeed("predict", rows.model, "--explain", stdin=LIKE).stdout
    names.write_text("one\n")
    assert "name for each" in refuse("predict", rows.model, "--explain", "--feature-names", names, stdin=LIKE)
    assert "--explain" in refuse("predict", rows.model, "--explain", "--lookup", stdin=LIKE)


def test_effort_and_look_ups_of_training(rows: Trained, tmp_path: Path) -> None:
    quick = ("--quiet", "--batch-size", "32", "--threads", "1")
    epochs = {}
    for effort in ("low", "normal"):
        epochs[effort] = succeed_json("train", rows.train, "-o", tmp_path / effort, *quick, "--effort", effort)[
            "epochs"
        ]
    assert epochs["low"] < epochs["normal"]
    answer = succeed_json("train", rows.train, "-o", tmp_path / "m", *FEW, "--without", "wide", "--buckets", "999")
    assert answer["settings"]["training"]["buckets"] == 999
    assert list(succeed_json("eval", tmp_path / "m", rows.valid)["contributions"]) == ["deep+near", "near", "deep"]
    alone = succeed_json("train", rows.train, "-o", tmp_path / "d", *FEW, "--without=wide", "--without=near")
    assert alone["settings"]["training"]["held_out"] == 0
    assert list(succeed_json("eval", tmp_path / "d", rows.valid)["contributions"]) == ["deep"]
    assert "--effort" in refuse("train", rows.train, "-o", tmp_path / "n", "--effort", "heroic")
    assert answer["settings"]["training"]["least_rows"] == 1
    assert "least_rows" in refuse("train", rows.train, "-o", tmp_path / "n", "--least-rows", "0")
    assert "rare" in refuse("train", rows.train, "-o", tmp_path / "n", "--rare", "-1")
    assert "buckets" in refuse("train", rows.train, "-o", tmp_path / "n", "--buckets", "0")


def finite(answer: dict[str, object]) -> bool:
    """JSON has null where a number was NaN; ratios of nothing (bands without occurrences) aside."""
    shown = {name: value for name, value in answer.items() if name not in ("bands", "contributions")}
    return "null" not in json.dumps(shown)


@pytest.mark.parametrize("count", [1, 2, 10, 49, 60])
def test_tiny_data(count: int, rows: Trained, tmp_path: Path) -> None:
    """Too few rows to hold any out, and hardly enough: whatever combination is left answers."""
    write_xmc(tmp_path / "tiny.txt", count)
    succeed("train", tmp_path / "tiny.txt", "-o", tmp_path / "m", *FEW)
    answer = succeed_json("eval", tmp_path / "m", rows.valid)
    assert finite({name: value for name, value in answer.items() if name != "without"})
    predicted = succeed_json("predict", tmp_path / "m", rows.valid)["predictions"]
    assert all(row and np.isfinite([entry["score"] for entry in row]).all() for row in predicted)
    assert succeed("predict", tmp_path / "m", "--explain", stdin=LIKE).stdout.startswith("row 0:")


def test_cross_weights_of_their_own(tmp_path: Path, rows: Trained) -> None:
    answer = succeed_json("train", rows.train, "-o", tmp_path / "m", *FEW, "--weights", "500")
    assert answer["settings"]["training"]["weights"] == 500
    assert succeed("predict", tmp_path / "m", "--explain", stdin=LIKE).stdout.startswith("row 0:")
    assert "weights" in refuse("train", rows.train, "-o", tmp_path / "n", "--weights", "-1")


def test_one_label_only(tmp_path: Path, rows: Trained) -> None:
    lines = [f"0 {n % 5}:1 {5 + n % 3}:2" for n in range(80)]
    (tmp_path / "one.txt").write_text("\n".join([f"80 {FEATURES} 1", *lines]) + "\n")
    succeed("train", tmp_path / "one.txt", "-o", tmp_path / "m", *FEW)
    answer = succeed_json("eval", tmp_path / "m", tmp_path / "one.txt")
    assert answer["P@1"] == 1
    assert finite(answer)
    assert 0 <= succeed_json("eval", tmp_path / "m", rows.valid)["P@1"] < 0.5  # labels that it never saw


def test_labels_never_seen_and_rows_without_features(tmp_path: Path) -> None:
    """Ids 12 to 19 exist and have no rows; some rows of DATA have no feature."""
    source = write_xmc(tmp_path / "train.txt", 300)
    source.write_text(source.read_text().replace(f"300 {FEATURES} {LABELS}", f"300 {FEATURES} 20"))
    succeed("train", source, "-o", tmp_path / "m", *FEW)
    (tmp_path / "odd.txt").write_text(f"3 {FEATURES} 20\n19 1:1\n3 \n5 15:2 16:1\n")
    answer = succeed_json("eval", tmp_path / "m", tmp_path / "odd.txt")
    assert finite(answer)
    assert answer["P@1"] >= 1 / 3
    predicted = succeed_json("predict", tmp_path / "m", tmp_path / "odd.txt", "-k", "20")["predictions"]
    assert all(np.isfinite([entry["score"] for entry in row]).all() for row in predicted)
    assert all(len(row) == 20 for row in predicted)
    for left_out in ("deep", "near", "wide"):
        for row in succeed_json("predict", tmp_path / "m", tmp_path / "odd.txt", "--without", left_out)[
            "predictions"
        ]:
            assert all(np.isfinite(entry["score"]) for entry in row)


def test_values_below_zero_leave_the_neighbours_out(tmp_path: Path) -> None:
    lines = [f"{n % 4} {n % 4}:1 {4 + n % 4}:-1 {8 + n % 3}:0.5" for n in range(120)]
    (tmp_path / "below.svm").write_text("\n".join(lines) + "\n")
    assert run("train", tmp_path / "below.svm", "-o", tmp_path / "m", *FEW).exit_code == 0
    answer = succeed_json("eval", tmp_path / "m", tmp_path / "below.svm")
    assert answer["P@1"] == 1
    assert all("near" not in key for key in answer["contributions"])
    assert "neighbours" in refuse("add", tmp_path / "m", tmp_path / "below.svm", "-o", tmp_path / "n")
