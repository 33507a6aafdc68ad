"""Rows kept in packed inverted lists and nowhere else: one to two bytes an entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from hashfold import checks
from hashfold.index.base import Arrays, Candidates, state_array
from hashfold.index.rows import RowIndex, packed
from hashfold.kernels.kmeans1d import kmeans1d
from hashfold.kernels.native import core
from hashfold.sparse import CsrBatch, Float32, Float64, Int32, Int64

BLOCK_ROWS: int = core.PACKED_MOST_ROWS  # rows that share lists; their sums fit the second-level cache
ROUNDS = 3  # of codes and scales, each fitted to the other
TOLERANCE = 1e-2  # of the levels' squared error, above the least possible

Codes = npt.NDArray[np.uint8]


class PackedRowIndex(RowIndex):
    """value(row, column) = scale(row) * scale(column) * level(code), 2^bits levels: exact search over such rows.

    An inverted list holds of each row some 2 + log2(rows / length) bits (Elias and Fano) and its code; the sums
    over the query's lists are the scores, so that nothing else is kept. As made, columns have scale 1 and the
    levels are the steps up to a row's largest value; what is nearer to 0 than to the first is dropped. `of` fits
    levels and scales to rows: in tf-idf rows, where columns differ by their idf and most terms occur once, 2 bits
    do then what 4 do without.

    Args:
        num_cols: width of the rows.
        bits: of a code, 1 to 8.
        block_rows: rows that share lists, a multiple of 64.

    Cost of a query row: the entries of its columns' lists, each about 2 ns, and a sweep over all rows' sums; of
    `rows`: all lists of the rows' blocks; of adding rows: packing the last block anew. Memory: the lists, 4 bytes
    a row, 4 a column, and 4 more a column and block.
    """

    name: ClassVar[str] = "packed"
    state_names: ClassVar[tuple[str, ...]] = ("lists", "scales", "columns", "levels")

    def __init__(self, num_cols: int, *, bits: int = 4, block_rows: int | None = None) -> None:
        super().__init__(num_cols)
        op = self._op()
        self._bits = checks.integer(op, "bits", bits, low=1, high=core.PACKED_MOST_BITS)
        rows = BLOCK_ROWS if block_rows is None else block_rows
        self._block_rows = checks.integer(op, "block_rows", rows, low=64, high=core.PACKED_MOST_ROWS)
        if self._block_rows % core.STRIP_ROWS:
            checks.fail(op, f"block_rows must be a multiple of {core.STRIP_ROWS}", block_rows)
        self._levels = np.arange(1, 2**self._bits + 1, dtype=np.float32)
        self._columns = np.ones(self.num_cols, np.float32)
        self._fitted = False
        self._native: Any = core.PackedSearch(self.num_cols, self._bits, self._block_rows)

    @classmethod
    def of(cls, rows: CsrBatch, bits: int = 4, block_rows: int | None = None) -> PackedRowIndex:
        """An index that holds `rows`, its levels and scales fitted to them; rows keep their lengths.

        Least squares of the values, from logarithms on: levels by exact k-means of what scales leave, then
        scales of columns and of rows by projection, a few times. Rows added later use these levels and columns.
        """
        index = cls(rows.num_cols, bits=bits, block_rows=block_rows)
        index.check(rows)
        if (rows.values > 0).any():
            index._fit(rows)
        index._add(rows)
        return index

    def __len__(self) -> int:
        return int(self._native.rows())

    @property
    def nbytes(self) -> int:
        return int(self._native.bytes()) + self._columns.nbytes + self._levels.nbytes

    @property
    def row_nbytes(self) -> int:
        return int(self._native.bytes() - self._native.table_bytes())

    def config(self) -> dict[str, Any]:
        settings = {"bits": self._bits, "block_rows": self._block_rows}
        return {"name": self.name, "num_cols": self.num_cols, **settings}

    def state(self) -> Arrays:
        """lists: uint8, as they are in memory. scales of rows and of columns: float32 (rows,) and (num_cols,).

        levels: float32 (2^bits,).
        """
        lists, scales = self._native.save()
        return {"lists": lists, "scales": scales, "columns": self._columns.copy(), "levels": self._levels.copy()}

    def _load(self, op: str, arrays: Mapping[str, Any]) -> bool:
        lists = state_array(op, arrays, "lists", np.uint8, (None,))
        scales = state_array(op, arrays, "scales", np.float32, (None,))
        columns = state_array(op, arrays, "columns", np.float32, (self.num_cols,))
        levels = state_array(op, arrays, "levels", np.float32, (2**self._bits,))
        for name, values in (("columns", columns), ("levels", levels)):
            checks.finite(op, name, values)
            if (values <= 0).any():
                checks.fail(op, f"{name} must be above 0", float(values.min()))
        if (np.diff(levels) < 0).any() or not self._native.load(lists, scales):
            return False
        plain = np.arange(1, len(levels) + 1, dtype=np.float32)
        self._fitted = not (np.array_equal(levels, plain) and (columns == 1).all())
        self._columns, self._levels = columns.copy(), levels.copy()
        return True

    def _add(self, rows: CsrBatch) -> None:
        if len(rows):
            self._native.append(*self._coded(rows))

    def _read(self, first: int, last: int) -> CsrBatch:
        indptr, columns, codes, scales = self._native.read(first, last)
        values = self._levels[codes] * self._columns[columns] * np.repeat(scales, np.diff(indptr))
        return CsrBatch(indptr, columns, values, self.num_cols)

    def _query(self, x: CsrBatch, k: int, exclude: Int32 | None, quick: bool) -> Candidates:
        ids, scores = np.empty((len(x), k), np.int32), np.empty((len(x), k), np.float32)
        counts, found = np.empty(len(x), np.int64), np.empty(len(x), np.int64)
        values = x.values * self._columns[x.indices]
        self._native.query(x.indptr, x.indices, values, self._levels, k, exclude, ids, scores, counts, found)
        return packed(ids, scores, counts, found, len(self))

    def _fit(self, rows: CsrBatch) -> None:
        """Levels, and scales of columns, for the values of `rows` above 0; some are."""
        some = rows.values > 0
        row = np.repeat(np.arange(len(rows)), np.diff(rows.indptr))[some]
        column, values = rows.indices[some], rows.values[some].astype(np.float64)
        own, shared = _rank_one(np.log(values), row, column, rows.shape)
        for _ in range(ROUNDS):
            unit = own[row] * shared[column]
            levels = kmeans1d(values / unit, 2**self._bits, weights=unit**2, tolerance=TOLERANCE)[0]
            worth = levels[_nearest(levels, values / unit)]
            shared = _projected(values, own[row] * worth, column, shared)
            own = _projected(values, shared[column] * worth, row, own)
        self._levels, self._columns, self._fitted = levels, shared.astype(np.float32), True

    def _coded(self, rows: CsrBatch) -> tuple[Int64, Int32, Codes, Float32]:
        """indptr, columns and codes of what is kept of the rows, and the rows' scales."""
        count, row = len(rows), np.repeat(np.arange(len(rows)), np.diff(rows.indptr))
        unit, values = self._columns[rows.indices].astype(np.float64), rows.values.astype(np.float64)
        scales = self._row_scales(values / unit, unit, row, count)
        parts = _quotients(values / unit, scales[row])
        kept, codes = parts >= self._levels[0] / 2, _nearest(self._levels, parts)
        if self._fitted:
            stored = np.where(kept, unit * scales[row] * self._levels[codes], 0)
            lengths = [np.sqrt(np.bincount(row, v**2, count)) for v in (values, stored)]
            scales *= _quotients(*lengths)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(row[kept], minlength=count))])
        return indptr, rows.indices[kept], codes[kept], scales.astype(np.float32)

    def _row_scales(self, ratios: Float64, unit: Float64, row: Int64, count: int) -> Float64:
        """(count,): the largest ratio is the highest level; with fitted levels, by least squares."""
        if not self._fitted:
            largest = np.zeros(count)
            np.maximum.at(largest, row, ratios)
            return largest / self._levels[-1]
        scales = _projected(ratios * unit, unit, row, np.zeros(count))
        for _ in range(ROUNDS):
            worth = self._levels[_nearest(self._levels, _quotients(ratios, scales[row]))]
            scales = _projected(ratios * unit, unit * worth, row, scales)
        return scales


