"""The README's programs run as they stand, and are as short as they claim."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

TEXT = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def run(program: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(program, "README.md", "exec"), names)
    return names


def test_the_uses_are_short() -> None:
    assert len(PROGRAMS) == 3
    for program in PROGRAMS:
        assert len([line for line in program.splitlines() if line.strip()]) < 15


def test_the_estimator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = run(PROGRAMS[0])
    assert names["names"][0][0] == "kitchen"
    assert "kitchen" in capsys.readouterr().out
    assert names["again"].predict(["running"])[0] == names["model"].predict(["running"])[0]


def test_the_layers() -> None:
    names = run(PROGRAMS[1])
    found, truth = names["found"], names["test"].y
    hits = np.mean([found[row][0] in truth[row] for row in range(len(truth))])
    assert hits > 0.3  # one epoch; guessing the most frequent label gives .17


def test_the_fold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = run(PROGRAMS[2])
    x = torch.randn(3, 784)
    assert torch.equal(names["again"](x), names["small"](x))
    assert 0 < names["written"] < 784 * 300 * 4 / 6  # of float32
    whole, mixed = (sum(p.numel() for p in names[n].parameters()) for n in ("net", "mixed"))
    assert mixed < whole / 10


def test_the_commands_exist() -> None:
    from hashfold.cli import hashfold

    for name in re.findall(r"^(?:.*\| )?hashfold (\w+)", TEXT, re.MULTILINE):
        assert name in hashfold.commands
