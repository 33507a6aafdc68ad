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


TRAINING = """
from hashfold.data import synthetic
from hashfold.model import LookupNetwork, NetworkConfig
rows, _ = synthetic(32, 50, 20)
net = LookupNetwork(NetworkConfig(50, 20, hidden=8))
net.training_step(rows.x, rows.y, 0)
net.optimizer.zero_grad()
net.optimizer.load_state_dict(net.optimizer.state_dict())
"""


def test_training_needs_neither_torchs_compiler_nor_what_fits_the_mixture() -> None:
    """They take a second to import, and 90 MB."""
    loaded = modules_after(TRAINING)
    assert "hashfold.optim" in loaded
    assert not loaded & {"torch._dynamo", "scipy.optimize"}


def test_it_would_notice() -> None:
    assert "torch" in modules_after("import hashfold, hashfold.kernels.sparse_linear")
    assert "torch._dynamo" in modules_after("import torch\ntorch.optim.SGD([torch.zeros(1)])")
