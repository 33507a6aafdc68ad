"""train, eval and predict on tiny data, end to end."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cli.conftest import FEW, Trained
from cli.helpers import LABELS, WORDS, process, refuse, run, succeed, succeed_json, write_texts, write_xmc

from hashfold.data import label_counts, read
from hashfold.metrics import evaluate, propensities
from hashfold.model import HashfoldModel

DEEP = ("--without", "near", "--without", "wide")
METRICS = {f"{name}@{k}" for name in ("P", "nDCG", "R", "PSP") for k in range(1, 6)}


def test_train_tells_what_it_did(tmp_path: Path, rows: Trained) -> None:
    answer = succeed_json(
        "train", rows.train, "--valid", rows.valid, "-o", tmp_path / "m", *FEW, "--dropout", "0.1", "--seed", "5"
    )
    assert answer["metrics"]["P@1"] > 0.9
    assert answer["seconds"] >= answer["train_seconds"] > 0
    assert answer["peak_memory_bytes"] > 2**20
    network, training = answer["settings"]["network"], answer["settings"]["training"]
    assert (network["hidden"], network["dropout"], network["lr"]) == (32, 0.1, 0.02)
    assert (training["epochs"], training["batch_size"], training["seed"], network["seed"]) == (12, 16, 5, 5)
    assert [record["epoch"] for record in answer["history"]] == list(range(1, 13))
    assert answer["history"][-1]["loss"] < answer["history"][0]["loss"]


def test_chosen_settings_and_progress_go_to_standard_error(tmp_path: Path, rows: Trained) -> None:
    done = process("train", rows.train, "-o", tmp_path / "m", "--epochs", "2", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["epochs"] == 2
    assert "hidden" in done.stderr
    assert "epoch 2" in done.stderr


def test_same_seed_same_model(tmp_path: Path, rows: Trained) -> None:
    for name in "ab":
        succeed("train", rows.train, "-o", tmp_path / name, *FEW, "--threads", "1", "--seed", "3")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]


def test_optimizer_is_a_setting_of_the_network(tmp_path: Path, rows: Trained) -> None:
    answer = succeed_json("train", rows.train, "-o", tmp_path / "m", *FEW, "--optimizer", "compact_adam")
    assert answer["settings"]["network"]["optimizer"] == "compact_adam"
    assert json.loads((rows.model / "config.json").read_text())["network"]["optimizer"] == "adam"
    assert succeed_json("eval", tmp_path / "m", rows.valid)["P@1"] > 0.5
    assert "compact_adam" in refuse("train", rows.train, "-o", tmp_path / "n", "--optimizer", "none")


def test_storage_makes_the_folder_small_and_is_what_predicts(tmp_path: Path, rows: Trained) -> None:
    bytes_of, scores = {}, {}
    for storage in ("fp32", "fp16", "int8"):
        model = tmp_path / storage
        answer = succeed_json("train", rows.train, "-o", model, *FEW, "--storage", storage)
        assert answer["settings"]["network"]["storage"] == storage
        bytes_of[storage] = (model / "model.safetensors").stat().st_size
        scores[storage] = succeed_json("eval", model, rows.valid)["P@1"]
    assert bytes_of["int8"] < bytes_of["fp16"] < bytes_of["fp32"]
    assert min(scores.values()) > 0.9
    assert json.loads((rows.model / "config.json").read_text())["network"]["storage"] == "int8"  # by default


def test_eval_is_what_the_library_says(rows: Trained) -> None:
    answer = succeed_json("eval", rows.model, rows.valid)
    assert set(answer) >= METRICS | {"rows", "seconds", "ms_per_row", "peak_memory_bytes"}
    model = HashfoldModel.load(rows.model)
    data = read(rows.valid)
    ids, _ = model.top_k(data.x, 5)
    hits = np.mean([ids[row, 0] in data.y[row] for row in range(len(data))])
    assert answer["P@1"] == pytest.approx(hits)
    rare = propensities(label_counts(read(rows.train).y), 300)
    for name, value in evaluate(ids, data.y, rare).items():
        assert answer[name] == pytest.approx(value), name
    assert answer["P@1"] > 0.9
    assert answer["rows"] == 60


def test_eval_table(rows: Trained) -> None:
    out = succeed("eval", rows.model, rows.valid).stdout
    assert "PSP@k" in out
    assert "60 rows" in out


def test_lookup_scores_what_the_index_finds(rows: Trained) -> None:
    exact, lookup = (succeed_json("eval", rows.model, rows.valid, way) for way in ("--exact", "--lookup"))
    assert lookup["P@1"] > 0.9
    assert (exact["lookup"], lookup["lookup"]) == (False, True)
    assert 0 < lookup["active_fraction"] <= exact["active_fraction"] == 1


def test_predict_a_file(rows: Trained) -> None:
    answer = succeed_json("predict", rows.model, rows.valid, "-k", "3")
    truth = read(rows.valid).y
    assert answer["rows"] == len(answer["predictions"]) == len(truth)
    for row in answer["predictions"]:
        assert [entry["score"] for entry in row] == sorted((entry["score"] for entry in row), reverse=True)
    best = [row[0]["label"] in truth[i] for i, row in enumerate(answer["predictions"])]
    assert np.mean(best) > 0.9
    lines = succeed("predict", rows.model, rows.valid, "-k", "3").stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == [str(row[0]["label"]) for row in answer["predictions"]]
    assert all(len(line.split("\t")) == 6 for line in lines)


def test_predict_more_than_there_is(rows: Trained) -> None:
    answer = succeed_json("predict", rows.model, rows.valid, "-k", "100")
    assert {len(row) for row in answer["predictions"]} == {LABELS}


def test_what_a_lookup_does_not_find_is_not_predicted(rows: Trained, tmp_path: Path) -> None:
    succeed("train", rows.train, "-o", tmp_path / "m", *FEW, "--index", "clustered")
    answer = succeed_json("predict", tmp_path / "m", rows.valid, "-k", str(LABELS), "--lookup", *DEEP)
    assert 1 <= min(map(len, answer["predictions"])) < LABELS
    assert all(isinstance(entry["label"], int) for row in answer["predictions"] for entry in row)
    assert all(np.isfinite(entry["score"]) for row in answer["predictions"] for entry in row)


def test_predict_rows_from_standard_input(rows: Trained) -> None:
    out = succeed("predict", rows.model, "-", "-k", "1", stdin=f"1 40 {LABELS}\n 6:2 7:1 8:1\n").stdout
    assert out.split("\t")[0] == "2"


def test_predict_texts_from_standard_input(texts: Trained) -> None:
    lines = "".join(f"some {word} there\n" for word in WORDS)
    out = succeed("predict", texts.model, "-k", "1", stdin=lines).stdout.splitlines()
    assert [line.split("\t")[0] for line in out] == [f"about-{word}" for word in WORDS]


def test_predict_needs_no_labels(texts: Trained, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("text\nan eagle\n\n")
    answer = succeed_json("predict", texts.model, tmp_path / "new.csv")
    assert answer["predictions"][0][0]["label"] == "about-eagle"
    named = tmp_path / "m"
    write_texts(tmp_path / "named.csv")
    succeed(
        "train", tmp_path / "named.csv", "-o", named, *FEW, "--label-column", "labels", "--text-column", "text"
    )
    assert succeed_json("predict", named, tmp_path / "new.csv")["predictions"][0][0]["label"] == "about-eagle"


def test_predict_in_a_pipe_that_closes(texts: Trained) -> None:
    script = f'yes "an eagle" | head -20000 | "{sys.executable}" -m hashfold predict "{texts.model}" | head -1'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("about-eagle\t")
    assert done.stderr == ""


def test_text_formats_agree(texts: Trained, tmp_path: Path) -> None:
    header, *lines = texts.valid.read_text().splitlines()
    records = [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]
    (tmp_path / "v.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (tmp_path / "v.tsv").write_text("\n".join(line.replace(",", "\t") for line in (header, *lines)) + "\n")
    with gzip.open(tmp_path / "v.csv.gz", "wt") as file:
        file.write(texts.valid.read_text())
    scores = {
        json.dumps({name: value for name, value in succeed_json("eval", texts.model, path).items() if "@" in name})
        for path in (texts.valid, *(tmp_path / name for name in ("v.jsonl", "v.tsv", "v.csv.gz")))
    }
    assert len(scores) == 1


def test_labels_unseen_in_training_count_as_misses(texts: Trained, tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("text,labels\nan eagle,about-eagle\nan eagle,about-zebra\n")
    assert succeed_json("eval", texts.model, tmp_path / "v.csv")["P@1"] == 0.5
    succeed("train", texts.train, "--valid", tmp_path / "v.csv", "-o", tmp_path / "m", *FEW)


def test_label_names_from_a_file(rows: Trained, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("".join(f"name {label}\n" for label in range(LABELS)))
    succeed("train", rows.train, "-o", tmp_path / "m", *FEW, "--label-names", names)
    out = succeed("predict", tmp_path / "m", "-", "-k", "1", stdin=f"1 40 {LABELS}\n 6:2 7:1 8:1\n").stdout
    assert out.startswith("name 2\t")
    names.write_text("one\n")
    assert "name for each of the 12 labels" in refuse(
        "train", rows.train, "-o", tmp_path / "n", "--label-names", names
    )


def test_svmlight_from_one_stays_from_one(tmp_path: Path) -> None:
    """A single row cannot tell whether its features count from zero: the training file has."""
    lines = [f"{label} {label + 1}:1 9:1" for label in range(4)] * 20
    (tmp_path / "one.svm").write_text("\n".join(lines) + "\n")
    zero = [f"{label} {label}:1 9:1" for label in range(4)] * 20
    (tmp_path / "zero.svm").write_text("\n".join(zero) + "\n")
    for name, row, label in (("one", "0 3:1 9:1", "2"), ("zero", "0 3:1 9:1", "3")):
        succeed("train", tmp_path / f"{name}.svm", "-o", tmp_path / name, *FEW)
        assert succeed("predict", tmp_path / name, "-", "-k", "1", stdin=row + "\n").stdout.split("\t")[0] == label


def test_python_source_is_completed(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for n in range(8):
        (source / f"m{n}.py").write_text("import numpy as np\nvalue = np.zeros(3)\nother = np.ones(value)\n" * 5)
    succeed("train", source, "-o", tmp_path / "m", *FEW)
    out = succeed("predict", tmp_path / "m", "-", "-k", "1", stdin="import numpy as np\nvalue = np.").stdout
    assert out.startswith("zeros\t")


def test_tensorboard_events(rows: Trained, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    done = process("train", rows.train, "-o", tmp_path / "m", *FEW, "--tensorboard", tmp_path / "events")
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "events").glob("events.out.tfevents.*"))


def test_ctrl_c_saves_and_resume_ends_where_it_would_have(tmp_path: Path) -> None:
    data = write_xmc(tmp_path / "train.txt", 200)
    options = ("--epochs", "40", "--batch-size", "8", "--hidden", "16", "--threads", "1")
    command = [sys.executable, "-m", "hashfold", "train", str(data), "-o", str(tmp_path / "m"), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if line.startswith("epoch 1 "):  # training has begun
                break
        running.send_signal(signal.SIGINT)
        *_, last = running.stderr.read().splitlines()
    assert running.returncode == 130
    assert "--resume" in last
    assert not (tmp_path / "m").exists()
    succeed("train", data, "-o", tmp_path / "m", *options, "--quiet", "--resume")
    succeed("train", data, "-o", tmp_path / "straight", *options, "--quiet")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("m", "straight")]
    assert weights[0] == weights[1]
    assert not list(tmp_path.glob("*.checkpoint"))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="watches the process through /proc")
def test_ctrl_c_elsewhere(rows: Trained) -> None:
    command = [sys.executable, "-m", "hashfold", "predict", str(rows.model), "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdin is not None
        assert running.stderr is not None
        running.stdin.write(f"9 40 {LABELS}\n")
        running.stdin.flush()
        while "numpy" not in Path(f"/proc/{running.pid}/maps").read_text():  # it has got to work
            time.sleep(0.05)
        time.sleep(1.0)
        running.send_signal(signal.SIGINT)
        errors = running.stderr.read()
    # 130 to a shell either way: an interrupted import makes CPython end by the signal after all.
    assert running.returncode in (130, -signal.SIGINT)
    assert errors.splitlines()[-1] == "hashfold: interrupted."
    assert "Traceback" not in errors


def test_overwrite_only_when_asked(rows: Trained, tmp_path: Path) -> None:
    succeed("train", rows.train, "-o", tmp_path / "m", *FEW)
    before = (tmp_path / "m" / "config.json").read_bytes()
    assert "already" in refuse("train", rows.train, "-o", tmp_path / "m", *FEW)
    assert (tmp_path / "m" / "config.json").read_bytes() == before
    succeed("train", rows.train, "-o", tmp_path / "m", *FEW, "--overwrite", "--seed", "9")
    assert (tmp_path / "m" / "config.json").read_bytes() != before


def test_threads_are_an_option(rows: Trained) -> None:
    succeed("eval", rows.model, rows.valid, "--threads", str(os.cpu_count() or 1))
    assert run("eval", rows.model, rows.valid, "--threads", "0").exit_code == 2
