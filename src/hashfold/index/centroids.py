"""Centroids in two levels: what routes items and queries to clusters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hashfold import checks
from hashfold.index.base import Arrays, state_array
from hashfold.index.cells import Cells
from hashfold.kernels.native import core
from hashfold.sparse import Float32, Int32, Int64

# The offsets of a centroid, and what weighs them: for an item its bias, its lifted coordinate (see index.lift) and
# 1, so that the nearest centroid scores highest; for a query 1, 0 and 0.
BIAS, LIFT, DISTANCE = range(core.ROUTE_OFFSETS)
NEAREST_BRANCHES = 2  # in which an item looks for its cluster
SAMPLE_PER_BRANCH = 256


class Points:
    """Vectors x (n, dim) and the weights (n, 3) they have for the offsets of centroids."""

    def __init__(self, x: Float32, bias: Float32 | None, lift: Float32 | None) -> None:
        self.x = x
        self.weights = np.zeros((len(x), core.ROUTE_OFFSETS), np.float32)
        self.weights[:, DISTANCE] = 1
        for column, values in ((BIAS, bias), (LIFT, lift)):
            if values is not None:
                self.weights[:, column] = values

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: Int64) -> Points:
        return Points(self.x[rows], self.weights[rows, BIAS], self.weights[rows, LIFT])


class Centroids:
    """`vectors` (n, dim) with their `offsets` (n, 3), each in a group; `cells` of the groups, in 8 bits."""

    def __init__(self, vectors: Float32, offsets: Float32, groups: Int32, num_groups: int) -> None:
        self.vectors, self.offsets, self.groups = vectors, offsets, groups
        self.cells = Cells(len(vectors), num_groups, vectors.shape[1], offsets.shape[1])
        self.cells.build(vectors, offsets, groups)

    @property
    def nbytes(self) -> int:
        return self.vectors.nbytes + self.offsets.nbytes + self.groups.nbytes + self.cells.nbytes

    def moved_to_means(self, points: Points, members: Int32) -> Centroids:
        """Each at the mean of its points; those without points as they were."""
        vectors, offsets = self.vectors.copy(), self.offsets.copy()
        core.mean_rows(points.x, members, vectors)
        core.mean_rows(points.weights, members, offsets)
        squares = np.einsum("ij,ij->i", vectors, vectors) + np.square(offsets[:, [BIAS, LIFT]]).sum(axis=1)
        offsets[:, DISTANCE] = -0.5 * squares
        return Centroids(vectors, offsets, self.groups, self.cells.num_cells)


def lloyd(
    points: Points, of_points: Int32, counts: Int64, iterations: int, rng: np.random.Generator
) -> tuple[Centroids, Int32]:
    """k-means within each group: counts[g] clusters of the points with of_points = g, and the points' clusters.

    Starts from distinct points of the group, at least as many as it has clusters; a cluster that loses all its
    points restarts at one of them, drawn by its squared distance to its centroid. Distances are those in 8 bits.
    Cost: iterations * n * clusters of a point's group * dim multiply-adds.
    """
    rows_of = _grouped(of_points, len(counts))
    chosen = np.concatenate([rng.choice(rows, k, replace=False) for rows, k in zip(rows_of, counts, strict=True)])
    groups = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    at = np.arange(len(groups), dtype=np.int32)
    start = Centroids(points.x[chosen], points.weights[chosen], groups, len(counts))
    centroids = start.moved_to_means(points.take(chosen), at)  # distances from themselves
    members = centroids.cells.best(points.x, points.weights, of_points)
    for _ in range(iterations):
        for cluster in np.flatnonzero(np.bincount(members, minlength=len(groups)) == 0):
            members[_far_point(points, centroids, members, rows_of[groups[cluster]], rng)] = cluster
        centroids = centroids.moved_to_means(points, members)
        before, members = members, centroids.cells.best(points.x, points.weights, of_points)
        if np.array_equal(before, members):
            break
    return centroids, members


def _far_point(points: Points, centroids: Centroids, members: Int32, rows: Int64, rng: np.random.Generator) -> int:
    squares = np.square(points.x[rows] - centroids.vectors[members[rows]]).sum(axis=1, dtype=np.float64)
    total = squares.sum()
    return int(rng.choice(rows, p=squares / total if total > 0 else None))


class CentroidTree:
    """Branches, and clusters that each belong to one.

    branches: one group. clusters: a group for each branch, one behind the other.
    """

    state_names = ("branches", "branch_offsets", "centroids", "centroid_offsets", "branch_of")

    def __init__(self, branches: Centroids, clusters: Centroids) -> None:
        self.branches, self.clusters = branches, clusters

    @classmethod
    def grow(
        cls, points: Points, num_branches: int, num_clusters: int, iterations: int, rng: np.random.Generator
    ) -> CentroidTree:
        """Learned from at least num_clusters points; a branch has clusters in proportion to its points."""
        some = min(len(points), max(num_clusters, SAMPLE_PER_BRANCH * num_branches))
        few = points.take(np.sort(rng.choice(len(points), some, replace=False)))
        one = np.zeros(len(few), np.int32)
        branches, _ = lloyd(few, one, np.array([num_branches]), iterations, rng)
        of_points = branches.cells.best(points.x, points.weights, np.zeros(len(points), np.int32))
        for branch in np.flatnonzero(np.bincount(of_points, minlength=num_branches) == 0):
            of_points[rng.integers(len(points))] = branch
        shares = _shares(np.bincount(of_points, minlength=num_branches), num_clusters)
        return cls(branches, lloyd(points, of_points, shares, iterations, rng)[0])

    @property
    def nbytes(self) -> int:
        return self.branches.nbytes + self.clusters.nbytes

    @property
    def native(self) -> tuple[Any, Any]:
        return self.branches.cells.native, self.clusters.cells.native

    def assign(self, points: Points) -> Int32:
        """(n,): the nearest cluster of the nearest branches. Cost a point: B + 2 C / B inner products, or so."""
        chosen = np.empty(len(points), np.int32)
        core.best_in_tree(*self.native, points.x, points.weights, NEAREST_BRANCHES, chosen)
        return chosen

    def state(self) -> Arrays:
        arrays = (self.branches.vectors, self.branches.offsets, self.clusters.vectors, self.clusters.offsets)
        return dict(zip(self.state_names, (a.copy() for a in (*arrays, self.clusters.groups)), strict=True))

    @classmethod
    def loaded(cls, op: str, arrays: Mapping[str, Any], shape: tuple[int, int, int]) -> CentroidTree:
        """The tree of (branches, clusters, dim) that gave `state()`. Raises InputError: arrays of no tree."""
        num_branches, num_clusters, dim = shape
        found = []
        for name, rows in (("branch", num_branches), ("centroid", num_clusters)):
            vectors = "branches" if name == "branch" else "centroids"
            found.append(state_array(op, arrays, vectors, np.float32, (rows, dim)).copy())
            offsets = state_array(op, arrays, f"{name}_offsets", np.float32, (rows, core.ROUTE_OFFSETS))
            found.append(offsets.copy())
            for part, array in ((vectors, found[-2]), (f"{name}_offsets", found[-1])):
                checks.finite(op, part, array)
        groups = state_array(op, arrays, "branch_of", np.int32, (num_clusters,)).copy()
        if not np.array_equal(np.unique(groups), np.arange(num_branches)) or (np.diff(groups) < 0).any():
            checks.fail(op, "branch_of must ascend through all branches", "something else")
        return cls(
            Centroids(found[0], found[1], np.zeros(num_branches, np.int32), 1),
            Centroids(found[2], found[3], groups, num_branches),
        )


def _grouped(members: Int32, groups: int) -> list[Int64]:
    """The rows of each group, ascending."""
    order = np.argsort(members, kind="stable")
    return np.split(order, np.cumsum(np.bincount(members, minlength=groups))[:-1])


def _shares(sizes: Int64, total: int) -> Int64:
    """How many of `total` clusters each branch gets: in proportion to its points, at least one, at most all."""
    shares = np.clip(np.floor(sizes * (total / sizes.sum())).astype(np.int64), 1, sizes)
    while (missing := int(total - shares.sum())) != 0:
        able = shares < sizes if missing > 0 else shares > 1
        order = np.argsort(-sizes / shares if missing > 0 else sizes / shares, kind="stable")
        shares[order[able[order]][: abs(missing)]] += np.sign(missing)
    return shares
