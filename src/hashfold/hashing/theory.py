"""How often two vectors should collide, for each family."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from hashfold import checks

Vector = npt.NDArray[np.float64]


def collision_probability(name: str, x: npt.ArrayLike, y: npt.ArrayLike, **options: Any) -> float:
    """P[one elementary hash of family `name` agrees on x and y], over the draw of the hash.

    x, y: (dim,), finite. `options` are those of the family. Exact, but for: sparse_simhash (the limit of
    many nonzeros), and dwta where bins are empty (bins of one permutation are taken as independent).
    """
    checks.one_of("collision_probability", "name", name, PROBABILITIES)
    a = checks.array("collision_probability", "x", x, np.float64, (None,))
    b = checks.array("collision_probability", "y", y, np.float64, a.shape)
    checks.finite("collision_probability", "x", a)
    checks.finite("collision_probability", "y", b)
    if not a.any() and not b.any():
        return 1.0
    return PROBABILITIES[name](a, b, **options)


def retrieval_probability(p: float, hashes_per_table: int, num_tables: int) -> float:
    """1 - (1 - p^K)^L: two rows share a bucket in at least one of L tables of K independent hashes."""
    checks.number("retrieval_probability", "p", p, low=0, high=1)
    together = p**hashes_per_table
    return 1.0 if together >= 1 else -math.expm1(num_tables * math.log1p(-together))


def signed_projection(x: Vector, y: Vector, **_: Any) -> float:
    """1 - angle / pi. A row of zeros has code 0, that of another row is 0 half of the time."""
    if not x.any() or not y.any():
        return 0.5
    u, v = x / np.linalg.norm(x), y / np.linalg.norm(y)
    # 2 atan2(|u - v|, |u + v|): accurate where the cosine is close to 1 or -1
    return 1.0 - 2.0 * math.atan2(np.linalg.norm(u - v), np.linalg.norm(u + v)) / math.pi


def weighted_jaccard(x: Vector, y: Vector, **_: Any) -> float:
    if (x < 0).any() or (y < 0).any():
        checks.fail("collision_probability", "minhash needs values that are not negative", "negative values")
    return float(np.minimum(x, y).sum() / np.maximum(x, y).sum())


def jaccard(x: Vector, y: Vector, **_: Any) -> float:
    return float(((x != 0) & (y != 0)).sum() / ((x != 0) | (y != 0)).sum())


def winner_take_all(x: Vector, y: Vector, *, bin_size: int = 0, **_: Any) -> float:
    """For a random bin B: P[B has the same winner in x and y | B is not empty in both] + P[only one is
    empty | not both] / bin_size, because the winner of a borrowed bin has a random place.

    The winner is the same feature i if the rest of B ranks below i in x and in y: summed over i,
    C(number of such features, bin_size - 1) / C(dim, bin_size). Ranks: value, then lower feature first;
    zeros rank below all. Cost O(nonzeros^2).
    """
    dim = len(x)
    size = bin_size or min(8, 1 << (dim.bit_length() - 1))
    order = np.lexsort((-np.arange(dim), x)), np.lexsort((-np.arange(dim), y))
    rank_x, rank_y = np.empty(dim), np.empty(dim)
    rank_x[order[0]], rank_y[order[1]] = np.arange(dim), np.arange(dim)
    rank_x[x == 0], rank_y[y == 0] = -1, -1
    both = np.flatnonzero((x != 0) & (y != 0))
    below = [int(((rank_x < rank_x[i]) & (rank_y < rank_y[i])).sum()) for i in both]
    same = sum(_choose_ratio(count, size - 1, dim, size) for count in below)
    empty = [_choose_ratio(int(zeros.sum()), size, dim, size) for zeros in (x == 0, y == 0, (x == 0) & (y == 0))]
    one_empty = empty[0] + empty[1] - 2 * empty[2]
    return (same + one_empty / size) / (1 - empty[2])


def _choose_ratio(n: int, k: int, m: int, j: int) -> float:
    """C(n, k) / C(m, j)."""
    if n < k:
        return 0.0
    log_n = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    log_m = gammaln(m + 1) - gammaln(j + 1) - gammaln(m - j + 1)
    return float(np.exp(log_n - log_m))


PROBABILITIES: dict[str, Callable[..., float]] = {
    "simhash": signed_projection,
    "sparse_simhash": signed_projection,
    "dwta": winner_take_all,
    "minhash": weighted_jaccard,
    "doph": jaccard,
}
