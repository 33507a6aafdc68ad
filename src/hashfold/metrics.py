"""Ranking metrics on sparse labels, by the definitions of the Extreme Classification Repository.

Every metric is a mean over all test rows: a row without labels counts as zero (drop such rows first
if you do not want them; `hashfold.data.drop_unusable` counts them). Labels that no training row has
are labels all the same: not predicting them is a miss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hashfold import checks
from hashfold.sparse import Float64, Int32, Ragged, RaggedIds

Bool = npt.NDArray[np.bool_]


def propensities(label_counts: npt.ArrayLike, num_rows: int, a: float = 0.55, b: float = 1.5) -> Float64:
    """p_l = 1 / (1 + C exp(-a log(n_l + b))), C = (log N - 1) (b + 1)^a: the chance that a true label was noted.

    Args:
        label_counts: (num_labels,) training rows n_l of each label, zeros included.
        num_rows: training rows N.
        a, b: .55 and 1.5 by default; the Repository uses .5, .4 for Wikipedia and .6, 2.6 for Amazon sets.

    Reference: Jain, Prabhu, Varma, "Extreme multi-label loss functions", KDD 2016.
    """
    num_rows = checks.integer("propensities", "num_rows", num_rows, low=1)
    counts = np.asarray(label_counts, np.float64)
    c = (np.log(num_rows) - 1) * (b + 1) ** a
    p: Float64 = 1 / (1 + c * (counts + b) ** -a)
    return p


def evaluate(
    top_ids: npt.ArrayLike,
    y: RaggedIds,
    propensities: npt.ArrayLike | None = None,
    ks: Sequence[int] = (1, 3, 5),
) -> dict[str, float]:
    """P@k, nDCG@k, R@k and, with propensities, PSP@k and PSnDCG@k, as shares in [0, 1].

    P@k = hits / k; R@k = hits / |y|; nDCG@k = sum over hits at rank r of 1/log2(r + 1), divided by the
    same sum for min(k, |y|) hits in front. PSP@k and PSnDCG@k weight a hit on label l by 1/p_l and are
    divided by what the best possible ranking (its row's labels, rarest first) reaches over all rows.

    Args:
        top_ids: (rows, at least max(ks)) label ids, best first, distinct within a row; -1 where a row
            has no further prediction.
        y: the true labels.
        propensities: (at least y.num_ids,) from `propensities`.

    Raises:
        InputError: shapes that do not match, repeated ids in a row.

    Cost: O(rows * max(ks) * log(labels)).
    """
    ids, ks = _checked(top_ids, y, ks)
    hits = are_true(ids, y).astype(np.float64)
    out = {}
    for k in ks:
        out[f"P@{k}"] = _mean(hits[:, :k].sum(1) / k)
        out[f"nDCG@{k}"] = _ndcg(hits, y, k)
        out[f"R@{k}"] = _mean(hits[:, :k].sum(1) / np.maximum(y.counts, 1))
    if propensities is not None:
        out |= _propensity_scored(ids, hits, y, _inverse(propensities, y), ks)
    return out


@dataclass(frozen=True)
class Band:
    """Labels with `low` to `high` training rows (both included), and how well they are found."""

    low: int
    high: int | None
    labels: int  # labels of the band
    occurrences: int  # of these labels in the test rows
    hits: Mapping[int, int]  # k -> occurrences among the top k

    def recall(self, k: int) -> float:
        """Share of the band's occurrences that the top k hold; NaN if there is none."""
        return self.hits[k] / self.occurrences if self.occurrences else float("nan")


def by_frequency(
    top_ids: npt.ArrayLike,
    y: RaggedIds,
    label_counts: npt.ArrayLike,
    ks: Sequence[int] = (1, 3, 5),
    edges: Sequence[int] = (0, 1, 2, 5, 10, 100, 1000),
) -> list[Band]:
    """The hits by how often a label was seen in training: one `Band` from each edge to the next.

    Args:
        top_ids, y, ks: as for `evaluate`.
        label_counts: (y.num_ids,) training rows of each label.
        edges: ascending lower ends; the last band has no upper end.
    """
    ids, ks = _checked(top_ids, y, ks)
    counts = checks.array("by_frequency", "label_counts", label_counts, np.int64, (y.num_ids,))
    band_of = np.searchsorted(np.asarray(edges), counts, side="right") - 1
    hits = are_true(ids, y)
    size, bands = len(edges), []
    labels = np.bincount(band_of[band_of >= 0], minlength=size)
    occurrences = np.bincount(band_of[y.ids][band_of[y.ids] >= 0], minlength=size)
    found = {k: _per_band(band_of, ids[:, :k][hits[:, :k]], size) for k in ks}
    for i, low in enumerate(edges):
        high = edges[i + 1] - 1 if i + 1 < size else None
        bands.append(Band(low, high, int(labels[i]), int(occurrences[i]), {k: int(found[k][i]) for k in ks}))
    return bands


def expected_calibration_error(probabilities: npt.ArrayLike, hits: npt.ArrayLike, bins: int = 15) -> float:
    """sum over bins B of |B| / n * |share of hits in B - mean probability in B|: 0 where probabilities come true.

    Args:
        probabilities: any shape, in [0, 1]: of each prediction being true.
        hits: bool, of the same shape: it was.
        bins: of equal width; bin b holds the probabilities in (b / bins, (b + 1) / bins], the first 0 as well.

    Returns: in [0, 1]; NaN where there is no prediction. Raises InputError: values out of range, other shapes.

    Reference: Guo et al., "On calibration of modern neural networks", ICML 2017.
    """
    op, p, hit = "expected_calibration_error", np.asarray(probabilities, np.float64), np.asarray(hits)
    bins = checks.integer(op, "bins", bins, low=1)
    if hit.dtype != bool or hit.shape != p.shape:
        checks.fail(op, f"hits must be bool of the shape of probabilities, {p.shape}", f"{hit.dtype} {hit.shape}")
    p, hit = p.ravel(), hit.ravel()
    if not p.size:
        return float("nan")
    if not ((p >= 0) & (p <= 1)).all():
        bad = p[~((p >= 0) & (p <= 1))][0]
        checks.fail(op, "probabilities must lie in [0, 1]", bad, "give probabilities, not scores")
    bin_of = np.maximum(np.ceil(p * bins).astype(np.int64) - 1, 0)
    gaps = np.bincount(bin_of, hit, bins) - np.bincount(bin_of, p, bins)
    return float(np.abs(gaps).sum() / p.size)


def _per_band(band_of: npt.NDArray[np.int64], ids: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    bands = band_of[ids]
    return np.bincount(bands[bands >= 0], minlength=size)


def _checked(top_ids: npt.ArrayLike, y: RaggedIds, ks: Sequence[int]) -> tuple[npt.NDArray[np.int64], list[int]]:
    ks = [checks.integer("evaluate", "k", k, low=1) for k in ks]
    ids = checks.array("evaluate", "top_ids", top_ids, np.int64, (len(y), None))
    if ids.shape[1] < max(ks, default=1):
        checks.fail(
            "evaluate",
            f"top_ids must have at least {max(ks)} columns, the largest k",
            ids.shape[1],
            "predict more labels or ask for smaller k",
        )
    ids = ids[:, : max(ks, default=0)]
    ordered = np.sort(ids, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
        checks.fail("evaluate", "each row of top_ids must have distinct labels", "a label twice in a row")
    return ids, ks


def are_true(ids: npt.NDArray[np.int32] | npt.NDArray[np.int64], y: RaggedIds) -> Bool:
    """Which predictions are true: bool, like `ids` (rows, k); -1 never is."""
    predicted = Ragged(np.arange(len(ids) + 1, dtype=np.int64) * ids.shape[1], ids.reshape(-1).astype(np.int32))
    found: Bool = contains(y, predicted).reshape(ids.shape) & (ids >= 0)
    return found


def _discounts(k: int) -> Float64:
    d: Float64 = 1 / np.log2(np.arange(k) + 2)
    return d


def _mean(per_row: Float64) -> float:
    return float(per_row.mean()) if len(per_row) else float("nan")


def _row_dcg(gains: Float64, y: RaggedIds, k: int) -> Float64:
    """Discounted gains of the first k, each row's divided by min(k, labels) plain hits in front."""
    ideal = np.cumsum(_discounts(k))[np.minimum(np.maximum(y.counts, 1), k) - 1]
    dcg: Float64 = gains[:, :k] @ _discounts(k) / ideal
    return dcg


def _ndcg(hits: Float64, y: RaggedIds, k: int) -> float:
    return _mean(_row_dcg(hits, y, k))


def _propensity_scored(
    ids: npt.NDArray[np.int64], hits: Float64, y: RaggedIds, inverse: Float64, ks: Sequence[int]
) -> dict[str, float]:
    safe = np.where((ids >= 0) & (ids < len(inverse)), ids, 0)
    gains = hits * (inverse[safe] if len(inverse) else 0.0)
    best = _best_gains(y, inverse, max(ks, default=0))
    out = {}
    for k in ks:
        out[f"PSP@{k}"] = _share(gains[:, :k].sum(), best[:, :k].sum())
        out[f"PSnDCG@{k}"] = _share(_row_dcg(gains, y, k).sum(), _row_dcg(best, y, k).sum())
    return out


def _share(reached: float, possible: float) -> float:
    return float(reached / possible) if possible else float("nan")


def _best_gains(y: RaggedIds, inverse: Float64, k: int) -> Float64:
    """The k largest 1/p among each row's labels, descending, padded with zeros: (rows, k)."""
    rows = np.repeat(np.arange(len(y)), y.counts)
    gains = inverse[y.ids]
    order = np.lexsort((-gains, rows))
    rank = np.arange(len(rows)) - y.indptr[rows]
    keep = rank < k
    best = np.zeros((len(y), k))
    best[rows[keep], rank[keep]] = gains[order][keep]
    return best


def _inverse(propensities: npt.ArrayLike, y: RaggedIds) -> Float64:
    p = np.asarray(propensities, np.float64)
    if p.ndim != 1 or len(p) < y.num_ids:
        checks.fail(
            "evaluate",
            f"propensities must have an entry for each of the {y.num_ids} labels",
            p.shape,
            "count the training labels with the test set's num_labels",
        )
    inverse: Float64 = 1 / p
    return inverse


def contains(y: RaggedIds, ids: Ragged) -> Bool:
    """Which of each row's `ids` are among its labels y: bool, like ids.ids."""
    # A label set is a sorted run of keys row * width + id.
    if not len(y.ids):
        return np.zeros(len(ids.ids), bool)
    width = np.int64(max(y.num_ids, int(ids.ids.max(initial=0)) + 1))
    keys = np.repeat(np.arange(len(y), dtype=np.int64), y.counts) * width + y.ids
    wanted = np.repeat(np.arange(len(ids), dtype=np.int64), ids.counts) * width + ids.ids
    found: Bool = keys[np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)] == wanted
    return found


def top_of(y: RaggedIds, k: int) -> Int32:
    """The first k labels of each row, padded with -1: an oracle's or a baseline's `top_ids`."""
    rows = np.repeat(np.arange(len(y)), y.counts)
    rank = np.arange(len(rows)) - y.indptr[rows]
    top = np.full((len(y), k), -1, np.int32)
    top[rows[rank < k], rank[rank < k]] = y.ids[rank < k]
    return top
