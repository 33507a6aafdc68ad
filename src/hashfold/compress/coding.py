"""How one tensor goes into the entropy-coded stream: the shortest of what suits it, measured.

    "rrtt"              byte planes, lowest first (of float32: mantissa, mantissa, ...), each raw or by a table
    ["z", mask, "rrtt"] where most elements are zero: which are not, and the byte planes of those
    ["c", bits, count, "r" | "t"]       packed codes, `count` of `bits` a row: as they are, or by a table
    ["m", bits, count, top, mask]       packed codes, one of which (`top`) is frequent (pruned weights): where
                                        the others are, and the others by a table

`mask` is [transposed, density, lag, by_row, by_col], see `masks`. Runs of zeros between the others were no
shorter than the mask (LeNet-300-100's first layer at 3 %: 4.6 KB and a table, against 4.4 KB).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hashfold.compress.entropy import Bytes, DamagedStreamError, StreamReader, StreamWriter, best_plan, table_bits
from hashfold.compress.masks import MaskPlan
from hashfold.kernels.codebook_matrix import pack_codes, unpack_codes

Array = npt.NDArray[Any]
Coding = str | list[Any]

_RARE = 0.5  # a mask is tried where at most this share of the elements is not the most frequent one
_OVERHEAD_BITS = 160  # what a mask's plan takes in the header, about


@dataclass(frozen=True)
class CodeLayout:
    """Of packed codes (rows, stride): `count` codes of `bits` bits in each row."""

    bits: int
    count: int


def encode(writer: StreamWriter, array: Array, layout: CodeLayout | None = None) -> Coding:
    """Writes a contiguous little-endian array; returns what `decode` needs beside dtype and shape.

    layout: what a uint8 matrix of packed codes holds. Codes that do not come back the same from it (bits set in
    the padding) are taken as bytes.
    """
    if layout is not None and array.size:
        codes = unpack_codes(torch.from_numpy(array.copy()), layout.bits, layout.count)
        if np.array_equal(pack_codes(codes, layout.bits).numpy(), array):
            return _encode_codes(writer, array, codes.numpy(), layout)
    return _encode_values(writer, array)


def decode(reader: StreamReader, dtype: np.dtype[Any], shape: tuple[int, ...], coding: Coding) -> Array:
    """The array. Raises DamagedStreamError, ValueError or TypeError where it cannot be."""
    if isinstance(coding, str):
        return _decode_planes(reader, math.prod(shape), dtype, coding).reshape(shape)
    kind, *fields = coding
    if kind == "z":
        return _decode_sparse(reader, dtype, shape, *fields)
    if dtype != np.uint8 or len(shape) != 2 or kind not in ("c", "m"):
        raise DamagedStreamError(f"{kind!r} does not suit {dtype} {shape}")
    bits, count, *rest = fields
    if kind == "c" and rest == ["r"]:
        return reader.bytes_raw(math.prod(shape)).reshape(shape)
    rows = shape[0]
    if -(-count * bits // 8) != shape[1] or not 1 <= bits <= 8:
        raise DamagedStreamError(f"{count} codes of {bits} bits do not fill rows of {shape[1]} bytes")
    codes = (
        reader.symbols(rows * count, 1 << bits).reshape(rows, count)
        if kind == "c"
        else _decode_others(reader, (rows, count), bits, *rest)
    )
    return pack_codes(torch.from_numpy(codes), bits).numpy()


def _encode_codes(writer: StreamWriter, packed: Array, codes: Bytes, layout: CodeLayout) -> Coding:
    counts = np.bincount(codes.ravel(), minlength=1 << layout.bits)
    top = int(np.argmax(counts))
    lengths = {"r": 8.0 * packed.size, "t": table_bits(counts)}
    if codes.size - counts[top] <= _RARE * codes.size:
        mask = (codes != top).astype(np.uint8)
        bits, transposed, plan = best_plan(mask)
        counts[top] = 0
        lengths["m"] = bits + table_bits(counts) + _OVERHEAD_BITS
    how = min(lengths, key=lambda name: lengths[name])
    if how == "m":
        writer.mask(np.ascontiguousarray(mask.T) if transposed else mask, plan)
        writer.symbols(codes[mask != 0], 1 << layout.bits)
        return ["m", layout.bits, layout.count, top, [int(transposed), *plan.as_list()]]
    if how == "t":
        writer.symbols(codes, 1 << layout.bits)
    else:
        writer.bytes_raw(packed)
    return ["c", layout.bits, layout.count, how]


def _decode_others(reader: StreamReader, shape: tuple[int, int], bits: int, top: int, mask: list[int]) -> Bytes:
    others = _decode_mask(reader, shape, mask) != 0
    if not 0 <= top < 1 << bits:
        raise DamagedStreamError(f"{top} is no code of {bits} bits")
    codes = np.full(shape, top, np.uint8)
    codes[others] = reader.symbols(int(others.sum()), 1 << bits)
    return codes


def _encode_values(writer: StreamWriter, array: Array) -> Coding:
    values = array.ravel()
    there = values.view(np.uint8).reshape(array.size, array.itemsize).any(1)
    if array.ndim < 2 or not array.size or there.sum() > _RARE * array.size:
        return _encode_planes(writer, values)
    mask = there.reshape(len(array), -1).astype(np.uint8)
    bits, transposed, plan = best_plan(mask)
    if bits + _OVERHEAD_BITS + _planes_bits(values[there]) > _planes_bits(values):
        return _encode_planes(writer, values)
    writer.mask(np.ascontiguousarray(mask.T) if transposed else mask, plan)
    return ["z", [int(transposed), *plan.as_list()], _encode_planes(writer, values[there])]


def _decode_sparse(
    reader: StreamReader, dtype: np.dtype[Any], shape: tuple[int, ...], mask: list[int], planes: str
) -> Array:
    there = _decode_mask(reader, (shape[0], math.prod(shape[1:])), mask).ravel() != 0
    values = np.zeros(len(there), dtype)
    values[there] = _decode_planes(reader, int(there.sum()), dtype, planes)
    return values.reshape(shape)


def _decode_mask(reader: StreamReader, shape: tuple[int, int], mask: list[int]) -> Bytes:
    transposed, *plan = mask
    if not transposed:
        return reader.mask(shape, MaskPlan.of(plan))
    return np.ascontiguousarray(reader.mask((shape[1], shape[0]), MaskPlan.of(plan)).T)


def _planes(values: Array) -> list[tuple[Bytes, str, float]]:
    """Each byte of the values, lowest first: all of them, how they are coded best, and in how many bits."""
    found = []
    for plane in values.view(np.uint8).reshape(len(values), values.itemsize).T:
        by_table = table_bits(np.bincount(plane, minlength=256))
        how, bits = ("t", by_table) if by_table < 8 * len(plane) else ("r", 8.0 * len(plane))
        found.append((plane, how, bits))
    return found


def _planes_bits(values: Array) -> float:
    return sum(bits for _, _, bits in _planes(values))


def _encode_planes(writer: StreamWriter, values: Array) -> str:
    planes = _planes(values)
    for plane, how, _ in planes:
        if how == "t":
            writer.symbols(plane, 256)
        else:
            writer.bytes_raw(np.ascontiguousarray(plane))
    return "".join(how for _, how, _ in planes)


def _decode_planes(reader: StreamReader, count: int, dtype: np.dtype[Any], planes: str) -> Array:
    if len(planes) != dtype.itemsize or set(planes) - {"r", "t"}:
        raise DamagedStreamError(f"{planes!r} does not suit {dtype}")
    read = [reader.symbols(count, 256) if how == "t" else reader.bytes_raw(count) for how in planes]
    return np.ascontiguousarray(np.stack(read, 1)).view(dtype).reshape(count)
