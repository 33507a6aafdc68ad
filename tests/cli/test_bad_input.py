"""What a user can get wrong: one line that names file and line and a remedy, exit code 2, nothing half-written."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli.conftest import Trained
from cli.helpers import FEATURES, LABELS, process, refuse, run, succeed, xmc_rows

ROWS = xmc_rows(30, seed=4)
HEADER = f"30 {FEATURES} {LABELS}"
QUICK = ("--epochs", "1", "--hidden", "4", "--quiet")


def with_row(row: str) -> bytes:
    """A good file but for its third row, on line 4."""
    return "\n".join([HEADER, *ROWS[:2], row, *ROWS[3:]]).encode() + b"\n"


# name -> (file name, content, where it is wrong, words of the message)
FILES: dict[str, tuple[str, bytes, str, str]] = {
    "empty": ("x.txt", b"", "x.txt", "empty"),
    "header without numbers": ("x.txt", b"what is this\n1 2:3\n", "x.txt:1:", "header"),
    "fewer rows than the header says": ("x.txt", "\n".join([HEADER, *ROWS[:9]]).encode() + b"\n", "x.txt", "30"),
    "more rows than the header says": (
        "x.txt",
        "\n".join([f"3 {FEATURES} {LABELS}", *ROWS]).encode(),
        "x.txt:5:",
        "3",
    ),
    "feature out of range": ("x.txt", with_row(f"1 2:1 {FEATURES}:1"), "x.txt:4:", f"[0, {FEATURES})"),
    "label out of range": ("x.txt", with_row(f"{LABELS} 2:1"), "x.txt:4:", f"[0, {LABELS})"),
    "negative feature": ("x.txt", with_row("1 -2:1"), "x.txt:4:", "-2"),
    "negative label": ("x.txt", with_row("-1 2:1"), "x.txt:4:", "-1"),
    "repeated feature": ("x.txt", with_row("1 2:1 2:3"), "x.txt:4:", "2"),
    "repeated label": ("x.txt", with_row("1,1 2:1"), "x.txt:4:", "1"),
    "NaN": ("x.txt", with_row("1 2:nan"), "x.txt:4:", "nan"),
    "infinity": ("x.txt", with_row("1 2:inf"), "x.txt:4:", "inf"),
    "beyond float32": ("x.txt", with_row("1 2:1e60"), "x.txt:4:", "1e60"),
    "value missing": ("x.txt", with_row("1 2:"), "x.txt:4:", ""),
    "words": ("x.txt", with_row("1 two:1"), "x.txt:4:", "two"),
    "not UTF-8": ("x.txt", with_row("1 2:1").replace(b"2:1\n", b"2:\xff\n"), "x.txt:4:", ""),
    "no labels at all": ("x.txt", f"2 {FEATURES} {LABELS}\n 1:1\n 2:1\n".encode(), "", "labels"),
    "damaged gzip": ("x.txt.gz", b"\x1f\x8b\x08\x00rest is missing", "x.txt.gz", ""),
    "svmlight NaN": ("x.svm", b"1 1:1\n0 1:nan\n", "x.svm:2:", "nan"),
    "svmlight words": ("x.svm", b"1 1:1\nspam 1:2\n", "x.svm:2:", "spam"),
    "CSV not UTF-8": ("x.csv", b"text,labels\ngood,a\nb\xffd,b\n", "x.csv:3:", "UTF-8"),
    "CSV with another number of columns": ("x.csv", b"text,labels\ngood,a\nthree,b,c\n", "x.csv:3:", "2 columns"),
    "CSV without labels": ("x.csv", b"text,other\ngood good,a\ngood,b\n", "", "labels"),
    "CSV that is empty": ("x.csv", b"", "x.csv", "empty"),
    "JSON lines broken": ("x.jsonl", b'{"text": "a b", "labels": ["x"]}\n{"text": \n', "x.jsonl:2:", "JSON"),
    "JSON lines of numbers": ("x.jsonl", b"1\n2\n", "x.jsonl:1:", "object"),
    "Parquet that is none": ("x.parquet", b"PAR1 not really", "x.parquet", "Parquet"),
    "unknown ending": ("x.docx", b"1 2 3", "x.docx", ".txt"),
}


@pytest.mark.parametrize("case", FILES)
def test_files(case: str, tmp_path: Path) -> None:
    name, content, where, words = FILES[case]
    (tmp_path / name).write_bytes(content)
    line = refuse("train", tmp_path / name, "-o", tmp_path / "model", *QUICK)
    assert where in line
    assert words in line
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_is_sorted_is_not_refused(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(with_row("3,1 9:1 2:1"))
    succeed("train", tmp_path / "x.txt", "-o", tmp_path / "model", *QUICK)


def test_the_same_for_held_out_rows(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("\n".join([HEADER, *ROWS]) + "\n")
    (tmp_path / "v.txt").write_bytes(with_row("1 2:nan"))
    line = refuse("train", tmp_path / "x.txt", "--valid", tmp_path / "v.txt", "-o", tmp_path / "m", *QUICK)
    assert "v.txt:4:" in line
    (tmp_path / "v.txt").write_text("1 50 12\n1 45:1\n")
    line = refuse("train", tmp_path / "x.txt", "--valid", tmp_path / "v.txt", "-o", tmp_path / "m", *QUICK)
    assert "v.txt:2:" in line
    assert not (tmp_path / "m").exists()


def test_no_such_file_or_a_folder_instead(tmp_path: Path, rows: Trained) -> None:
    assert "gone.txt" in refuse("train", tmp_path / "gone.txt", "-o", tmp_path / "m")
    assert "gone.txt" in refuse("eval", rows.model, tmp_path / "gone.txt")
    assert "gone.txt" in refuse("predict", rows.model, tmp_path / "gone.txt")
    (tmp_path / "folder.txt").mkdir()
    line = refuse("train", tmp_path / "folder.txt", "-o", tmp_path / "m", "--format", "xmc")
    assert "folder.txt" in line
    assert "directory" in line.lower()


@pytest.mark.skipif(os.geteuid() == 0, reason="everything is permitted to root")
def test_no_permission(tmp_path: Path, rows: Trained) -> None:
    secret = shutil.copy(rows.train, tmp_path / "secret.txt")
    Path(secret).chmod(0)
    assert "secret.txt" in refuse("train", secret, "-o", tmp_path / "m")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    assert "closed" in refuse("train", rows.train, "-o", closed / "m", *QUICK)


OPTIONS = [
    ("--epochs", "0", "epochs"),
    ("--epochs", "many", "epochs"),
    ("--batch-size", "-1", "batch_size"),
    ("--lr", "nan", "lr"),
    ("--lr", "-0.1", "lr"),
    ("--hidden", "0", "hidden"),
    ("--dropout", "1.5", "dropout"),
    ("--negatives", "-1", "negatives"),
    ("--seed", "-1", "seed"),
    ("--loss", "hinge", "loss"),
    ("--index", "faiss", "index"),
    ("--threads", "0", "threads"),
    ("--format", "xlsx", "format"),
    ("--max-seconds", "0", "max_seconds"),
    ("--patience", "3", "held-out"),
    ("--label-names", "gone.txt", "gone.txt"),
    ("--valid", "gone.txt", "gone.txt"),
    ("--nonsense", "1", "--nonsense"),
]


@pytest.mark.parametrize(("option", "value", "words"), OPTIONS)
def test_options(option: str, value: str, words: str, tmp_path: Path, rows: Trained) -> None:
    line = refuse("train", rows.train, "-o", tmp_path / "m", option, value)
    assert words in line.replace("-", "_") or words in line
    assert not list(tmp_path.iterdir())


def test_columns_that_are_not_there(tmp_path: Path, texts: Trained) -> None:
    for option in ("--label-column", "--text-column"):
        line = refuse("train", texts.train, "-o", tmp_path / "m", option, "nowhere")
        assert "'nowhere'" in line
        assert "'text'" in line


def test_an_output_that_must_not_be_touched(tmp_path: Path, rows: Trained) -> None:
    (tmp_path / "notes").write_text("mine")
    assert "notes" in refuse("train", rows.train, "-o", tmp_path / "notes", *QUICK)
    assert "notes" in refuse("train", rows.train, "-o", tmp_path / "notes" / "below", *QUICK)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("mine")
    assert "folder" in refuse("train", rows.train, "-o", tmp_path / "folder", *QUICK, "--overwrite")
    assert (tmp_path / "folder" / "thesis.tex").read_text() == "mine"
    assert "--output" in refuse("train", rows.train)


def test_refused_before_the_work_not_after(tmp_path: Path) -> None:
    """The output is looked at first: even unreadable data are not opened."""
    (tmp_path / "notes").write_text("mine")
    assert "notes" in refuse("train", tmp_path / "gone.txt", "-o", tmp_path / "notes")


def test_a_full_disk(tmp_path: Path, rows: Trained) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    done = process("train", rows.train, "-o", tmp_path / "m", *QUICK, preexec_fn=small_files)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("hashfold: ")
    assert str(tmp_path / "m") in last
    assert not [path for path in tmp_path.iterdir() if not path.name.endswith(".checkpoint")]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 0xFF
    path.write_bytes(bytes(content))


def edit(path: Path, before: str, after: str) -> None:
    content = path.read_text()
    assert before in content
    path.write_text(content.replace(before, after))


def newer(path: Path) -> None:
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "format_version": 999}))


MODELS: dict[str, tuple[Callable[[Path], object], str]] = {
    "weights truncated": (lambda m: truncate(m / "model.safetensors"), "model.safetensors"),
    "weights damaged": (lambda m: flip(m / "model.safetensors"), "model.safetensors"),
    "weights missing": (lambda m: (m / "model.safetensors").unlink(), "model.safetensors"),
    "no configuration": (lambda m: (m / "config.json").unlink(), "model folder"),
    "configuration truncated": (lambda m: truncate(m / "config.json"), "config.json"),
    "configuration of nothing": (lambda m: (m / "config.json").write_text("{}"), "model"),
    "configuration edited": (
        lambda m: edit(m / "config.json", '"hidden": 32', '"hidden": 33'),
        "config.json",
    ),
    "newer": (lambda m: newer(m / "config.json"), "upgrade hashfold"),
    "labels missing": (lambda m: (m / "labels.txt").unlink(), "labels.txt"),
    "labels truncated": (lambda m: truncate(m / "labels.txt"), "labels.txt"),
    "nothing": (shutil.rmtree, "model"),
}


@pytest.mark.parametrize("case", MODELS)
@pytest.mark.parametrize("command", ["eval", "predict"])
def test_model_folders(case: str, command: str, tmp_path: Path, texts: Trained) -> None:
    change, words = MODELS[case]
    model = tmp_path / "model"
    shutil.copytree(texts.model, model)
    change(model)
    line = refuse(command, model, texts.valid)
    assert str(model) in line
    assert words in line


def test_a_folder_of_another_kind(tmp_path: Path, rows: Trained) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["BertModel"]}')
    assert str(tmp_path) in refuse("eval", tmp_path, rows.valid)
    assert str(rows.train) in refuse("eval", rows.train, rows.valid)


def test_a_config_that_lies(tmp_path: Path, rows: Trained) -> None:
    """A folder whose checksums hold but whose parts do not fit: still one line."""
    from hashfold.io import load_model_folder, save_model_folder

    folder = load_model_folder(rows.model)
    for section, name in (("network", "hidden"), ("targets", "kind"), ("input", "weighting"), ("data", "rows")):
        config = json.loads(json.dumps(folder.config))
        del config[section][name]
        if section == "network":
            config[section]["hidden"] = 7
        path = save_model_folder(tmp_path / section, config, folder.tensors, folder.labels, extra=folder.extra)
        assert str(path) in refuse("eval", path, rows.valid)


def test_data_of_another_kind_than_the_model(rows: Trained, texts: Trained, tmp_path: Path) -> None:
    for model, data in ((texts.model, rows.valid), (rows.model, texts.valid), (rows.model, tmp_path)):
        for command in ("eval", "predict"):
            line = refuse(command, model, data)
            assert str(data) in line
            assert "trained on" in line
    wide = tmp_path / "wide.txt"
    wide.write_text("1 99 12\n1 2:1 77:1\n")
    assert "wide.txt:2:" in refuse("predict", rows.model, wide)


@pytest.mark.parametrize(
    ("content", "where"),
    [(b"1 40 12\n 1:nan\n", ":2:"), (b"\xff\xfe\n", ":1:"), (b"", "empty")],
)
def test_standard_input(content: bytes, where: str, rows: Trained) -> None:
    assert where in refuse("predict", rows.model, "-", stdin=content)


def test_text_on_standard_input_that_is_not_utf8(texts: Trained) -> None:
    line = refuse("predict", texts.model, stdin=b"good\nb\xffd\n")
    assert ":2:" in line
    assert "UTF-8" in line


def test_resume_without_anything_to_resume(tmp_path: Path, rows: Trained) -> None:
    assert "checkpoint" in refuse("train", rows.train, "-o", tmp_path / "m", *QUICK, "--resume")


def test_divergence_is_told(tmp_path: Path, rows: Trained) -> None:
    result = run("train", rows.train, "-o", tmp_path / "m", "--lr", "1e38", "--epochs", "3", "--quiet")
    assert result.exit_code in (0, 2)
    assert "Traceback" not in result.stderr
    if result.exit_code == 2:
        assert "--lr" in result.stderr
        assert not (tmp_path / "m").exists()


def test_in_a_process_of_its_own(tmp_path: Path) -> None:
    """What the shell sees, without the test runner between."""
    (tmp_path / "x.txt").write_bytes(with_row("1 2:nan"))
    done = subprocess.run(
        [sys.executable, "-m", "hashfold", "train", "x.txt", "-o", "m", *QUICK],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("hashfold: x.txt:4: ")


def test_every_row_of_noise_is_refused_or_read(tmp_path: Path) -> None:
    """Whatever bytes come: an exit code of 0 or 2, never a traceback or a crash."""
    rng = np.random.default_rng(0)
    for trial in range(20):
        noise = bytearray(with_row("1 2:1"))
        for at in rng.integers(0, len(noise), 3):
            noise[at] = rng.integers(256)
        path = tmp_path / f"{trial}.txt"
        path.write_bytes(bytes(noise))
        assert run("train", path, "-o", tmp_path / f"m{trial}", *QUICK).exit_code in (0, 2)
