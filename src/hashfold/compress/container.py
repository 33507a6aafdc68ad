"""The bytes of a compressed model's file: safetensors, tensors one by one or coded into one.

    metadata    {"hashfold_compressed": {"version": 1, "digest": ..., "manifest": ...}}
    plain       each tensor by its name; the manifest stands in the metadata
    coded       one tensor `coded`: length of the head (4 bytes), head (deflated: length of the manifest, manifest,
                tables), raw bytes, words (see `entropy`)

The digest is that of the manifest (or the head), which has a checksum of each tensor. They find accidents, and
platforms that decode otherwise; they are no signature.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from hashfold.compress import coding
from hashfold.compress.entropy import StreamReader, StreamWriter
from hashfold.errors import FileFormatError
from hashfold.io.text import from_json

VERSION = 1
_KEY, _CODED = "hashfold_compressed", "coded"
_LONGEST_HEAD = 1 << 30
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
    )
}


# What heads are made of, known to both sides beforehand (150 bytes less in each file): part of the format.
_USUAL = (
    b'"buckets""uint8",["float32",["int64",[0,["rrrr"],"rrtt"],["z",[1,"rrrt"],"num_batches_tracked""running_mean"'
    b'"running_var","raw":"same":{"blocks":1,"seed":0,"identity":false,"scale":1.0},"num_buckets":,"sign":true,"tile":'
    b'8,"hashed","encoder.decoder.layers.0.attention.self.conv1.bn1.embedding.lstm.weight_ih_l0.weight_hh_l0.bias_ih_l0"'
    b'"bias_hh_l0"fc1.fc2.fc3.output.codes","uint8",[["c",4,"t"]],["m",3,0,[0,1966,28,1,1]]],["0.weight.codebook",'
    b'"float32",[1,16,1],"rr","float32"],["2.bias","float16",["rt","float32"],"rrrr"],"same":{},"raw":,"tensors":[["0.bias'
    b'","float32",[{"weights":{"0.weight":{"kind":"codebook","out_features":100,"in_features":300,"bits":4,"dim":1,'
    b'"group_rows":100,"group_cols":300,"zero":false},"zero":true},"2.weight":{"kind":"codebook","out_features":'
)


@dataclass(frozen=True)
class Entry:
    """A tensor to store, contiguous; the dtype it is loaded as; how its packed codes lie, if it is codes."""

    name: str
    tensor: Tensor
    dtype: torch.dtype
    layout: coding.CodeLayout | None = None


@dataclass(frozen=True)
class Contents:
    """What a file holds: the description it was given, and the tensors."""

    path: str | Path
    description: dict[str, Any]
    tensors: dict[str, Tensor]

    def described(self, name: str) -> dict[str, Any]:
        """A dictionary of the description. Raises FileFormatError."""
        part = self.description.get(name)
        if not isinstance(part, dict):
            raise _damaged(self.path, f"must describe its {name}")
        return part


def pack(description: Mapping[str, Any], entries: Sequence[Entry], *, entropy: bool) -> bytes:
    """The file's bytes; the same for the same model."""
    if not entropy:
        table = [[e.name, _name(e.dtype), _checksum(e.tensor)] for e in entries]
        manifest = _json({**description, "tensors": table})
        return _file({e.name: e.tensor for e in entries}, manifest, manifest.decode())
    writer, table = StreamWriter(), []
    for e in entries:
        coded = coding.encode(writer, bits_of(e.tensor), e.layout)
        saved, loaded = _name(e.tensor.dtype), _name(e.dtype)
        row = [e.name, saved, list(e.tensor.shape), _checksum(e.tensor), coded]
        table.append(row if saved == loaded else [*row, loaded])
    manifest = _json({**description, "raw": len(writer.raw), "tensors": table})
    head = _deflated(len(manifest).to_bytes(4, "little") + manifest + writer.tables)
    payload = len(head).to_bytes(4, "little") + head + writer.raw + writer.words()
    return _file({_CODED: torch.frombuffer(bytearray(payload), dtype=torch.uint8)}, head)


def unpack(path: str | Path) -> Contents:
    """Reads and checks a file. Raises FileFormatError naming it, and the tensor where one is damaged."""
    try:
        data = Path(path).read_bytes()
    except OSError as cause:
        raise FileFormatError(path, f"cannot be read ({cause.strerror or cause}).") from cause
    try:
        tensors = load_safetensors(data)
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError) as cause:
        raise FileFormatError(path, f"must be a safetensors file; it is damaged ({_line(cause)}).") from cause
    about = _about(path, data)
    if isinstance(about.get("manifest"), str):
        return _plain(path, about, tensors)
    if set(tensors) != {_CODED} or tensors[_CODED].dtype != torch.uint8 or tensors[_CODED].dim() != 1:
        raise _damaged(path, f"must hold one tensor, {_CODED}")
    return _decoded(path, about, tensors[_CODED].numpy().tobytes())


