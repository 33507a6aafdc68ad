"""Running the command inside this process, and tiny data sets with something to learn."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner, Result

from hashfold.cli import hashfold

LABELS, FEATURES = 12, 40


def run(*args: str | Path, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(hashfold, [str(arg) for arg in args], input=stdin)


def succeed(*args: str | Path, stdin: str | bytes | None = None) -> Result:
    result = run(*args, stdin=stdin)
    assert result.exit_code == 0, result.stderr
    return result


def succeed_json(*args: str | Path, stdin: str | bytes | None = None) -> dict[str, Any]:
    """The one JSON object on standard output."""
    answer = json.loads(succeed(*args, "--json", stdin=stdin).stdout)
    assert isinstance(answer, dict)
    return answer


def refuse(*args: str | Path, stdin: str | bytes | None = None) -> str:
    """The one line with which the command says that the user is at fault."""
    result = run(*args, stdin=stdin)
    assert result.exit_code == 2, (result.exit_code, result.stderr)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    lines = result.stderr.splitlines()
    assert lines
    assert lines[-1].startswith("hashfold: "), lines
    return lines[-1]


def process(*args: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "hashfold", *map(str, args)], capture_output=True, text=True, timeout=120, **options
    )


def xmc_rows(rows: int, seed: int) -> list[str]:
    """Rows whose features say which labels they have: label l brings features 3 l to 3 l + 2, and noise."""
    rng = np.random.default_rng(seed)
    lines = []
    for _ in range(rows):
        labels = sorted({int(label) for label in rng.integers(0, LABELS, 2)})
        features = {3 * label + int(offset) for label in labels for offset in rng.integers(0, 3, 2)}
        features |= {int(f) for f in rng.integers(3 * LABELS, FEATURES, 1)}
        counts = [f"{f}:{rng.integers(1, 4)}" for f in sorted(features)]
        lines.append(",".join(map(str, labels)) + " " + " ".join(counts))
    return lines


def write_xmc(path: Path, rows: int = 200, seed: int = 0) -> Path:
    path.write_text("\n".join([f"{rows} {FEATURES} {LABELS}", *xmc_rows(rows, seed)]) + "\n")
    return path


WORDS = ("apple", "boat", "cloud", "drum", "eagle", "flute")


def write_texts(path: Path, rows: int = 120, seed: int = 0) -> Path:
    """A CSV of texts and their labels: a text about w has the label `about-w`."""
    rng = np.random.default_rng(seed)
    lines = ["text,labels"]
    for _ in range(rows):
        word = WORDS[rng.integers(len(WORDS))]
        filler = " ".join(f"common{n}" for n in rng.integers(0, 5, 3))
        lines.append(f"the {word} and {filler},about-{word}")
    path.write_text("\n".join(lines) + "\n")
    return path
