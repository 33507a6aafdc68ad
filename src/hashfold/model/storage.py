"""How a network's big weights lie in a model folder: in 32 or 16 bits, or rows in 8 bits, each with its scale."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hashfold import checks
from hashfold.errors import ModelFolderError
from hashfold.io.tensors import check_shapes
from hashfold.kernels.quantized import MOST_COLUMNS, QuantizedRows
from hashfold.sparse import Float32

STORAGES = ("fp32", "fp16", "int8")
BIG = ("input.weight", "output.weight")
"""The tensors that `storage` is about: tables of rows. The others are small and stay float32."""

_CODES, _SCALES = ".codes", ".scales"
Arrays = Mapping[str, npt.NDArray[Any]]


def check_storage(op: str, storage: str, width: int) -> None:
    """Raises InputError: an unknown storage, or one that rows of `width` columns do not fit."""
    checks.one_of(op, "storage", storage, STORAGES)
    if storage == "int8" and width > MOST_COLUMNS:
        checks.fail(op, f"storage int8 holds rows of up to {MOST_COLUMNS} columns", width, "use fp16")


def round_weights(weight: Float32, storage: str) -> None:
    """Makes `weight` (rows, columns) what comes back from a file; a second time changes no bit.

    Raises InputError: weights that are not finite (int8, fp16), or beyond 65,504 (fp16).
    """
    if storage != "fp32":
        _restore(_stored("weight", weight, storage), weight)


def to_file(state: Arrays, storage: str) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a file for a state_dict: those of `BIG` as `storage` says. Raises as `round_weights`."""
    tensors: dict[str, npt.NDArray[Any]] = {}
    for name, array in state.items():
        if name in BIG:
            tensors |= {name + suffix: part for suffix, part in _stored(name, array, storage).items()}
        else:
            tensors[name] = array
    return tensors


def from_file(path: Path, tensors: Arrays, state: Arrays, storage: str) -> None:
    """Fills the arrays of `state`, which are a network's own, with the tensors of a file.

    Raises ModelFolderError: tensors of other names, shapes or types; InputError: rows that cannot be.
    """
    parts = {name: _parts(array.shape, storage if name in BIG else "fp32") for name, array in state.items()}
    wanted = {name + suffix: part for name, of in parts.items() for suffix, part in of.items()}
    check_shapes(path, tensors, {name: shape for name, (shape, _) in wanted.items()})
    for name, (_, dtype) in wanted.items():
        if tensors[name].dtype != np.dtype(dtype):
            expected = f"tensor {name} must be {np.dtype(dtype)} for storage {storage}"
            raise ModelFolderError(path, f"{expected}; got {tensors[name].dtype}; the folder is damaged.")
    for name, of in parts.items():
        _restore({suffix: tensors[name + suffix] for suffix in of}, state[name])


def _parts(shape: tuple[int, ...], storage: str) -> dict[str, tuple[tuple[int, ...], str]]:
    """What a tensor is in a file: suffix -> shape, dtype."""
    if storage == "int8":
        return {_CODES: (shape, "i1"), _SCALES: (shape[:1], "f4")}
    return {"": (shape, "f2" if storage == "fp16" else "f4")}


def _stored(name: str, weight: Float32, storage: str) -> dict[str, npt.NDArray[Any]]:
    if storage == "int8":
        rows = QuantizedRows.quantize(weight, f"storage int8 of {name}")
        return {_CODES: rows.codes, _SCALES: rows.scales}
    if storage == "fp32":
        return {"": weight}
    largest = np.finfo(np.float16).max
    if not (np.abs(weight) <= largest).all():
        checks.fail("storage fp16", f"{name} must lie within {largest}", np.abs(weight).max(), "use fp32")
    return {"": weight.astype(np.float16)}


def _restore(parts: Arrays, into: npt.NDArray[Any]) -> None:
    if _CODES in parts:
        QuantizedRows.from_arrays(parts[_CODES], parts[_SCALES], "storage int8").dequantize(into)
    else:
        np.copyto(into, parts[""])
