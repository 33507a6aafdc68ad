"""Exact k-means of numbers: k means with the least sum of w (x - nearest mean)^2.

In one dimension the best clusters are runs of the sorted numbers, found by dynamic programming over their cuts
(Wang and Song, R Journal 2011; Gronlund et al. 2017). The native search narrows the cuts down by bounds from both
sides (csrc/core/kmeans1d.hpp) and says how close it came: the optimum lies between `bound` and `cost`. They agree
to rounding unless a tolerance above 0 stopped it, or, beyond hundreds of clusters of millions of distinct numbers,
its limit of cells. `reference` is the plain dynamic programme.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hashfold import checks
from hashfold.kernels.native import core
from hashfold.sparse import Float32, Float64


@dataclass(frozen=True)
class Means:
    """means (groups, k), ascending; costs and lower bounds of the best costs (groups,), float64."""

    means: Float32
    costs: Float64
    bounds: Float64


def kmeans1d_groups(
    values: npt.ArrayLike,
    starts: npt.ArrayLike,
    k: int,
    *,
    weights: npt.ArrayLike | None = None,
    tolerance: float = 0.0,
) -> Means:
    """Of each group values[starts[g] : starts[g + 1]] by itself its k means.

    Args:
        values: (n,) finite numbers, clustered as float32.
        starts: (groups + 1,) ascending from 0 to n; no group is empty.
        k: clusters. A group with fewer distinct numbers repeats its last mean.
        weights: (n,) finite, at least 0; default 1 each.
        tolerance: stop when (cost - bound) <= tolerance * cost.

    Raises InputError on other arguments. Cost: sorting, and some milliseconds times k; ten million normal numbers
    and 16 clusters take about as long as sorting them, and twice their own memory beside them. Groups run on all
    threads, with the same bits at any number of them.
    """
    op = "kmeans1d"
    x = checks.array(op, "values", values, np.float32, (None,))
    checks.finite(op, "values", x)
    w = None if weights is None else checks.array(op, "weights", weights, np.float32, x.shape)
    if w is not None:
        checks.finite(op, "weights", w)
        if w.size and w.min() < 0:
            checks.fail(op, "weights must be at least 0", float(w.min()))
    places = checks.array(op, "starts", starts, np.int64, (None,))
    if len(places) < 2 or places[0] != 0 or places[-1] != len(x) or (np.diff(places) < 1).any():
        checks.fail(op, f"starts must ascend from 0 to {len(x)} with no group empty", places[:4].tolist())
    count = len(places) - 1
    means = np.empty((count, checks.integer(op, "k", k, low=1)), np.float32)
    found = Means(means, np.empty(count), np.empty(count))
    limit = checks.number(op, "tolerance", tolerance, low=0)
    core.kmeans1d(x, w, places, limit, found.means, found.costs, found.bounds)
    return found


def kmeans1d(
    values: npt.ArrayLike, k: int, *, weights: npt.ArrayLike | None = None, tolerance: float = 0.0
) -> tuple[Float32, float, float]:
    """The k means (k,) of all `values` (n,), their cost, and a bound below the best cost. See kmeans1d_groups."""
    x = checks.array("kmeans1d", "values", values, np.float32, (None,))
    if not len(x):
        checks.fail("kmeans1d", "values must hold at least one number", "none")
    found = kmeans1d_groups(x, [0, len(x)], k, weights=weights, tolerance=tolerance)
    return found.means[0], float(found.costs[0]), float(found.bounds[0])


def reference(values: npt.ArrayLike, k: int, weights: npt.ArrayLike | None = None) -> tuple[Float64, float]:
    """The k means and their cost by the plain dynamic programme, O(k n^2), in float64."""
    x = np.asarray(values, np.float64)
    order = np.argsort(x, kind="stable")
    w = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)[order]
    x, n = x[order] - np.median(x), len(x)
    totals = [np.concatenate([[0], np.cumsum(w * x**power)]) for power in range(3)]
    weight, first, second = (t[None, :] - t[:, None] for t in totals)
    with np.errstate(divide="ignore", invalid="ignore"):
        cost = np.where(weight > 0, np.maximum(second - first**2 / weight, 0), 0)  # of run a to b at (a, b)
        mean = np.where(weight > 0, first / weight, np.nan) + np.median(np.asarray(values, np.float64))
    cost[np.tril_indices(n + 1, -1)] = np.inf
    best, came = np.where(np.arange(n + 1) == 0, 0.0, np.inf), []
    for _ in range(k):
        through = best[:, None] + cost
        came.append(through.argmin(0))
        best = through.min(0)
    end, means = n, []
    for previous in reversed(came):
        means.append(mean[previous[end], end])
        end = previous[end]
    found = [m for m in reversed(means) if not np.isnan(m)]
    return np.asarray(found + found[-1:] * (k - len(found))), float(best[n])