def _about(path: str | Path, data: bytes) -> dict[str, Any]:
    """The metadata, of a version known here."""
    header = from_json(Path(path), data[8 : 8 + int.from_bytes(data[:8], "little")])
    text = header.get("__metadata__", {}).get(_KEY)
    if not isinstance(text, str):
        raise FileFormatError(path, "is a safetensors file, but no compressed model of hashfold's.")
    about = from_json(Path(path), text.encode())
    version = about.get("version")
    if type(version) is int and version > VERSION:
        raise FileFormatError(path, f"is of format version {version}; this hashfold reads {VERSION}: update it.")
    if type(version) is not int or version < 1:
        raise _damaged(path, f"has the format version {version!r}, which is none")
    return about


def _plain(path: str | Path, about: Mapping[str, Any], tensors: dict[str, Tensor]) -> Contents:
    text = about["manifest"].encode()
    manifest = _manifest(path, about, text, text)
    table = _table(path, manifest, 3)
    if {row[0] for row in table} != set(tensors):
        other = sorted({str(row[0]) for row in table} ^ set(tensors))
        raise _damaged(path, f"holds other tensors than it says: {other[0]}")
    loaded = {name: _whole(path, name, tensors[name], dtype, check) for name, dtype, check in table}
    return Contents(path, manifest, loaded)


def _decoded(path: str | Path, about: Mapping[str, Any], payload: bytes) -> Contents:
    end = 4 + int.from_bytes(payload[:4], "little")
    head = payload[4:end]
    if len(payload) < 8 or len(head) != end - 4:
        raise FileFormatError(path, "ends within its head; the file is cut short.")
    manifest, tables = _head(path, about, head)
    raw = manifest.get("raw")
    if type(raw) is not int or not 0 <= raw <= len(payload) - end:
        raise FileFormatError(path, "ends within its raw bytes; the file is cut short.")
    loaded: dict[str, Tensor] = {}
    name = "(none)"
    try:
        reader = StreamReader(tables, payload[end : end + raw], payload[end + raw :])
        for name, saved, shape, check, how, *rest in _table(path, manifest, 5, 6):
            bits = coding.decode(reader, np.dtype(f"<u{DTYPES[saved].itemsize}"), tuple(shape), how)
            tensor = torch.from_numpy(np.array(bits)).view(DTYPES[saved])
            loaded[name] = _whole(path, name, tensor, rest[0] if rest else saved, check)
        reader.finish()
    except (ValueError, TypeError, LookupError, RuntimeError) as cause:
        if isinstance(cause, FileFormatError):
            raise
        raise _damaged(path, f"tensor {name} cannot be decoded ({_line(cause)})") from cause
    return Contents(path, manifest, loaded)


def _head(path: str | Path, about: Mapping[str, Any], head: bytes) -> tuple[dict[str, Any], bytes]:
    """The manifest and the tables."""
    if _digest(head) != about.get("digest"):
        raise _damaged(path, "has a head that does not match its digest")
    try:
        text = _inflated(head)
    except zlib.error as cause:
        raise _damaged(path, f"has a head that cannot be read ({cause})") from cause
    end = 4 + int.from_bytes(text[:4], "little")
    return _manifest(path, about, head, text[4:end]), text[end:]


def _manifest(path: str | Path, about: Mapping[str, Any], signed: bytes, text: bytes) -> dict[str, Any]:
    if _digest(signed) != about.get("digest"):
        raise _damaged(path, "has a manifest that does not match its digest")
    return from_json(Path(path), text)


def _table(path: str | Path, manifest: Mapping[str, Any], *lengths: int) -> list[list[Any]]:
    table = manifest.get("tensors")
    if not isinstance(table, list) or not all(isinstance(row, list) and len(row) in lengths for row in table):
        raise _damaged(path, "must have a table of tensors")
    return table


def _whole(path: str | Path, name: str, tensor: Tensor, dtype: Any, check: Any) -> Tensor:
    """The tensor as it was, if its checksum says so."""
    if dtype not in DTYPES:
        raise FileFormatError(path, f"tensor {name} has the type {dtype!r}, which is not known here.")
    if _checksum(tensor) != check:
        raise _damaged(path, f"tensor {name} does not match its checksum")
    return tensor.to(DTYPES[dtype])


def _file(tensors: dict[str, Tensor], signed: bytes, manifest: str | None = None) -> bytes:
    about = {"version": VERSION, "digest": _digest(signed), **({} if manifest is None else {"manifest": manifest})}
    # A single key: safetensors writes several in any order.
    return save_safetensors(tensors, {_KEY: _json(about).decode()})


def bits_of(tensor: Tensor) -> Any:
    """A tensor as unsigned integers of its size: entropy coding looks at bytes alone."""
    flat = tensor.reshape(-1).view(torch.uint8).numpy()
    return flat.view(f"<u{tensor.element_size()}").reshape(tuple(tensor.shape))


def _checksum(tensor: Tensor) -> int:
    return zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:24]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()


def _deflated(data: bytes) -> bytes:
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, _USUAL)
    return squeezer.compress(data) + squeezer.flush()


def _inflated(data: bytes) -> bytes:
    return zlib.decompressobj(-15, _USUAL).decompress(data, _LONGEST_HEAD)


def _damaged(path: str | Path, what: str) -> FileFormatError:
    return FileFormatError(path, f"{what}; the file is damaged; get a new copy.")


def _line(cause: BaseException) -> str:
    return " ".join(str(cause).split())
