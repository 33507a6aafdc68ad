"""Codebooks for a dense matrix: the shared values that come nearest to its weights, group by group."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hashfold import checks
from hashfold.kernels.kmeans1d import kmeans1d_groups

TOLERANCE = 1e-3
"""How far above the least possible squared error a scalar codebook may be: it is mostly not at all."""
SAMPLED_VECTORS = 1 << 16
"""With more vectors in a group, so many drawn at random are clustered, and all of them five rounds from there.

Two million pairs, 16 means: 1 s, squared error 1.4 % less than that of mini-batch k-means, which takes 29 s.
"""

Float32 = npt.NDArray[np.float32]


@torch.no_grad()
def fit_codebook(
    dense: Tensor,
    bits: int,
    *,
    dim: int = 1,
    group_rows: int | None = None,
    group_cols: int | None = None,
    importance: Tensor | None = None,
    zero: bool = False,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Codes (out, ceil(in / dim)), uint8, and codebook (groups, 2^bits, dim), float32, of `dense` (out, in).

    dim 1: the sum of importance * (weight - its shared value)^2 of each group is at most `TOLERANCE` above the
    least that there is, by exact k-means; values ascend. dim above 1: k-means of the vectors by scikit-learn (see
    `SAMPLED_VECTORS`), a vector's importance being the mean of its weights'.

    Args:
        dense: finite, of any floating-point type.
        group_rows, group_cols: weights that share a codebook; default: all. group_cols: a multiple of dim.
        importance: (out, in), finite, not negative; default 1 each.
        zero: code 0 is zero itself, of the weights (vectors) that are exactly zero; the others share the rest.
        seed: where k-means of vectors starts.
    """
    op = "fit_codebook"
    out, inputs, rows, cols = check_groups(op, dense, bits, dim, group_rows, group_cols)
    if importance is not None and importance.shape != dense.shape:
        checks.fail(op, f"importance must be {tuple(dense.shape)}, as the weights", tuple(importance.shape))
    count, k = -(-inputs // dim), 2**bits
    codes = torch.empty(out, count, dtype=torch.uint8)
    books: list[Float32] = []
    for band in range(0, out, rows):
        weights = _vectors(dense[band : band + rows], dim)
        given = None if importance is None else _vectors(importance[band : band + rows], dim).mean(2)
        runs = _runs(weights, cols // dim)
        given_runs = None if given is None else _runs(given, cols // dim)
        fit = _fit_scalars if dim == 1 else _fit_vectors
        found, values = fit(runs, given_runs, k, zero, seed)
        books.append(values)
        for at, run in zip(range(0, count, cols // dim), found, strict=True):
            codes[band : band + rows, at : at + cols // dim] = torch.from_numpy(run).view(len(weights), -1)
    return codes, torch.from_numpy(np.concatenate(books))


def check_groups(
    op: str, dense: Tensor, bits: int, dim: int, group_rows: int | None, group_cols: int | None
) -> tuple[int, int, int, int]:
    """(out, in, group_rows, group_cols), the defaults filled in. Raises InputError."""
    if dense.dim() != 2 or not dense.is_floating_point() or not dense.numel():
        checks.fail(op, "dense must be floating-point (out, in)", f"{dense.dtype} {tuple(dense.shape)}")
    if not bool(dense.isfinite().all()):
        checks.fail(op, "dense must be finite", "NaN or infinity", "repair the weights first")
    checks.integer(op, "bits", bits, low=1, high=8)
    checks.integer(op, "dim", dim, low=1)
    out, inputs = dense.shape
    whole = -(-inputs // dim) * dim
    rows = out if group_rows is None else checks.integer(op, "group_rows", group_rows, low=1)
    cols = whole if group_cols is None else checks.integer(op, "group_cols", group_cols, low=1)
    if cols % dim:
        checks.fail(op, f"group_cols must be a multiple of dim {dim}", cols)
    return out, inputs, min(rows, out), min(cols, whole)


def _vectors(matrix: Tensor, dim: int) -> Tensor:
    """(rows, in) as (rows, ceil(in / dim), dim), float32, filled up with zeros."""
    missing = -matrix.shape[1] % dim
    filled = torch.nn.functional.pad(matrix.float(), (0, missing)) if missing else matrix.float()
    return filled.reshape(len(matrix), -1, dim)


def _runs(band: Tensor, step: int) -> list[Float32]:
    """The groups of a band, one after the other; each group's entries row by row."""
    return [part.reshape(-1, *band.shape[2:]).contiguous().numpy() for part in torch.split(band, step, dim=1)]


def _fit_scalars(
    runs: list[Float32], importance: list[Float32] | None, k: int, zero: bool, seed: int
) -> tuple[Iterator[npt.NDArray[np.uint8]], Float32]:
    """Codes of each run, and the codebooks (runs, k, 1)."""
    values = [run.reshape(-1) for run in runs]
    kept = [v != 0 if zero else np.ones(len(v), bool) for v in values]
    sizes = np.array([int(mask.sum()) for mask in kept])
    books = np.zeros((len(runs), k, 1), np.float32)
    some = np.flatnonzero(sizes)
    if len(some):
        starts = np.concatenate([[0], np.cumsum(sizes[some])])
        numbers = np.concatenate([values[g][kept[g]] if zero else values[g] for g in some])
        weights = None if importance is None else np.concatenate([importance[g][kept[g]] for g in some])
        found = kmeans1d_groups(numbers, starts, k - zero, weights=weights, tolerance=TOLERANCE)
        books[some, int(zero) :, 0] = found.means
    return _nearest(values, kept, books[:, :, 0], zero), books


def _nearest(
    values: list[Float32], kept: list[npt.NDArray[np.bool_]], books: Float32, zero: bool
) -> Iterator[npt.NDArray[np.uint8]]:
    for v, mask, book in zip(values, kept, books, strict=True):
        own = book[int(zero) :]
        middles = torch.from_numpy((own[1:] + own[:-1]) / 2)
        codes = torch.bucketize(torch.from_numpy(v), middles, out_int32=True).numpy() + int(zero)
        yield np.where(mask, codes, 0).astype(np.uint8)


def _fit_vectors(
    runs: list[Float32], importance: list[Float32] | None, k: int, zero: bool, seed: int
) -> tuple[Iterator[npt.NDArray[np.uint8]], Float32]:
    """As `_fit_scalars`; the codebooks are (runs, k, dim)."""
    codes, books = [], []
    for g, vectors in enumerate(runs):
        kept = vectors.any(1) if zero else np.ones(len(vectors), bool)
        weights = None if importance is None else importance[g].reshape(-1)[kept]
        own, book = _cluster(vectors[kept], weights, k - zero, seed)
        run = np.zeros(len(vectors), np.uint8)
        run[kept] = own + zero
        codes.append(run)
        books.append(np.concatenate([np.zeros((int(zero), vectors.shape[1]), np.float32), book]))
    return iter(codes), np.stack(books)


def _cluster(
    vectors: Float32, weights: Float32 | None, k: int, seed: int
) -> tuple[npt.NDArray[np.integer], Float32]:
    """Codes (n,) and means (k, dim); of fewer distinct vectors, these and zeros."""
    from sklearn.cluster import KMeans

    if len(np.unique(vectors[: 16 * k], axis=0)) <= k:  # sorting all of them is slow, and seldom of use
        distinct, inverse = np.unique(vectors, axis=0, return_inverse=True)
        if len(distinct) <= k:
            means = np.zeros((k, vectors.shape[1]), np.float32)
            means[: len(distinct)] = distinct
            return inverse.reshape(-1), means
    start, rounds = "k-means++", 100
    if len(vectors) > SAMPLED_VECTORS:
        some = np.random.default_rng(seed).choice(len(vectors), SAMPLED_VECTORS, replace=False)
        own = None if weights is None else weights[some]
        sampled = KMeans(k, n_init=1, max_iter=rounds, random_state=seed).fit(vectors[some], sample_weight=own)
        start, rounds = sampled.cluster_centers_, 5
    found = KMeans(k, init=start, n_init=1, max_iter=rounds, random_state=seed).fit(vectors, sample_weight=weights)
    return found.labels_, found.cluster_centers_.astype(np.float32)