def _quotients(values: Float64, by: Float64) -> Float64:
    """0 where they are divided by 0."""
    return np.divide(values, by, out=np.zeros(len(values)), where=by > 0)


def _nearest(levels: Float32, values: Float64) -> Codes:
    """Of ascending levels that nearest to each value."""
    return np.searchsorted((levels[1:] + levels[:-1]) / 2, values).astype(np.uint8)


def _projected(values: Float64, parts: Float64, group: npt.NDArray[np.integer], default: Float64) -> Float64:
    """Of each group the s with the least sum of (value - s part)^2; `default` where there is no part above 0."""
    along = np.bincount(group, values * parts, len(default))
    square = np.bincount(group, parts**2, len(default))
    return np.divide(along, square, out=default.copy(), where=square > 0)


def _rank_one(logs: Float64, row: Int64, column: Int32, shape: tuple[int, int]) -> tuple[Float64, Float64]:
    """Scales of rows and of columns whose logarithms add up to `logs` with the least squared error, nearly."""
    rows, columns = np.zeros(shape[0]), np.zeros(shape[1])
    one = np.ones(len(logs))
    for _ in range(2 * ROUNDS):
        rows = _projected(logs - columns[column], one, row, rows)
        columns = _projected(logs - rows[row], one, column, columns)
    return np.exp(rows), np.exp(columns)


def packed_bytes(lengths: npt.NDArray[np.integer], rows: int, bits: int) -> int:
    """Memory of an index of so many rows (in one block) whose columns' lists have these lengths, nearly."""
    n = lengths[lengths > 0].astype(np.float64)
    low = np.floor(np.log2(max(1, rows) / n))
    lists = float((np.ceil((n * (low + bits + 1) + rows / 2**low + 1) / 8) + 1 + (n >= 128)).sum())
    return int(lists) + len(lengths) * 9 + 4 * rows
