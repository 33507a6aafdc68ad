"""Entropy coding of bytes, codes and masks into one stream, by constriction's asymmetric numeral systems.

Three parts come out: `tables`, how often each symbol of a stream comes, a byte each; `raw`, bytes that no model
shortens; `words`, all streams coded on top of each other (ANS: Duda, 2013; Bamler, 2022). What the decoder's
models are made of are integers stored in the file or counted from what was decoded: probabilities are whole
multiples of 2^-20 or 2^-16, exact in float32, so that every platform decodes the same symbols.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from hashfold.compress.masks import ONE, MaskModel, MaskPlan, bits_needed, likely_lags, probabilities
from hashfold.errors import MissingDependencyError

Bytes = npt.NDArray[np.uint8]
Symbols = npt.NDArray[np.int32]

_TOTAL = 1 << 20  # what a table's frequencies sum to
# round(2^(16 + i / 16)): a table keeps logarithms in sixteenths of an octave, at a cost below .0002 bits a symbol.
_ROOTS = np.array(
    [
        *(65536, 68438, 71468, 74632, 77936, 81386, 84990, 88752),
        *(92682, 96785, 101070, 105545, 110218, 115098, 120194, 125515),
    ],
    np.int64,
)
_SAMPLE_BITS = 1 << 18  # of a mask, when plans are compared


@functools.cache
def _library() -> Any:
    try:
        import constriction
    except ImportError as cause:
        message = "entropy coding needs constriction; install hashfold[compress], or save with entropy=False."
        raise MissingDependencyError(message) from cause
    return constriction.stream


class DamagedStreamError(ValueError):
    """What was to be decoded is shorter or other than it says."""


class StreamWriter:
    """Gathers streams; `words` codes them. The decoder takes them back in the order they were written."""

    def __init__(self) -> None:
        self.tables, self.raw = bytearray(), bytearray()
        self._parts: list[tuple[Symbols, Any, Any]] = []

    def bytes_raw(self, data: Bytes) -> None:
        self.raw += data.tobytes()

    def symbols(self, symbols: npt.NDArray[Any], alphabet: int) -> None:
        """Independent symbols in [0, alphabet), alphabet <= 256, by a table of their frequencies."""
        if not symbols.size:
            return
        table = log_table(np.bincount(symbols.ravel(), minlength=alphabet))
        self.tables += table.tobytes()
        self._parts.append((symbols.ravel().astype(np.int32), _categorical(table), None))

    def mask(self, mask: Bytes, plan: MaskPlan) -> None:
        """A (rows, cols) mask of 0 and 1."""
        p = np.concatenate([(column / ONE).astype(np.float32) for column in probabilities(mask, plan)])
        self._parts.append((mask.T.ravel().astype(np.int32), _bernoulli(), p))

    def words(self) -> bytes:
        coded: bytes = self._coder().get_compressed().astype("<u4").tobytes()
        return coded

    def num_bits(self) -> int:
        """The length of all streams together; `words` rounds it up."""
        return int(self._coder().num_valid_bits())

    def _coder(self) -> Any:
        coder = _library().stack.AnsCoder()
        for symbols, model, p in reversed(self._parts):  # a stack: the last one coded is decoded first
            coder.encode_reverse(symbols, model, *([] if p is None else [p]))
        return coder


class StreamReader:
    """Takes the streams of a `StreamWriter` back. Raises DamagedStreamError where there are not enough."""

    def __init__(self, tables: bytes, raw: bytes, words: bytes) -> None:
        self._tables, self._raw = np.frombuffer(tables, np.uint8), np.frombuffer(raw, np.uint8)
        if len(words) % 4:
            raise DamagedStreamError(f"coded words take {len(words)} bytes, no multiple of 4")
        coded = np.frombuffer(words, "<u4").astype(np.uint32)
        if len(coded) and coded[-1] == 0:
            raise DamagedStreamError("the last coded word is 0")
        self._coder = _library().stack.AnsCoder(coded)

    def bytes_raw(self, count: int) -> Bytes:
        if count > len(self._raw):
            raise DamagedStreamError(f"{count} bytes are wanted, {len(self._raw)} are left")
        data, self._raw = self._raw[:count], self._raw[count:]
        return data

    def symbols(self, count: int, alphabet: int) -> Bytes:
        if not count:
            return np.zeros(0, np.uint8)
        if alphabet > len(self._tables):
            raise DamagedStreamError(f"a table of {alphabet} is wanted, {len(self._tables)} bytes are left")
        table, self._tables = self._tables[:alphabet], self._tables[alphabet:]
        if not table.any():
            raise DamagedStreamError("a table is empty")
        decoded: Bytes = self._coder.decode(_categorical(table), count).astype(np.uint8)
        return decoded

    def mask(self, shape: tuple[int, int], plan: MaskPlan) -> Bytes:
        model, mask = MaskModel(shape, plan), np.empty((shape[1], shape[0]), np.uint8)
        for column in mask:
            p = (model.predict() / ONE).astype(np.float32)
            column[:] = self._coder.decode(_bernoulli(), p)
            model.update(column)
        return np.ascontiguousarray(mask.T)

    def finish(self) -> None:
        """Raises DamagedStreamError if anything is left."""
        if len(self._tables) or len(self._raw) or not self._coder.is_empty():
            raise DamagedStreamError("more is there than the tensors take")


def log_table(counts: npt.NDArray[np.int64]) -> Bytes:
    """Counts as bytes: 0 for none, else 1 + 16 log2 of 2^15 times the share, rounded."""
    with np.errstate(divide="ignore"):
        logs = np.rint(16 * (15 + np.log2(counts / max(1, counts.sum()))))
    return np.where(counts > 0, 1 + np.clip(logs, 0, 254), 0).astype(np.uint8)


def frequencies(table: Bytes) -> npt.NDArray[np.int64]:
    """What a `log_table` stands for: integers of sum 2^20, at least 1 where it is not 0."""
    logs = table.astype(np.int64) - 1
    shares = np.where(table > 0, _ROOTS[logs & 15] << (logs >> 4).clip(0), 0)
    scaled = np.where(table > 0, np.maximum(1, shares * _TOTAL // shares.sum()), 0)
    scaled[int(np.argmax(scaled))] += _TOTAL - scaled.sum()
    return scaled


def table_bits(counts: npt.NDArray[np.int64]) -> float:
    """The length of symbols that come so often, coded by the table of these counts; the table too, about."""
    if not counts.any():
        return 0.0
    shares = frequencies(log_table(counts)) / _TOTAL
    some = counts > 0
    return float(-(counts[some] * np.log2(shares[some])).sum()) + 8.0 * (int(some.sum()) + len(counts) // 32)


def best_plan(mask: Bytes) -> tuple[float, bool, MaskPlan]:
    """The shortest way to code a (rows, cols) mask: bits, whether it is transposed, the plan.

    First which way round and which lag, then which marginals to look at; on every n-th row where there are more
    than 2^18 bits.
    """
    density = int(np.clip(int(mask.sum()) * ONE // max(1, mask.size), 1, ONE - 1))
    step = max(1, mask.size // _SAMPLE_BITS)
    samples = [np.ascontiguousarray(way[::step]) for way in (mask, mask.T)]

    def tried(transposed: bool, plan: MaskPlan) -> tuple[float, bool, MaskPlan]:
        sample = samples[transposed]
        return bits_needed(sample, plan) * mask.size / sample.size, transposed, plan

    found = [
        tried(way, MaskPlan(density, lag, True, False))
        for way in (False, True)
        for lag in (0, *likely_lags(samples[way]))
    ]
    _, way, plan = min(found, key=lambda one: one[0])
    others = ((False, False), (False, True), (True, True))
    found += [tried(way, MaskPlan(density, plan.lag, by_row, by_col)) for by_row, by_col in others]
    return min(found, key=lambda one: one[0])


def _categorical(table: Bytes) -> Any:
    return _library().model.Categorical((frequencies(table) / _TOTAL).astype(np.float32), perfect=False)


@functools.cache
def _bernoulli() -> Any:
    return _library().model.Bernoulli(perfect=False)
