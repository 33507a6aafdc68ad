"""The slow twin of the native hashes, in NumPy: the same codes, bit for bit.

Dense float32 rows only. It is here to be read, and for the tests to compare with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hashfold.hashing.base import HashFamily
from hashfold.hashing.randomness import UInt64, below, mix, mix_at, stream, unit, words
from hashfold.sparse import Float32, Float64, Int32


def codes(family: HashFamily, x: Float32) -> Int32:
    """What `family.codes(x)` returns."""
    out: Int32 = CODES[family.name](family, np.asarray(x, np.float32)).astype(np.int32)
    return out


def buckets(family: HashFamily, x: Float32) -> Int32:
    """What `family.buckets(x)` returns."""
    shape = (len(x), family.num_tables, family.hashes_per_table)
    tables = codes(family, x).reshape(shape).astype(np.uint64)
    if family.code_bits:
        shifts = np.arange(family.hashes_per_table, dtype=np.uint64) * np.uint64(family.code_bits)
        concatenated: Int32 = np.bitwise_or.reduce(tables << shifts, axis=2).astype(np.int32)
        return concatenated
    state = np.broadcast_to(mix_at(family.seed, np.arange(family.num_tables)), shape[:2])
    for k in range(family.hashes_per_table):
        state = mix(state ^ tables[:, :, k])
    return (state >> np.uint64(64 - family.bucket_bits)).astype(np.int32)


def log(x: Float64) -> Float64:
    """csrc/core/portable_log.hpp, operation by operation."""
    m, exponent = np.frexp(x)
    m, exponent = m * 2, exponent - 1.0
    large = m > 1.4142135623730951
    m, exponent = np.where(large, m * 0.5, m), np.where(large, exponent + 1, exponent)
    s = (m - 1) / (m + 1)
    z = s * s
    series = z * (1.0 / 19) + 1.0 / 17
    for odd in (15, 13, 11, 9, 7, 5, 3, 1):
        series = series * z + 1.0 / odd
    result: Float64 = exponent * 0.6931471805599453 + s * 2.0 * series
    return result


def normal_quantile(u: Float64) -> Float64:
    """Algorithm AS 241, PPND7."""

    def ratio(r: Float64, top: list[float], bottom: list[float]) -> Float64:
        return np.asarray(np.polyval(top, r) / np.polyval(bottom, r))

    q = u - 0.5
    center_top = [59.109374720, 159.29113202, 50.434271938, 3.3871327179]
    center = q * ratio(0.180625 - q * q, center_top, [67.187563600, 78.757757664, 17.895169469, 1])
    r = np.sqrt(-log(np.where(q < 0, u, 1 - u)))
    near_top = [0.17023821103, 1.3067284816, 2.7568153900, 1.4234372777]
    near = ratio(r - 1.6, near_top, [0.12021132975, 0.73700164250, 1])
    far_top = [0.017337203997, 0.42868294337, 3.0812263860, 6.6579051150]
    far = ratio(r - 5.0, far_top, [0.012258202635, 0.24197894225, 1])
    tail = np.where(r <= 5.0, near, far)
    return np.where(np.abs(q) <= 0.425, center, np.where(q < 0, -tail, tail))


def gaussian_projection(seed: int, dim: int, hashes: int) -> Float32:
    random = stream(mix_at(seed, np.arange(dim))[:, None], np.arange(hashes))
    return normal_quantile(unit(random)).astype(np.float32)


def densify(full: dict[int, int], hashes: int, seed: int) -> list[int]:
    """The codes of all hashes, given those of the full bins (csrc/core/hashing_densify.hpp)."""
    row = [full.get(h, -1) for h in range(hashes)]
    bins, turn = sorted(full), 0
    while full and -1 in row:
        targets = below(mix_at(seed, np.array(bins, np.uint64) + (words(turn) << np.uint64(32))), hashes)
        for source, target in zip(bins, targets, strict=True):
            if row[target] == -1:
                row[target] = full[source]
        turn += 1
    return row if full else [0] * hashes


def _signs(projection: Float32, x: Float32) -> npt.NDArray[Any]:
    sums = np.zeros((len(x), projection.shape[1]), np.float32)
    for f in range(x.shape[1]):
        sums = sums + x[:, f : f + 1] * projection[f]
    return sums > 0


def _simhash(family: Any, x: Float32) -> npt.NDArray[Any]:
    return _signs(gaussian_projection(family.seed, family.dim, family.num_hashes), x)


def _sparse_simhash(family: Any, x: Float32) -> npt.NDArray[Any]:
    return _signs(family.projection.toarray(), x)


def _dwta(family: Any, x: Float32) -> npt.NDArray[Any]:
    out = np.empty((len(x), family.num_hashes), np.int32)
    for i, row in enumerate(x):
        full: dict[int, int] = {}
        best: dict[int, float] = {}
        for f in np.flatnonzero(row):
            for bin_id, place in zip(*np.divmod(family.bins.slots[f], family.bin_size), strict=True):
                if bin_id not in best or row[f] > best[bin_id]:
                    best[bin_id], full[bin_id] = row[f], place
        out[i] = densify(full, family.num_hashes, family.seed)
    return out


def _gamma2(random: UInt64) -> Float64:
    high = ((random >> np.uint64(32)).astype(np.float64) + 0.5) * 2.0**-32
    low = ((random & np.uint64(0xFFFFFFFF)).astype(np.float64) + 0.5) * 2.0**-32
    return -log(high * low)


def _minhash(family: Any, x: Float32) -> npt.NDArray[Any]:
    out = np.zeros((len(x), family.num_hashes), np.int32)
    steps = 3 * np.arange(family.num_hashes, dtype=np.uint64)
    for i, row in enumerate(x):
        features = np.flatnonzero(row)
        if not len(features):
            continue
        keys = mix_at(family.seed, features)[:, None]
        r, c = _gamma2(stream(keys, steps)), _gamma2(stream(keys, steps + np.uint64(1)))
        beta = (stream(keys, steps + np.uint64(2)) >> np.uint64(12)).astype(np.float64) * 2.0**-52
        t = np.floor(log(row[features].astype(np.float64))[:, None] / r + beta)
        winner = np.argmin(log(c) - r * (t - beta + 1.0), axis=0)
        t_won = t[winner, np.arange(family.num_hashes)]
        out[i] = (mix(keys[winner, 0] ^ t_won.view(np.uint64)) >> np.uint64(33)).astype(np.int32)
    return out


def _doph(family: Any, x: Float32) -> npt.NDArray[Any]:
    out = np.empty((len(x), family.num_hashes), np.int32)
    for i, row in enumerate(x):
        features = np.flatnonzero(row)
        full: dict[int, int] = {}
        random = mix_at(family.seed, features)
        bins = below(random, family.num_hashes)
        for j in np.argsort(random):  # the largest of a bin is written last
            full[int(bins[j])] = int(random[j] & np.uint64(0x7FFFFFFF))
        out[i] = densify(full, family.num_hashes, family.seed)
    return out


CODES: dict[str, Callable[[Any, Float32], npt.NDArray[Any]]] = {
    "simhash": _simhash,
    "sparse_simhash": _sparse_simhash,
    "dwta": _dwta,
    "minhash": _minhash,
    "doph": _doph,
}
