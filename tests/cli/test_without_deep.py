"""Models without the deep path from the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
from cli.conftest import Trained
from cli.helpers import FEATURES, LABELS, process, refuse, succeed, succeed_json, write_xmc


@pytest.fixture(scope="module")
def model(rows: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("without") / "m"
    succeed("train", rows.train, "--valid", rows.valid, "-o", path, "--without", "deep", "--quiet")
    return path


def test_train_tells_what_it_did(tmp_path: Path, rows: Trained) -> None:
    answer = succeed_json("train", rows.train, "--valid", rows.valid, "-o", tmp_path / "m", "--without", "deep")
    assert (answer["epochs"], answer["steps"], answer["history"], answer["stopped"]) == (0, 0, [], "finished")
    assert answer["settings"]["network"] is None
    assert answer["settings"]["training"]["parts"] == ["wide", "near"]
    assert answer["settings"]["training"]["seconds"] == answer["train_seconds"] > 0
    assert answer["metrics"]["P@1"] > 0.9
    assert answer["examples_per_second"] > 0
    assert not (tmp_path / "m" / "model.safetensors").exists()
    assert not (tmp_path / "m.checkpoint").exists()
    near = succeed_json("train", rows.train, "-o", tmp_path / "n", "--without", "deep", "--without", "wide")
    assert near["settings"]["training"]["parts"] == ["near"]
    assert list(succeed_json("eval", tmp_path / "n", rows.valid)["contributions"]) == ["near"]


def test_same_seed_same_model(tmp_path: Path, rows: Trained) -> None:
    for name in "ab":
        succeed("train", rows.train, "-o", tmp_path / name, "--without", "deep", "--quiet")
    files = [(tmp_path / name / "lookups.safetensors").read_bytes() for name in "ab"]
    assert files[0] == files[1]


def test_eval_predict_and_explain(model: Path, rows: Trained) -> None:
    answer = succeed_json("eval", model, rows.valid)
    assert answer["P@1"] > 0.9
    assert list(answer["contributions"]) == ["wide+near", "near"]
    assert answer["active_fraction"] == 1
    assert "wide + near" in succeed("eval", model, rows.valid).stdout
    predictions = succeed_json("predict", model, rows.valid, "-k", "3")["predictions"]
    assert all(len(row) == 3 and np.isfinite([entry["score"] for entry in row]).all() for row in predictions)
    told = succeed("predict", model, rows.valid, "--explain").stdout
    assert "neighbours" in told
    assert "hidden" not in told
    assert "near" in succeed_json("eval", model, rows.valid, "--without", "wide")["contributions"]
    assert "got none" in refuse("predict", model, rows.valid, "--without", "near", "--without", "wide")


def test_nothing_to_look_up(model: Path, rows: Trained) -> None:
    for command in ("predict", "eval"):
        line = refuse(command, model, rows.valid, "--lookup")
        assert "must have the deep path to look labels up; got wide+near; predict without lookup" in line


def test_rows_are_added(model: Path, tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text(f"4 {FEATURES} {LABELS + 1}\n" + f"{LABELS} 36:5 37:5 38:5\n" * 4)
    answer = succeed_json("add", model, tmp_path / "new.txt", "-o", tmp_path / "grown")
    assert (answer["rows_added"], answer["labels_added"]) == (4, 1)
    assert succeed_json("eval", tmp_path / "grown", tmp_path / "new.txt")["P@1"] == 1


def test_look_ups_that_cannot_be_left_out(rows: Trained, tmp_path: Path) -> None:
    def refused(*options: str) -> str:
        line = refuse("train", rows.train, "-o", tmp_path / "m", "--quiet", *options)
        assert not (tmp_path / "m").exists()
        return line

    assert "deep or near must be left to propose labels" in refused("--without", "deep", "--without", "near")
    assert "--with and --without must name different look-ups" in refused("--with", "deep", "--without", "deep")
    assert "network to set hidden" in refused("--without", "deep", "--hidden", "8")
    assert "must be a network" in refused("--without", "deep", "--resume")
    assert "--with" in refused("--with", "luck")
    (tmp_path / "below.svm").write_text("\n".join(f"{n % 4} {n % 4}:1 5:-1" for n in range(120)) + "\n")
    line = refuse("train", tmp_path / "below.svm", "-o", tmp_path / "m", "--quiet", "--without", "deep")
    assert "near needs values of at least 0; train with deep" in line


@pytest.mark.parametrize("count", [1, 2, 49, 60])
def test_tiny_data(count: int, rows: Trained, tmp_path: Path) -> None:
    write_xmc(tmp_path / "tiny.txt", count)
    succeed("train", tmp_path / "tiny.txt", "-o", tmp_path / "m", "--without", "deep", "--quiet")
    answer = succeed_json("eval", tmp_path / "m", rows.valid)
    scores = [answer[name] for name in ("P@1", "nDCG@5", "PSP@5", "recall@100")]
    assert np.isfinite(np.array(scores, float)).all()
    for row in succeed_json("predict", tmp_path / "m", rows.valid)["predictions"]:
        assert row
        assert np.isfinite([entry["score"] for entry in row]).all()


def sparse_labels(path: Path) -> Path:
    """8,200 labels, half of them with one row, the others with two."""
    lines = [f"{n % 8_200} {n % 8_200}:1 {8_200 + n % 50}:1" for n in range(12_300)]
    path.write_text("\n".join(["12300 8250 8200", *lines]) + "\n")
    return path


def test_labels_with_hardly_any_rows_are_looked_up_by_default(tmp_path: Path) -> None:
    data = sparse_labels(tmp_path / "train.txt")
    done = process("train", data, "-o", tmp_path / "m", "--json")
    assert done.returncode == 0, done.stderr
    assert "deep left out: 1.50 rows a label" in done.stderr
    assert json.loads(done.stdout)["settings"]["network"] is None
    quick = ("--epochs", "1", "--hidden", "8", "--negatives", "9", "--batch-size", "512")
    answer = succeed_json("train", data, "-o", tmp_path / "d", "--quiet", "--with", "deep", *quick)
    assert answer["settings"]["training"]["parts"] == ["deep", "wide", "near"]
    assert answer["epochs"] == 1
