"""k-means with the exact scan as its assignment step."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from hashfold.index.topk import top_k
from hashfold.sparse import Float32, Int32


def assign(points: Float32, centroids: Float32) -> Int32:
    """The nearest centroid of each point: argmax of <p, c> - |c|^2 / 2, equal to argmin of |p - c|^2."""
    offsets = -0.5 * np.einsum("ij,ij->i", centroids, centroids)
    return top_k(points, centroids, offsets.astype(np.float32), 1)[0][:, 0]


def kmeans(points: Float32, num_clusters: int, iterations: int, rng: np.random.Generator) -> Float32:
    """Centroids (num_clusters, dim) of `points` (n, dim) after at most `iterations` of Lloyd's algorithm.

    Starts from distinct points drawn by `rng`; a cluster that loses all its points restarts at a point
    drawn from the largest clusters. Stops early when nothing moves. Cost: iterations * n * num_clusters *
    dim multiply-adds.
    """
    centroids = points[rng.choice(len(points), num_clusters, replace=False)].copy()
    before = np.full(len(points), -1, np.int32)
    for _ in range(iterations):
        members = assign(points, centroids)
        if (members == before).all():
            break
        centroids, before = _means(points, members, num_clusters, rng), members
    return centroids


def _means(points: Float32, members: Int32, num_clusters: int, rng: np.random.Generator) -> Float32:
    counts = np.bincount(members, minlength=num_clusters)
    one_hot = sp.csr_array(
        (np.ones(len(points), np.float32), (members, np.arange(len(points)))), shape=(num_clusters, len(points))
    )
    means = np.asarray(one_hot @ points / np.maximum(counts, 1)[:, None], np.float32)
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        weight = counts[members].astype(np.float64)  # a point's chance grows with its cluster
        means[empty] = points[rng.choice(len(points), len(empty), replace=False, p=weight / weight.sum())]
    return means
