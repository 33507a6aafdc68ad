"""Tensors in safetensors files: written by its NumPy face, mapped into memory when read."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from hashfold import checks
from hashfold.errors import ModelFolderError

Array = npt.NDArray[Any]

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}


def as_arrays(op: str, tensors: Mapping[str, Any]) -> dict[str, Array]:
    """NumPy arrays (or torch tensors, sharing their memory where they can) that a file can hold."""
    known = {np.dtype(dtype) for dtype in _DTYPES.values()}
    arrays = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().numpy() if hasattr(tensor, "detach") else np.asarray(tensor)
        if tensor.dtype.newbyteorder("<") not in known:
            checks.fail(op, f"tensor {name} must hold numbers or booleans", tensor.dtype)
        arrays[name] = np.asarray(tensor, tensor.dtype.newbyteorder("<"), order="C")
    return arrays


def write_tensors(path: Path, arrays: Mapping[str, Array]) -> None:
    """Readable by whom the user's umask says, like any file. Raises OSError where the disk refuses."""
    path.touch()
    mode = path.stat().st_mode  # safetensors writes for the owner alone
    try:
        save_file(dict(arrays), str(path))
        path.chmod(mode)
    except SafetensorError as cause:
        number = re.search(r"os error (\d+)", str(cause))
        raise (OSError(int(number[1]), os.strerror(int(number[1]))) if number else OSError(str(cause))) from cause


def table(arrays: Mapping[str, Array]) -> dict[str, dict[str, Any]]:
    """Name -> dtype and shape, as it stands in a manifest."""
    return {name: {"dtype": str(a.dtype), "shape": list(a.shape)} for name, a in sorted(arrays.items())}


def map_tensors(path: Path) -> dict[str, Array]:
    """The tensors of `path` as views of the file, read when first touched.

    Writable copy-on-write: a change stays in this process's memory and never reaches the file. The
    header is checked by safetensors. Raises ModelFolderError.
    """
    try:
        with safe_open(str(path), framework="numpy"):
            pass  # opening checks that the header is sound and that the tensors fill the file exactly
    except (SafetensorError, OSError) as cause:
        raise ModelFolderError(path, f"must be a safetensors file; it is damaged ({cause}).") from cause
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(header_bytes))
    header.pop("__metadata__", None)
    return {name: _map(path, name, entry, 8 + header_bytes) for name, entry in header.items()}


def check_shapes(path: str | Path, tensors: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """The tensors of the model in `path` are exactly those of `shapes`. Raises ModelFolderError."""
    for name in sorted(shapes.keys() - tensors.keys()):
        raise ModelFolderError(path, f"tensor {name} {shapes[name]} is missing; the folder is damaged.")
    for name in sorted(tensors.keys() - shapes.keys()):
        raise ModelFolderError(path, f"tensor {name} is not part of the model that config.json describes.")
    for name, shape in shapes.items():
        if tuple(tensors[name].shape) != tuple(shape):
            raise ModelFolderError(
                path, f"tensor {name} must be {tuple(shape)} to match config.json; got {tensors[name].shape}."
            )


def _map(path: Path, name: str, entry: dict[str, Any], data_start: int) -> Array:
    if entry["dtype"] not in _DTYPES:
        raise ModelFolderError(path, f"tensor {name} has the type {entry['dtype']}, which is not known here.")
    dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), tuple(entry["shape"])
    if not math.prod(shape):
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "c", data_start + entry["data_offsets"][0], shape)
