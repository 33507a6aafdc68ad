"""Models trained once for all tests of the command."""

from pathlib import Path
from typing import NamedTuple

import pytest
from cli.helpers import succeed, write_texts, write_xmc


class Trained(NamedTuple):
    model: Path
    train: Path
    valid: Path


FEW = ("--epochs", "12", "--batch-size", "16", "--hidden", "32", "--lr", "0.02", "--quiet")


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A model of sparse rows."""
    folder = tmp_path_factory.mktemp("rows")
    train, valid = write_xmc(folder / "train.txt", 300), write_xmc(folder / "valid.txt", 60, seed=1)
    succeed("train", train, "--valid", valid, "-o", folder / "model", *FEW)
    return Trained(folder / "model", train, valid)


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A model of texts."""
    folder = tmp_path_factory.mktemp("texts")
    train, valid = write_texts(folder / "train.csv", 240), write_texts(folder / "valid.csv", 40, seed=1)
    succeed("train", train, "--valid", valid, "-o", folder / "model", *FEW)
    return Trained(folder / "model", train, valid)
