"""Compressed models for what knows nothing of hashfold: as dense models of torch, and as ONNX."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from hashfold import checks
from hashfold.compress.sizes import stored_bytes
from hashfold.errors import InputError, MissingDependencyError
from hashfold.io import write_atomic
from hashfold.nn.folded import CodebookWeight, FoldedWeight, unfold_layer
from hashfold.nn.row_layer import RowLayer

_GATHERED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Embedding)


@dataclass(frozen=True)
class OnnxExport:
    """What `export_onnx` wrote.

    gathered: the weights that stand in the file as codes and codebooks; dense: those that stand there whole.
    dense_bytes: of all weights once they are built; stored_bytes: of the compressed model in torch. note: whether
    memory stays small.
    """

    path: Path
    file_bytes: int
    stored_bytes: int
    dense_bytes: int
    gathered: list[str]
    dense: list[str]
    note: str


def to_dense(model: nn.Module) -> nn.Module:
    """A new model of torch's layers that computes what `model` does: its virtual weights built.

    Layers that hold the same folded weight share a parameter again. Raises InputError, naming the layer: one whose
    folded weight has no dense form in torch. Memory: that of the dense model.
    """
    copies: dict[int, Any] = {}
    first: dict[tuple[int, ...], nn.Parameter] = {}
    for name, layer in model.named_modules():
        weights = {leaf: part for leaf, part in layer.named_children() if isinstance(part, FoldedWeight)}
        if not weights or isinstance(layer, FoldedWeight):
            continue
        try:
            made = unfold_layer(layer)
        except InputError as cause:
            raise InputError(f"to_dense: layer {name}: {cause}") from cause
        for leaf, weight in weights.items():
            dense = made.get_parameter(leaf)
            known = first.setdefault((id(weight), *dense.shape), dense)
            if torch.equal(known, dense):  # an embedding has a vector of its own for padding
                setattr(made, leaf, known)
        copies[id(layer)] = made
    return copy.deepcopy(model, copies)


def export_onnx(model: nn.Module, path: str | Path, inputs: tuple[Tensor, ...], **options: Any) -> OnnxExport:
    """Writes `model` as an ONNX file by torch's exporter (needs hashfold[onnx]): small on disk, dense in memory.

    Codebook weights of linear and convolutional layers and embeddings stand in the file as their codes (packed
    for 1, 2, 4 and 8 bits, else a byte each), looked up in a table by `Gather`. Hashed weights, whose hashes ONNX
    cannot compute, and recurrent ones stand there dense.

    Memory does not stay small: onnxruntime gathers constants once, when a session starts, and keeps the dense
    matrices (6.3 MB of 4-bit layers: 52 MB). With its optimizer ConstantFolding disabled it starts with the codes
    (8 MB) and builds each matrix anew in every run, which takes more memory yet (148 MB) and 16 times as long. No
    operator of ONNX multiplies by packed codes of a free codebook; hashfold's own layers do.

    Args:
        inputs: examples of the model's arguments.
        options: of `torch.onnx.export`, such as dynamic_shapes=({0: "batch"},).

    Raises MissingDependencyError, InputError (a layer of sparse rows or looked-up neurons, by its name), and what
    torch's exporter raises. The model stays as it is.
    """
    try:
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as cause:
        raise MissingDependencyError("ONNX export needs onnxscript; install hashfold[onnx].") from cause
    plain = to_dense(model).eval()
    for name, layer in plain.named_modules():
        if isinstance(layer, RowLayer):
            came = f"{type(layer).__name__} as {name or 'model'}"
            checks.fail("export_onnx", "layers must be torch's", came, "export the layers beside it")
    dense_bytes = stored_bytes(plain)
    names = {id(part): name for name, part in model.named_modules() if isinstance(part, FoldedWeight)}
    gathered = _gather_codebooks(model, plain)
    settings = {"verbose": False, "optimize": False, **options, "dynamo": True}
    program = torch.onnx.export(plain, inputs, **settings)
    if program is None:
        checks.fail("export_onnx", "options must leave the file to this function", sorted(options))
    data: bytes = program.model_proto.SerializeToString()
    write_atomic(path, data)
    dense = [name for key, name in names.items() if key not in gathered]
    found = [names[key] for key in gathered]
    note = (
        f"{len(gathered)} of {len(names)} folded weights are gathered from codebooks, others dense; memory does"
        f" not stay small: onnxruntime builds all {dense_bytes:,} bytes when a session starts."
    )
    return OnnxExport(Path(path), len(data), stored_bytes(model), dense_bytes, found, dense, note)


class _Gathered(nn.Module):
    """A codebook weight as a table and the places in it: what `Gather` of ONNX can do."""

    places: Tensor
    row_offsets: Tensor
    column_offsets: Tensor
    table: Tensor

    def __init__(self, weight: CodebookWeight, shape: torch.Size) -> None:
        super().__init__()
        self.shape, self.in_features = shape, weight.in_features
        groups = -(-weight.in_features // weight.group_cols)
        rows = torch.arange(weight.out_features, dtype=torch.int32)[:, None] // weight.group_rows
        book = weight.codebook.detach()
        if 8 % weight.bits == 0 and groups == 1:  # a byte is looked up as a whole
            codes = torch.arange(256)[:, None] >> torch.arange(0, 8, weight.bits) & (2**weight.bits - 1)
            self.register_buffer("places", weight.codes.clone())
            self.register_buffer("row_offsets", rows * 256)
            self.register_buffer("column_offsets", torch.zeros(1, dtype=torch.int32))
            self.register_buffer("table", book[:, codes].flatten(0, 1).flatten(1))
        else:
            size = 2**weight.bits
            codes = weight.unpacked()
            columns = torch.arange(codes.shape[1], dtype=torch.int32) * weight.dim // weight.group_cols
            self.register_buffer("places", codes)
            self.register_buffer("row_offsets", rows * (groups * size))
            self.register_buffer("column_offsets", columns * size)
            self.register_buffer("table", book.flatten(0, 1).clone())

    def forward(self, _: Tensor) -> Tensor:
        places = self.places.to(torch.int32) + self.row_offsets + self.column_offsets
        rows = F.embedding(places, self.table).flatten(1)
        return rows[:, : self.in_features].reshape(self.shape)


def _gather_codebooks(model: nn.Module, plain: nn.Module) -> set[int]:
    """Gives the layers of `plain` the codebook weights of `model`; the ids of those that could be given."""
    made: dict[tuple[int, torch.Size], _Gathered] = {}
    given = set()
    for name, layer in model.named_modules():
        weight = getattr(layer, "weight", None)
        if not isinstance(weight, CodebookWeight):
            continue
        target = plain.get_submodule(name)
        if not isinstance(target, _GATHERED):
            continue
        dense = target.get_parameter("weight")
        gathered = made.setdefault((id(weight), dense.shape), _Gathered(weight, dense.shape))
        if not torch.equal(gathered(dense), dense):
            continue  # an embedding with a vector of its own for padding
        parametrize.register_parametrization(target, "weight", gathered, unsafe=True)
        parametrized = target.get_submodule("parametrizations.weight")
        del parametrized.original
        parametrized.register_buffer("original", torch.empty(0))
        given.add(id(weight))
    return given
