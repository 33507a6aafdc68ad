"""Exact inner products and the best of them, natively and as a NumPy twin.

Items are float32 rows, or the same in 8 bits: each query is then quantised too, and a score is one integer
sum, scaled: the same bits for one row and for many, at every instruction set.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from hashfold import checks
from hashfold.index.base import Candidates, Queries, dense_blocks, densify
from hashfold.index.tables import gather
from hashfold.index.virtual import VirtualRows, rows_at_once, spans
from hashfold.kernels.native import core
from hashfold.kernels.quantized import QuantizedQueries, QuantizedRows, scores_reference
from hashfold.sparse import Float32, Int32, Int64

Rows = Float32 | QuantizedRows | VirtualRows
MOST_PAIRS = 1 << 22
"""Of queries and virtual rows that are scored at a time."""


def top_k(x: Float32, vectors: Rows, bias: Float32 | None, k: int) -> tuple[Int32, Float32]:
    """ids and scores, both (rows, k): the k items with the largest <x, vectors[i]> + bias[i], best first.

    A blocked scan of all items on all threads, equal scores by smaller id; k at most the number of
    items. Raises InputError if fewer than k scores of a row are numbers (the others overflowed).
    """
    if isinstance(vectors, VirtualRows):
        return _top_k_in_blocks(x, vectors, bias, k)
    ids, scores = np.empty((len(x), k), np.int32), np.empty((len(x), k), np.float32)
    counts = np.empty(len(x), np.int64)
    if isinstance(vectors, QuantizedRows):
        core.top_k_quantized(x, vectors.codes, vectors.scales, vectors.sums, bias, ids, scores, counts)
    else:
        core.top_k(x, vectors, bias, ids, scores, counts)
    if (counts < k).any():
        checks.fail("top_k", "scores must be numbers", f"NaN in row {counts.argmin()}", "scale the weights down")
    return ids, scores


def _top_k_in_blocks(x: Float32, vectors: VirtualRows, bias: Float32 | None, k: int) -> tuple[Int32, Float32]:
    """`top_k`: the best so far, merged with each block's. Ids ascend from block to block, so ties stay right."""
    ids, scores = np.empty((len(x), 0), np.int32), np.empty((len(x), 0), np.float32)
    for part in spans(vectors):
        offset = None if bias is None else bias[part]
        new = top_k(x, vectors.scanned(part), offset, min(k, part.stop - part.start))
        ids = np.concatenate((ids, new[0] + np.int32(part.start)), 1)
        scores = np.concatenate((scores, new[1]), 1)
        width = min(k, ids.shape[1])
        indptr = np.arange(len(x) + 1, dtype=np.int64) * ids.shape[1]
        core.rank_rows(width, indptr, ids.reshape(-1), scores.reshape(-1))  # the best of each row, side by side
        ids = ids.reshape(-1)[: len(x) * width].reshape(len(x), width)
        scores = scores.reshape(-1)[: len(x) * width].reshape(len(x), width)
    return ids, scores


def top_k_reference(x: Float32, vectors: Rows, bias: Float32 | None, k: int) -> tuple[Int32, Float32]:
    """What `top_k` computes, word by word."""
    if isinstance(vectors, VirtualRows):
        vectors = vectors[:]
    if isinstance(vectors, QuantizedRows):
        scores = scores_reference(QuantizedQueries.quantize(x), vectors, bias)
    else:
        scores = x @ vectors.T + (0 if bias is None else bias)
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return ids.astype(np.int32), np.take_along_axis(scores, ids, 1).astype(np.float32)


def exact_candidates(x: Queries, vectors: Rows, bias: Float32 | None, budget: int) -> Candidates:
    """The `budget` best of all items for each row."""
    rows = len(x)
    ids, scores = np.empty((rows, budget), np.int32), np.empty((rows, budget), np.float32)
    for begin, end in dense_blocks(x):
        ids[begin:end], scores[begin:end] = top_k(densify(x, begin, end), vectors, bias, budget)
    indptr = np.arange(rows + 1, dtype=np.int64) * budget
    return Candidates(indptr, ids.reshape(-1), scores.reshape(-1), len(vectors), np.full(rows, len(vectors)))


