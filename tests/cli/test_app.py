"""How errors become exit codes and one line, whatever goes wrong in a command."""

import errno
import json
import os
import subprocess
import sys

import click
import numpy as np
import pytest
from click.testing import CliRunner

from hashfold.cli.app import Hashfold, Invocation, common, show_json
from hashfold.errors import FileFormatError, HashfoldError, InputError, Interrupted, MissingDependencyError

FAULTS = [
    (InputError("train: lr must be a number above 0; got -1."), 2, "train: lr must be a number above 0"),
    (FileFormatError("a.txt", "feature 9 is outside [0, 9).", 3), 2, "a.txt:3: feature 9"),
    (MissingDependencyError("parquet: pip install 'hashfold[parquet]'."), 2, "hashfold[parquet]"),
    (HashfoldError("two\nlines"), 2, "two lines"),
    (OSError(errno.ENOSPC, "No space left on device", "/m/model"), 2, "/m/model: No space left"),
    (PermissionError(errno.EACCES, "Permission denied", "x.txt"), 2, "x.txt: Permission denied"),
    (click.BadParameter("no"), 2, "no"),
    (click.UsageError("which?"), 2, "which?"),
    (MemoryError(), 1, "out of memory"),
    (AssertionError("ours"), 1, "internal error: AssertionError: ours"),
    (OSError("odd"), 1, "internal error"),
    (KeyboardInterrupt(), 130, "interrupted"),
    (Interrupted("train: stopped; saved in c.", "c", 2), 130, "saved in c"),
    (Interrupted("train: stopped; saved in c.", "c", 15), 143, "saved in c"),
]


def failing(error: BaseException) -> Hashfold:
    @click.command()
    @common
    def fail(invocation: Invocation) -> None:
        raise error

    return Hashfold("hashfold", commands=[fail])


@pytest.mark.parametrize(("error", "code", "words"), FAULTS, ids=lambda f: type(f).__name__)
def test_every_fault_is_one_line_and_a_code(error: BaseException, code: int, words: str) -> None:
    result = CliRunner().invoke(failing(error), ["fail"])
    assert result.exit_code == code
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("hashfold: ")
    assert words in line


def test_debug_shows_the_traceback() -> None:
    result = CliRunner().invoke(failing(InputError("bad")), ["fail", "--debug"])
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1] == "hashfold: bad"


@pytest.mark.parametrize("args", [["nosuch"], ["doctor", "--nosuch"], ["doctor", "extra"]])
def test_usage_errors_say_where_help_is(args: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "hashfold", *args], capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "--help" in line


def test_a_reader_who_leaves_is_no_error() -> None:
    code = (
        "import click\n"
        "from hashfold.cli.app import Hashfold, common\n"
        "@click.command()\n"
        "@common\n"
        "def many(invocation):\n"
        "    for _ in range(100000): click.echo('line')\n"
        "Hashfold('hashfold', commands=[many]).main(['many'])\n"
    )
    command = f'{sys.executable} -c "$CODE" | head -1; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env={**os.environ, "CODE": code}
    )
    assert done.stdout == "line\n"
    assert done.stderr == ""
    assert done.returncode == 141


def test_json_is_one_line_without_nan(capsys: pytest.CaptureFixture[str]) -> None:
    show_json({"a": np.float32(0.5), "b": float("nan"), "c": [np.int64(3), (np.inf,)], "d": np.ones(1), "e": "é"})
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {"a": 0.5, "b": None, "c": [3, [None]], "d": [1.0], "e": "é"}
