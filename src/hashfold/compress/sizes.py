"""Of what a model's bytes are made: by folded weight, and by layer for what is not folded."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import torch
from torch import nn

from hashfold.compress import coding, container
from hashfold.compress.architecture import folded_specs
from hashfold.compress.entropy import StreamWriter
from hashfold.compress.files import entries
from hashfold.nn.folded import FoldedWeight


@dataclass(frozen=True)
class LayerSize:
    """A folded weight, or what a layer has beside: of `weights` virtual weights `stored_bytes` are in memory.

    file_bytes: its tensors in the file, without the header; scheme: "hashed", "codebook 4 bits", "dense", ...
    """

    name: str
    scheme: str
    weights: int
    stored_bytes: int
    file_bytes: float

    @property
    def bits_per_weight(self) -> float:
        """In memory."""
        return 8 * self.stored_bytes / max(1, self.weights)

    @property
    def file_bits_per_weight(self) -> float:
        return 8 * self.file_bytes / max(1, self.weights)


def layer_sizes(model: nn.Module, *, entropy: bool = True, half: str = "") -> list[LayerSize]:
    """In the order of the model; tied tensors stand where they come first. Cost: that of encoding the file."""
    specs, tensors = folded_specs(model), entries(model, half=half)
    modules = dict(model.named_modules())
    groups: dict[str, list[container.Entry]] = {}
    for entry in tensors:
        owner = entry.name.rpartition(".")[0]
        inside = next((name for name in specs if owner == name or owner.startswith(f"{name}.")), owner)
        groups.setdefault(inside, []).append(entry)
    sizes = []
    for name, group in groups.items():
        part = modules.get(name)
        folded = part if isinstance(part, FoldedWeight) else None
        weights = sum(e.tensor.numel() for e in group)
        if folded is not None:
            weights = folded.out_features * folded.in_features
        in_file = sum(_file_bytes(e) if entropy else _nbytes(e.tensor) for e in group)
        stored = sum(e.tensor.numel() * e.dtype.itemsize for e in group)
        sizes.append(LayerSize(name or "(model)", _scheme(folded), weights, stored, in_file))
    return sizes


def stored_bytes(model: nn.Module) -> int:
    """Of all distinct parameters and buffers, in memory."""
    return sum(_nbytes(t) for t in [*model.parameters(), *model.buffers()])


def num_weights(model: nn.Module) -> int:
    """Of the virtual matrices, tied ones once, and of everything else."""
    folded = [part for part in model.modules() if isinstance(part, FoldedWeight)]
    inside = {id(t) for part in folded for t in [*part.parameters(), *part.buffers()]}
    others = [t for t in [*model.parameters(), *model.buffers()] if id(t) not in inside]
    return sum(part.out_features * part.in_features for part in folded) + sum(t.numel() for t in others)


def _file_bytes(entry: container.Entry) -> float:
    """What the tensor adds to an entropy-coded file, without its line in the header."""
    writer = StreamWriter()
    coding.encode(writer, container.bits_of(entry.tensor), entry.layout)
    tables = len(zlib.compress(bytes(writer.tables), 9, -15)) if writer.tables else 0
    return tables + len(writer.raw) + writer.num_bits() / 8


def _scheme(weight: FoldedWeight | None) -> str:
    if weight is None:
        return "dense"
    spec = weight.spec()
    kind = str(spec["kind"])
    if kind == "codebook":
        return f"codebook, {spec['bits']} bits" + (f" for {spec['dim']} weights" if spec["dim"] > 1 else "")
    if kind == "hashed":
        ratio = spec["out_features"] * spec["in_features"] / spec["num_buckets"]
        return f"hashed 1/{ratio:.3g}" + (f", tiles of {spec['tile']}" if spec["tile"] > 1 else "")
    return kind


def _nbytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
