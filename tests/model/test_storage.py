"""Weights in a model folder: small, rounded once, and predicting after loading what they predicted before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hashfold.data import Dataset, synthetic
from hashfold.errors import InputError, ModelFolderError
from hashfold.io import MODEL, open_folder
from hashfold.io.sealed import FolderKind, write_folder
from hashfold.model import HashfoldModel, NetworkConfig
from hashfold.model.storage import BIG, STORAGES, from_file, round_weights, to_file
from hashfold.train import fit_model

storages = pytest.mark.parametrize("storage", STORAGES)
NETWORK = {"hidden": 37, "negatives": 50, "hard_negatives": 3, "loss": "sigmoid", "lr": 0.02, "epochs": 2}


def trained(**changes: object) -> tuple[HashfoldModel, Dataset]:
    train, test = synthetic(300, 400, 120, features_per_row=12, seed=0)
    return fit_model(train, weighting="none", overrides=NETWORK | changes)[0], test


@pytest.fixture(scope="module", params=STORAGES)
def model(request: pytest.FixtureRequest) -> tuple[HashfoldModel, Dataset]:
    return trained(storage=request.param)


def state(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {"input.weight": (30, 9), "input.bias": (9,), "output.weight": (50, 9), "output.bias": (50,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def rounded(weight: np.ndarray, storage: str) -> np.ndarray:
    weight = weight.copy()
    round_weights(weight, storage)
    return weight


def read(tensors: dict[str, np.ndarray], storage: str) -> dict[str, np.ndarray]:
    filled = {name: np.full_like(array, np.nan) for name, array in state().items()}
    from_file(Path("m"), tensors, filled, storage)
    return filled


def assert_same_predictions(one: HashfoldModel, other: HashfoldModel, data: Dataset) -> None:
    for lookup in (False, True):
        for have, want in zip(
            one.top_k(data.x, 7, lookup=lookup), other.top_k(data.x, 7, lookup=lookup), strict=True
        ):
            np.testing.assert_array_equal(have, want)


def test_a_loaded_model_predicts_the_same_bits(model, tmp_path):
    whole, data = model
    loaded = HashfoldModel.load(whole.save(tmp_path / "m"))
    assert loaded.network.config == whole.network.config
    assert_same_predictions(whole, loaded, data)
    again = HashfoldModel.load(loaded.save(tmp_path / "again"))
    assert_same_predictions(whole, again, data)


def test_it_predicts_in_the_precision_that_it_is_stored_in(model):
    whole, data = model
    int8 = whole.network.config.storage == "int8"
    assert whole.network.searcher(False).config()["precision"] == ("int8" if int8 else "fp32")
    ours, exact = whole.top_k(data.x, 1, lookup=True), whole.top_k(data.x, 1)
    same = ours[0] == exact[0]
    assert same.mean() > 0.8
    np.testing.assert_allclose(ours[1][same], exact[1][same], atol=0.05 * np.abs(exact[1]).max())


def test_trained_models_are_stored_in_8_bits_by_default_and_lose_little():
    small, data = trained()
    whole, _ = trained(storage="fp32")
    assert small.network.config.storage == "int8"
    ours, exact = (m.network.top_k(m.encode(data.x), 5) for m in (small, whole))
    np.testing.assert_allclose(ours[1], exact[1], atol=0.05 * np.abs(exact[1]).max())
    first = [m.top_k(data.x, 1)[0][:, 0] for m in (small, whole)]  # mixtures are fitted to what was rounded
    assert (first[0] == first[1]).mean() > 0.9


@pytest.mark.parametrize(("storage", "share"), [("fp16", 0.55), ("int8", 0.40)])  # 37 columns: 4 bytes of scale
def test_a_whole_model_can_be_saved_small(storage, share, tmp_path):
    whole, data = trained(storage="fp32")
    paths = [whole.save(tmp_path / s, storage=s) for s in ("fp32", storage)]
    sizes = [(path / "model.safetensors").stat().st_size for path in paths]
    assert sizes[1] < share * sizes[0]
    small = HashfoldModel.load(paths[1])
    assert small.network.config.storage == storage
    assert_same_predictions(small, HashfoldModel.load(small.save(tmp_path / "again")), data)
    assert_same_predictions(whole, HashfoldModel.load(paths[0]), data)  # saving small left it as it was


@storages
def test_files_hold_what_was_rounded(storage):
    tensors = {name: rounded(a, storage) if name in BIG else a for name, a in state().items()}
    back = read(to_file(tensors, storage), storage)
    for name, array in tensors.items():
        np.testing.assert_array_equal(back[name], array, strict=True)
    first = read(to_file(state(), storage), storage)
    np.testing.assert_array_equal(first["output.weight"], tensors["output.weight"])


def test_folders_of_version_1_are_read(tmp_path):
    model, data = trained(storage="fp32")
    new = open_folder(model.save(tmp_path / "new"), MODEL)
    config = {**new.config, "network": {k: v for k, v in new.config["network"].items() if k != "storage"}}
    contents = {
        name: new.tensors(name) if name.endswith(".safetensors") else new.lines(name) for name in new.files
    }
    old = FolderKind(MODEL.format, 1, MODEL.manifest, MODEL.noun)
    loaded = HashfoldModel.load(write_folder(tmp_path / "old", old, config, contents))
    assert loaded.network.config.storage == "fp32"
    assert_same_predictions(model, loaded, data)


def less(name: str) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    return lambda tensors: {n: a for n, a in tensors.items() if n != name}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (less("output.weight.scales"), "tensor output.weight.scales .* is missing"),
        (lambda t: t | {"output.weight": t["output.bias"]}, "tensor output.weight is not part"),
        (lambda t: t | {"input.weight.codes": t["input.weight.codes"][1:]}, "tensor input.weight.codes must be"),
        (
            lambda t: t | {"input.weight.codes": t["input.weight.codes"].astype("f")},
            "must be int8 for storage int8; got float32",
        ),
        (lambda t: t | {"output.bias": t["output.bias"].astype("d")}, "output.bias must be float32"),
    ],
)
def test_tensors_that_do_not_fit_the_storage_are_refused(change, says):
    tensors = change(to_file(state(), "int8"))
    with pytest.raises(ModelFolderError, match=says):
        read(tensors, "int8")


def test_a_folder_with_impossible_rows_is_refused(tmp_path):
    model, _ = trained(storage="int8", epochs=1)
    good = open_folder(model.save(tmp_path / "good"), MODEL)
    contents = {
        name: good.tensors(name) if name.endswith(".safetensors") else good.lines(name) for name in good.files
    }
    scales = np.array(contents["model.safetensors"]["output.weight.scales"])
    for bad in (-scales, scales * np.nan):
        weights = {**contents["model.safetensors"], "output.weight.scales": bad}
        path = write_folder(
            tmp_path / "bad", MODEL, good.config, {**contents, "model.safetensors": weights}, overwrite=True
        )
        with pytest.raises(ModelFolderError, match="scales must"):
            HashfoldModel.load(path)


def test_weights_that_a_storage_cannot_hold_are_refused():
    large = np.full((2, 3), 7e4, np.float32)
    with pytest.raises(InputError, match="must lie within 65504"):
        rounded(large, "fp16")
    for storage in ("fp16", "int8"):
        with pytest.raises(InputError, match=f"storage {storage}"):
            rounded(np.full((2, 3), np.nan, np.float32), storage)
    with pytest.raises(InputError, match="up to 32768 columns"):
        NetworkConfig(5, 5, hidden=40_000, storage="int8")
    with pytest.raises(InputError, match="storage must be one of fp16, fp32, int8"):
        NetworkConfig(5, 5, storage="int4")
