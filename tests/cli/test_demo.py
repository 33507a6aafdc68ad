"""The demos, made small."""

from pathlib import Path
from typing import Any

import pytest
from cli.helpers import refuse, succeed, succeed_json
from rich.console import Console

from hashfold.demos import code

LINES = "import numpy as np\nvalue = np.zeros(3)\nother = np.ones(value)\nlogger = logging.getLogger(name)\n"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    for n in range(30):
        (folder / f"m{n}.py").write_text(f"n{n} = {n}\n" + LINES * 4)
    return folder


@pytest.fixture(scope="module")
def result(source: Path) -> dict[str, Any]:
    settings = {"index": "clustered", "batch_size": 32, "lr": 0.02, "hidden": 32}
    return code.run(roots=[source], recipe=code.Recipe(epochs=8, overrides=settings))


def test_code_is_learned_and_measured(result: dict[str, Any]) -> None:
    assert result["exact"]["P@1"] > 0.8
    assert result["lookup"]["P@1"] > 0.7
    assert 0 < result["active_fraction"]["predicting"] <= 1
    assert result["lookup"]["ms_per_row"] > 0
    assert 0 <= result["same_best"] <= 1
    assert len(result["completions"]) == len(code.CONTEXTS)


def test_what_is_being_typed_is_kept(result: dict[str, Any]) -> None:
    (typing,) = (c for c in result["completions"] if c["context"].endswith("getL"))
    assert [name for name, _ in typing["names"]] == ["getLogger"]


def test_people_read_it(result: dict[str, Any]) -> None:
    console = Console(record=True, width=100)
    code.show(result, console)
    text = console.export_text()
    assert "lookup" in text
    assert "getLogger" in text


def test_the_command(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "python_source", lambda roots, **options: find([source], **options))
    assert succeed_json("demo", "--seed", "1")["demo"] == "code"
    assert "lookup" in succeed("demo").stdout
    assert "digits" in refuse("demo", "--data", "x.npz")
    assert "digits" in refuse("demo", "nosuch")


find = code.python_source
