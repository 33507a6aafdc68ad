"""Matrix rows in 8 bits, and the queries that meet them: natively and as NumPy twins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hashfold import checks
from hashfold.kernels.native import core
from hashfold.sparse import Float32, Int32

Int8 = npt.NDArray[np.int8]
UInt8 = npt.NDArray[np.uint8]

MOST_COLUMNS = 32_768
"""Sums of so many products of 8-bit numbers fit 32 bits, whatever the numbers."""

_SCALE_BITS = np.uint32(0xFFFFFF00)


@dataclass(frozen=True)
class QuantizedRows:
    """Row i is scales[i] * codes[i]: symmetric 8-bit quantisation, one scale a row.

    codes (rows, dim) int8 in [-127, 127]; scales (rows,) float32, the row's largest magnitude over 127 (its
    last 8 bits dropped, which makes scale * code exact); sums (rows,) int32, of each row's codes. Off by at
    most half a scale: a 254th of the row's largest magnitude. What `dequantize` gives, quantised again, has
    the same codes and scales bit for bit. A quarter of the memory.
    """

    codes: Int8
    scales: Float32
    sums: Int32

    @classmethod
    def quantize(cls, rows: npt.ArrayLike, op: str = "quantize") -> QuantizedRows:
        """To the nearest codes, ties to even. rows: (n, dim) float32, finite, dim at most 32,768.

        Raises InputError: another shape, values that are not finite.
        """
        x: Float32 = checks.array(op, "rows", rows, np.float32, (None, None))
        checks.integer(op, "columns", x.shape[1], low=1, high=MOST_COLUMNS)
        checks.finite(op, "rows", x)
        made = cls(np.empty(x.shape, np.int8), np.empty(len(x), np.float32), np.empty(len(x), np.int32))
        core.quantize_rows(x, made.codes, made.scales, made.sums)
        return made

    @classmethod
    def from_arrays(cls, codes: npt.ArrayLike, scales: npt.ArrayLike, op: str = "QuantizedRows") -> QuantizedRows:
        """From stored codes and scales. Raises InputError: arrays that `quantize` cannot have made."""
        stored: Int8 = checks.array(op, "codes", codes, np.int8, (None, None))
        factors: Float32 = checks.array(op, "scales", scales, np.float32, (len(stored),))
        checks.integer(op, "columns", stored.shape[1], low=1, high=MOST_COLUMNS)
        checks.finite(op, "scales", factors)
        if (factors < 0).any():
            checks.fail(op, "scales must not be negative", factors.min())
        if stored.size and stored.min() < -127:
            checks.fail(op, "codes must be in [-127, 127]", int(stored.min()))
        return cls(stored, factors, stored.sum(axis=1, dtype=np.int32))

    def dequantize(self, out: Float32 | None = None) -> Float32:
        """(rows, dim) float32, exactly scales * codes; in `out`, if given."""
        x = np.empty(self.codes.shape, np.float32) if out is None else out
        core.dequantize_rows(self.codes, self.scales, x)
        return x

    def replace(self, ids: Int32, rows: Float32) -> None:
        """Quantises `rows` in the place of the rows `ids`."""
        new = QuantizedRows.quantize(rows)
        self.codes[ids], self.scales[ids], self.sums[ids] = new.codes, new.scales, new.sums

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes + self.scales.nbytes + self.sums.nbytes


@dataclass(frozen=True)
class QuantizedQueries:
    """Row i is scales[i] * (codes[i] - zeros[i]); codes (rows, dim) uint8, zeros (rows,) int32.

    The 256 steps span the row's values and zero: rows without negative values use all of them.
    """

    codes: UInt8
    scales: Float32
    zeros: Int32

    @classmethod
    def quantize(cls, x: Float32) -> QuantizedQueries:
        """What the scans do with their queries. x: (n, dim) float32, finite."""
        made = cls(np.empty(x.shape, np.uint8), np.empty(len(x), np.float32), np.empty(len(x), np.int32))
        core.quantize_queries(x, made.codes, made.scales, made.zeros)
        return made


def quantize_rows_reference(x: Float32) -> QuantizedRows:
    """What `QuantizedRows.quantize` computes, word by word."""
    largest = np.abs(x).max(axis=1, initial=0.0).astype(np.float32)
    scales = ((largest / np.float32(127)).view(np.uint32) & _SCALE_BITS).view(np.float32)
    steps = np.where(scales == 0, np.float32(1), scales)[:, None]
    codes = np.clip(np.rint(x / steps), -127, 127).astype(np.int8)
    return QuantizedRows(codes, scales, codes.sum(axis=1, dtype=np.int32))


def quantize_queries_reference(x: Float32) -> QuantizedQueries:
    """What `QuantizedQueries.quantize` computes, word by word."""
    low, high = (f(x, axis=1, initial=0.0).astype(np.float32) for f in (np.min, np.max))
    scales = high / np.float32(255) - low / np.float32(255)
    steps = np.where(scales == 0, np.float32(1), scales)
    zeros = np.rint(np.minimum(-low / steps, np.float32(255)))
    codes = np.clip(np.rint(np.clip(x / steps[:, None], -255, 255)) + zeros[:, None], 0, 255)
    return QuantizedQueries(codes.astype(np.uint8), scales, zeros.astype(np.int32))


def scores_reference(queries: QuantizedQueries, rows: QuantizedRows, bias: Float32 | None) -> Float32:
    """(queries, rows): the scaled integer sums that the scans of quantised rows rank by, plus the bias."""
    centred = queries.codes.astype(np.int64) - queries.zeros[:, None]
    sums = centred @ rows.codes.T.astype(np.int64)
    scores: Float32 = sums.astype(np.float32) * (queries.scales[:, None] * rows.scales)
    return scores if bias is None else scores + bias