def score_rows(
    x: Float32, vectors: Rows, bias: Float32 | None, indptr: Int64, ids: Int32, scores: Float32
) -> None:
    """Fills `scores` with <x_i, vectors[j]> + bias[j] of the ids j of each row i; ids in range."""
    if isinstance(vectors, VirtualRows):
        _score_virtual(x, vectors, bias, indptr, ids, scores)
    elif isinstance(vectors, QuantizedRows):
        core.score_rows_quantized(x, vectors.codes, vectors.scales, vectors.sums, bias, indptr, ids, scores)
    else:
        core.score_rows(x, vectors, bias, indptr, ids, scores)


def _score_virtual(
    x: Float32, vectors: VirtualRows, bias: Float32 | None, indptr: Int64, ids: Int32, scores: Float32
) -> None:
    """`score_rows`, each distinct row made once, a block of them at a time."""
    distinct, places = np.unique(ids, return_inverse=True)
    of_row = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    step = rows_at_once(vectors.shape[1])
    for at in range(0, len(distinct), step):
        block = distinct[at : at + step]
        here = np.flatnonzero((places >= at) & (places < at + step))
        starts = np.searchsorted(of_row[here], np.arange(len(indptr)))
        part = np.empty(len(here), np.float32)
        local = (places[here] - at).astype(np.int32)
        score_rows(x, vectors.scanned(block), None if bias is None else bias[block], starts, local, part)
        scores[here] = part


def rescored(found: Candidates, x: Queries, vectors: Rows, bias: Float32 | None, budget: int) -> Candidates:
    """The same candidates, scored by inner product and ranked anew; at most `budget` a row."""
    scores = np.empty(len(found.ids), np.float32)
    for begin, end in dense_blocks(x):
        low, high = found.indptr[begin], found.indptr[end]
        indptr = found.indptr[begin : end + 1] - low
        score_rows(densify(x, begin, end), vectors, bias, indptr, found.ids[low:high], scores[low:high])
    indptr, ids = found.indptr.copy(), found.ids.copy()
    core.rank_rows(budget, indptr, ids, scores)
    return Candidates(indptr, ids[: indptr[-1]], scores[: indptr[-1]], found.num_items, found.found)


def probed(
    lists: object, probes: Int32, sizes: Int32, x: Float32, vectors: Rows, bias: Float32 | None, budget: int
) -> Candidates:
    """The `budget` best items of the lists `probes` (rows, p) by inner product; `sizes` of all lists."""
    if isinstance(vectors, VirtualRows):
        return _probed_virtual(lists, probes, sizes, x, vectors, bias, budget)
    room = np.minimum(sizes[probes].sum(axis=1, dtype=np.int64), budget)
    if isinstance(vectors, QuantizedRows):
        parts = (vectors.codes, vectors.scales, vectors.sums)
        probe = partial(core.probe_lists_quantized, lists, probes, x, *parts, bias, budget)
    else:
        probe = partial(core.probe_lists, lists, probes, x, vectors, bias, budget)
    return gather(len(vectors), room, probe)


def _probed_virtual(
    lists: object, probes: Int32, sizes: Int32, x: Float32, vectors: VirtualRows, bias: Float32 | None, budget: int
) -> Candidates:
    """`probed` for as many queries at a time as `MOST_PAIRS` allows, so that they share the rows that are made."""
    most = int(sizes[probes].sum(axis=1, dtype=np.int64).max(initial=1))
    step, parts = max(1, MOST_PAIRS // max(1, most)), []
    for at in range(0, max(1, len(x)), step):
        chosen = probes[at : at + step]
        everything = listed(lists, chosen, sizes, np.zeros(chosen.shape, np.float32), len(vectors), len(vectors))
        parts.append(rescored(everything, x[at : at + step], vectors, bias, budget))
    return Candidates.concatenate(parts, len(vectors))


def listed(
    lists: object, probes: Int32, sizes: Int32, list_scores: Float32, num_items: int, budget: int
) -> Candidates:
    """The items of the lists in the order of `probes`, unscored: an item's score is its list's."""
    room = np.minimum(sizes[probes].sum(axis=1, dtype=np.int64), budget)
    return gather(num_items, room, lambda *out: core.list_probes(lists, probes, list_scores, budget, *out))
