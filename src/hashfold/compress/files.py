"""One file for a compressed model: safetensors with the specs of its folded weights, entropy-coded on request."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hashfold import checks
from hashfold.compress import container
from hashfold.compress.architecture import fill, folded_specs, skeleton, with_folded
from hashfold.compress.coding import CodeLayout
from hashfold.errors import FileFormatError
from hashfold.io import write_atomic

Architecture = nn.Module | Callable[[], nn.Module]


def save(model: nn.Module, path: str | Path, *, entropy: bool = False, half: str = "") -> int:
    """Writes a compressed model to one file, whole or not at all; returns its bytes. `load` reads it.

    The file is safetensors: the model's `state_dict` (codes, codebooks, buckets, and what was left dense), and
    in its metadata the version, the `spec()` of each folded weight by name, and checksums. Tied tensors are
    stored once. The architecture is not: `load` is given it.

    Args:
        entropy: code all tensors into one by asymmetric numeral systems (needs hashfold[compress]). Lossless.
            Pruned codes shrink to about what their entropy says, hashed buckets by a tenth; what is loaded is
            the same, and takes the same memory.
        half: a regular expression; float32 tensors in whose name it is found (`bias$`, `.` for all) are
            stored as float16 and loaded as float32, rounded. The model itself is left as it is.

    Raises InputError: a folded weight that is still being prepared, numbers that float16 cannot hold;
    FileFormatError: the disk refuses. Cost with `entropy`: 0.05 to 0.2 microseconds a code, a quarter to load.
    """
    data = encode(model, entropy=entropy, half=half)
    write_atomic(path, data)
    return len(data)


def encode(model: nn.Module, *, entropy: bool = False, half: str = "") -> bytes:
    """What `save` writes."""
    description = {"weights": folded_specs(model), "same": _distinct(model)[1]}
    return container.pack(description, entries(model, half=half), entropy=entropy)


def entries(model: nn.Module, *, half: str = "") -> list[container.Entry]:
    """The distinct tensors of a model's file."""
    specs = folded_specs(model)
    return [
        container.Entry(name, _narrowed(name, tensor, half), tensor.dtype, _layout(name, tensor, specs))
        for name, tensor in _distinct(model)[0].items()
    ]


def load(path: str | Path, architecture: Architecture) -> nn.Module:
    """The model that was saved, bit for bit.

    Args:
        path: a file that `save` wrote.
        architecture: a callable that makes a model (its weights are never allocated, unless it cannot run on
            torch's meta device), or a model, which is left as it is. Either the dense model, whose layers are
            folded as the file says, or the compressed one. Values that no `state_dict` holds come from it.

    Returns a new model, in the mode (training or not) of the architecture. Memory: the stored tensors; while
    loading, the file and its tensors. Raises FileFormatError, one line that names the file and the tensor or
    layer: cut short, altered, newer than this version, of another architecture.
    """
    contents = container.unpack(path)
    model = skeleton(architecture)
    model = with_folded(path, model, contents.described("weights"))
    same = contents.described("same")
    if not all(isinstance(name, str) and name in contents.tensors for name in same.values()):
        raise FileFormatError(path, "tied tensors must be tied to one that is there; the file is damaged.")
    return fill(path, model, contents.tensors, same, architecture)


def _distinct(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of the state_dict, each once, and the name of each other one's first."""
    tensors: dict[str, Tensor] = {}
    same: dict[str, str] = {}
    first: dict[int, str] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if not isinstance(value, Tensor):
            checks.fail("save", "a state_dict must hold tensors only", f"{type(value).__name__} as {name}")
        if value.dtype not in container.DTYPES.values():
            checks.fail("save", f"{name} must be real numbers or booleans", value.dtype)
        if id(value) in first:
            same[name] = first[id(value)]
        else:
            first[id(value)] = name
            tensors[name] = value.detach().cpu().contiguous()
    return tensors, same


def _narrowed(name: str, tensor: Tensor, half: str) -> Tensor:
    if not half or tensor.dtype != torch.float32 or not re.search(half, name):
        return tensor
    narrow = tensor.half()
    if not torch.equal(narrow.isfinite(), tensor.isfinite()):
        checks.fail("save", f"{name} must lie within float16, +-65504", f"{float(tensor.abs().max()):g}")
    return narrow


def _layout(name: str, tensor: Tensor, specs: dict[str, Any]) -> CodeLayout | None:
    """How many codes of how many bits a row of packed codes holds."""
    owner, _, leaf = name.rpartition(".")
    spec = specs.get(owner)
    if leaf != "codes" or not isinstance(spec, dict) or tensor.dtype != torch.uint8 or tensor.dim() != 2:
        return None
    bits, dim = spec.get("bits"), spec.get("dim", 1)
    if not isinstance(bits, int) or not isinstance(dim, int):
        return None
    count = -(-int(spec["in_features"]) // dim)
    return CodeLayout(bits, count) if tensor.shape[1] == -(-count * bits // 8) else None
