"""Starting is quick: torch and scikit-learn are loaded only by those who use them."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "sklearn", "scipy", "rich.console")


def modules_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint('MODULES', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split()[1:])


def run(*args: str) -> str:
    return f"""
from hashfold.cli import hashfold
try:
    hashfold.main({list(args)!r}, prog_name="hashfold")
except SystemExit as done:
    assert done.code == 0, done.code
"""


COMMANDS = ("train", "eval", "predict", "demo", "doctor")


@pytest.mark.parametrize(
    "code", ["import hashfold", run("--help"), run("--version"), *(run(name, "--help") for name in COMMANDS)]
)
def test_neither_torch_nor_sklearn(code: str) -> None:
    loaded = modules_after(code)
    assert "hashfold" in loaded
    assert not loaded & set(HEAVY)


def test_it_would_notice() -> None:
    assert "torch" in modules_after("import hashfold, hashfold.kernels.sparse_linear")
