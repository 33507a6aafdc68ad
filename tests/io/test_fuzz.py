"""Bytes flipped, cut, doubled or dropped at random in each file of a model folder: refused or unharmed."""

import shutil

import numpy as np
import pytest

from hashfold.errors import ModelFolderError
from hashfold.io import load_model_folder, save_model_folder

CONFIG = {"network": {"hidden": 4, "rate": 0.005}, "data": {"rows": 10}, "names": ["a", "ü"]}
LABELS = ["a", "b\n", "ü"]
FILES = ("config.json", "model.safetensors", "labels.txt", "vocabulary.txt", "README.md")


def weights():
    return {"w": np.arange(20, dtype=np.float32).reshape(4, 5), "b": np.arange(4, dtype=np.int64)}


def harm(data: bytes, rng: np.random.Generator) -> bytes:
    at, kind = int(rng.integers(len(data))), rng.integers(4)
    if kind == 0:
        return data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :]
    if kind == 1:
        return data[:at]
    if kind == 2:
        return data[:at] + rng.bytes(int(rng.integers(1, 9))) + data[at + int(rng.integers(9)) :]
    return data[:at] + data[at + 1 :]


def same(folder) -> bool:
    return (
        folder.config == CONFIG
        and folder.labels == LABELS
        and folder.extra == {"vocabulary.txt": ["x", "y"]}
        and all(np.array_equal(folder.tensors[name], a) for name, a in weights().items())
    )


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("name", FILES)
def test_harm_is_refused_or_harmless(tmp_path, name, verify):
    whole = save_model_folder(tmp_path / "m", CONFIG, weights(), LABELS, extra={"vocabulary.txt": ["x", "y"]})
    harmed = shutil.copytree(whole, tmp_path / "harmed")
    data, rng, refused = (whole / name).read_bytes(), np.random.default_rng(0), []
    for _ in range(150):
        (harmed / name).write_bytes(harm(data, rng))
        try:
            folder = load_model_folder(harmed, verify=verify)
        except ModelFolderError as error:
            refused.append(str(error))
            continue
        # Without checksums a changed weight or letter cannot be seen, but must not crash.
        assert not verify or same(folder)
    assert len(refused) > 50 or name == "README.md"
    assert not [message for message in refused if "\n" in message]
