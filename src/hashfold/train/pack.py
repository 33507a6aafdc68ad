"""Nested Python state as JSON beside a flat dictionary of tensors: what others pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from hashfold import checks
from hashfold.io.tensors import Array

_TENSOR, _BF16, _ARRAY, _MAP, _TUPLE = "tensor", "bfloat16", "array", "map", "tuple"
"""Marks: every dictionary in the JSON has exactly one of these names, so plain ones cannot be mistaken."""


def pack(value: Any, name: str, tensors: dict[str, Any]) -> Any:
    """The JSON side of `value`; tensors and arrays go to `tensors` under names that begin with `name`.

    Takes nested dicts (keys: text or numbers), lists, tuples, None, bool, int, float, str, NumPy arrays
    and torch tensors. Raises InputError for anything else: it could not be saved without pickle.
    """
    if isinstance(value, (torch.Tensor, np.ndarray)):
        while name in tensors:
            name += "'"
        if isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16:  # which NumPy lacks: as its bits
            tensors[name] = value.view(torch.int16)
            return {_BF16: name}
        tensors[name] = value
        return {_TENSOR if isinstance(value, torch.Tensor) else _ARRAY: name}
    if isinstance(value, Mapping):
        return {_MAP: [[_key(key), pack(item, _join(name, key), tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        items = [pack(item, _join(name, i), tensors) for i, item in enumerate(value)]
        return {_TUPLE: items} if isinstance(value, tuple) else items
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    checks.fail("checkpoint", f"{name} must be tensors, numbers or text", type(value).__name__)


def unpack(packed: Any, tensors: Mapping[str, Array]) -> Any:
    """What `pack` took. Tensors and arrays are copies in memory of their own."""
    if isinstance(packed, list):
        return [unpack(item, tensors) for item in packed]
    if not isinstance(packed, dict):
        return packed
    (mark, inside), *_ = packed.items()
    if mark in (_TENSOR, _BF16):
        tensor = torch.from_numpy(np.array(tensors[inside]))
        return tensor.view(torch.bfloat16) if mark == _BF16 else tensor
    if mark == _ARRAY:
        return np.array(tensors[inside])
    if mark == _MAP:
        return {key: unpack(item, tensors) for key, item in inside}
    return tuple(unpack(item, tensors) for item in inside)


def _join(name: str, key: object) -> str:
    return f"{name}.{key}" if name else str(key)


def _key(key: object) -> object:
    if isinstance(key, bool) or not isinstance(key, (str, int, float)):
        checks.fail("checkpoint", "names in a state must be text or numbers", repr(key))
    return key
