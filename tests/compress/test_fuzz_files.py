"""Bytes flipped, cut, replaced or dropped at random in a compressed model's file: refused, or the same model."""

import json
import random

import numpy as np
import pytest
import torch
from compress.small_models import dense_net, folded_net, stored
from safetensors.torch import load_file

from hashfold.compress import container, load, save
from hashfold.errors import FileFormatError


def harm(data: bytes, rng: np.random.Generator) -> bytes:
    at, kind = int(rng.integers(len(data))), rng.integers(4)
    if kind == 0:
        return data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :]
    if kind == 1:
        return data[:at]
    if kind == 2:
        return data[:at] + rng.bytes(int(rng.integers(1, 9))) + data[at + int(rng.integers(9)) :]
    return data[:at] + data[at + 1 :]


@pytest.mark.parametrize("part", ["header", "anywhere"])
@pytest.mark.parametrize("entropy", [False, True])
def test_harm_is_refused_or_harmless(tmp_path, entropy, part):
    model, path = folded_net(), tmp_path / "m"
    save(model, path, entropy=entropy)
    data, rng, refused = path.read_bytes(), np.random.default_rng(0), []
    head = 8 + int.from_bytes(data[:8], "little") + 400 if part == "header" else len(data)
    for _ in range(200):
        path.write_bytes(harm(data[:head], rng) + data[head:])
        try:
            again = load(path, dense_net)
        except FileFormatError as error:
            refused.append(str(error))
            continue
        for name, tensor in stored(model).items():
            assert torch.equal(tensor, stored(again)[name])
    assert len(refused) > 150
    assert all(message.startswith(str(path)) and "\n" not in message for message in refused)


ODD = [
    0,
    -1,
    7,
    300,
    None,
    True,
    1.5,
    "r",
    "rrtt",
    "uint8",
    [],
    {},
    ["m", 3, 5, 0, [0, 9, 5, 1, 1]],
    ["c", 4, 9, "t"],
]


def places(value: object) -> list[tuple[object, object]]:
    """Every container and key within a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, part in items for place in ((value, key), *places(part))]


def test_a_manifest_made_to_deceive_is_refused(tmp_path):
    """Its digest is right, what it says is not."""
    save(folded_net(), tmp_path / "m", entropy=True)
    payload = load_file(tmp_path / "m")["coded"].numpy().tobytes()
    end = 4 + int.from_bytes(payload[:4], "little")
    text = container._inflated(payload[4:end])
    size = int.from_bytes(text[:4], "little")
    rng, refused = random.Random(0), []
    for _ in range(200):
        manifest = json.loads(text[4 : 4 + size])
        target, key = rng.choice(places(manifest))
        target[key] = rng.choice(ODD)
        said = json.dumps(manifest).encode()
        head = container._deflated(len(said).to_bytes(4, "little") + said + text[4 + size :])
        whole = bytearray(len(head).to_bytes(4, "little") + head + payload[end:])
        (tmp_path / "m").write_bytes(container._file({"coded": torch.frombuffer(whole, dtype=torch.uint8)}, head))
        try:
            load(tmp_path / "m", dense_net)
        except FileFormatError as error:
            refused.append(str(error))
    assert len(refused) > 150
    assert not [message for message in refused if "\n" in message]
