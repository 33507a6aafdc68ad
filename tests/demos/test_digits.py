"""The digits demo: what it measures is what it did."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from hashfold.demos import digits
from hashfold.demos.images import load_npz
from hashfold.errors import InputError

SMALL = digits.Recipe(hidden=128, epochs=5, active_fraction=0.25)


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return digits.run(seed=1, recipe=SMALL)


def test_both_networks_learn(result: dict[str, Any]) -> None:
    assert result["dense"]["accuracy"] > 0.93
    assert result["hashed"]["accuracy"] > 0.9
    assert json.loads(json.dumps(result)) == result


def test_multiplications_are_those_of_the_neurons_computed(result: dict[str, Any]) -> None:
    dense, hashed = result["dense"]["multiplications"], result["hashed"]["multiplications"]
    assert dense == {"hashing": 0, "hidden": 128 * 256, "output": 1280, "total": 128 * 266}
    assert result["neurons_computed"] == 32
    assert hashed["hidden"] == 32 * 256
    assert hashed["output"] == pytest.approx(10 * 128 * result["hashed"]["fired_fraction"])
    assert 0 < hashed["output"] < 320
    assert hashed["total"] == hashed["hashing"] + hashed["hidden"] + hashed["output"]
    assert result["hashed"]["computed_fraction"] == 0.25
    # 128 tables of 16 buckets over 128 neurons: 8 a bucket if they lay evenly
    assert 128 * 4 < result["hashed"]["collisions"] < 128 * 32


def test_example_shows_the_neurons_of_one_image(result: dict[str, Any]) -> None:
    drawn = result["example"]
    assert len(drawn["pixels"]) == 256
    assert len(set(drawn["looked_up"])) == 32
    assert set(drawn["fired"]) < set(drawn["looked_up"])


def test_same_seed_same_result(result: dict[str, Any]) -> None:
    assert digits.run(seed=1, recipe=SMALL) == result


def test_show_prints_both_networks_and_the_neurons(result: dict[str, Any]) -> None:
    text = io.StringIO()
    digits.show(result, Console(file=text, width=110))
    lines = text.getvalue()
    assert f"{result['hashed']['accuracy']:.4f}" in lines
    assert f"{128 * 266:,}" in lines
    assert lines.count("●") == len(result["example"]["fired"]) + 1  # and once in the legend
    assert ", ".join(map(str, result["example"]["looked_up"][:5])) in lines


def test_looking_up_all_neurons_is_the_dense_network() -> None:
    recipe = replace(SMALL, hidden=40)
    network = digits.DigitNetwork(recipe, seed=0)
    x = torch.rand(6, 256, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network(x, 40), network(x, None))
    assert not torch.allclose(network(x, 10), network(x, None))


@pytest.mark.parametrize(
    ("index", "options", "expected"),
    [
        ("lsh", {"family": "simhash", "num_tables": 4, "hashes_per_table": 3}, 4 * 3 * 256),
        ("lsh", {"family": "dwta", "num_tables": 4, "hashes_per_table": 1}, 0),
        ("clustered", {"num_clusters": 8, "lift": "none"}, 8 * 256),
        ("exact", {}, 40 * 256),
    ],
)
def test_hashing_has_its_price(index: str, options: dict[str, Any], expected: int) -> None:
    seed = {} if index == "exact" else {"seed": 3}
    layer = digits.LSHLinear(256, 40, index=index, index_options={**options, **seed})
    layer.rebuild()
    assert digits.hashing_multiplications(layer.index) == expected


def images(**changes: Any) -> dict[str, Any]:
    x = np.zeros((20, 256), np.float32)
    return {"x_train": x, "y_train": np.arange(20) % 10, "x_test": x, "y_test": np.arange(20) % 10} | changes


def test_reads_images(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", **images())
    loaded = load_npz(tmp_path / "set.npz")
    assert (loaded.name, loaded.x_train.shape, loaded.y_test.dtype) == ("set", (20, 256), np.dtype(np.int64))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_test": np.zeros((20, 255), np.float32)}, r"x_test must be \(n, 256\)"),
        ({"y_train": np.zeros(19, np.int64)}, r"y_train \(n,\)"),
        ({"y_test": np.full(20, 10)}, r"y_test must lie in \[0, 10\)"),
        ({"x_train": np.full((20, 256), np.nan)}, "x_train must be finite"),
        ({"y_train": np.array(["seven"] * 20)}, "y_train must hold numbers"),
        ({"x_train": np.array([None] * 20)}, "must be an .npz file"),
        ({"x_train": np.zeros((0, 256)), "y_train": np.zeros(0, np.int64)}, "x_train must be"),
    ],
)
def test_refuses_images_of_another_kind(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", **images(**changes))
    with pytest.raises(InputError, match=message):
        load_npz(tmp_path / "set.npz")


def test_refuses_files_that_hold_no_images(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no images")
    np.savez(tmp_path / "part.npz", x_train=np.zeros((1, 256)))
    np.save(tmp_path / "array.npy", np.zeros((3, 256)))
    for name in ("text.npz", "part.npz", "array.npy", "absent.npz", "."):
        with pytest.raises(InputError, match=name):
            load_npz(tmp_path / name)


@pytest.mark.slow
@pytest.mark.skipif("HASHFOLD_DATA" not in os.environ, reason="HASHFOLD_DATA names no folder of data sets")
def test_usps_with_a_tenth_of_the_neurons() -> None:
    result = digits.run(Path(os.environ["HASHFOLD_DATA"]) / "usps" / "usps.npz")
    assert result["hashed"]["computed_fraction"] <= 0.1
    assert result["hashed"]["accuracy"] >= result["dense"]["accuracy"] - 0.005
