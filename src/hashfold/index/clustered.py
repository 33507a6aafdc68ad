"""An index learned from the data: clusters of weight rows, of which a query visits the best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from hashfold import checks
from hashfold.index.base import (
    Arrays,
    Candidates,
    NeuronIndex,
    Occupancy,
    Queries,
    dense_blocks,
    densify,
    state_array,
)
from hashfold.index.kmeans import assign, kmeans
from hashfold.index.lift import LIFTS, Lift, LiftKind
from hashfold.index.precision import ScanRows
from hashfold.index.tables import BucketTables
from hashfold.index.topk import listed, probed, top_k
from hashfold.index.virtual import Vectors, spans
from hashfold.sparse import Float32, Int32


class ClusteredIndex(NeuronIndex):
    """k-means over the weight rows; a query scores the items of the `probes` clusters it fits best.

    Args:
        num_items, dim: shape of the weight.
        num_clusters: None for about sqrt(num_items), where scoring centroids and a few lists cost alike.
        probes: clusters visited; None for a sixteenth of them.
        seed: of the sample and the first centroids.
        lift: "norm" (items of one norm, so that the best cluster is the nearest), "bias" or "none"; see
            `index.lift`.
        iterations: of k-means, on `sample_per_cluster` * num_clusters items.
        scored: rank candidates by inner product with the weights as they are now (the score); else they
            come cluster by cluster, with the score of the centroid.
        precision: of the rows that are scored, "fp32" or "int8": see `index.precision.ScanRows`.

    `build` learns the clusters, `refill` and `update` keep them. Cost of a query row: num_clusters +
    probes * num_items / num_clusters inner products. Inverted lists with several probes: Jegou et al.,
    "Product quantization for nearest neighbor search", PAMI 2011.
    """

    name: ClassVar[str] = "clustered"

    def __init__(
        self,
        num_items: int,
        dim: int,
        *,
        num_clusters: int | None = None,
        probes: int | None = None,
        seed: int = 0,
        lift: LiftKind = "norm",
        iterations: int = 10,
        sample_per_cluster: int = 64,
        scored: bool = True,
        precision: str = "fp32",
    ) -> None:
        super().__init__(num_items, dim)
        op = self._op()
        clusters = round(math.sqrt(num_items)) if num_clusters is None else num_clusters
        self.num_clusters = min(num_items, checks.integer(op, "num_clusters", clusters, low=1))
        visited = math.ceil(self.num_clusters / 16) if probes is None else probes
        self.probes = min(self.num_clusters, checks.integer(op, "probes", visited, low=1))
        self.seed = checks.integer(op, "seed", seed, low=0)
        self.iterations = checks.integer(op, "iterations", iterations, low=0)
        self.sample_per_cluster = checks.integer(op, "sample_per_cluster", sample_per_cluster, low=1)
        self.scored = bool(scored)
        checks.one_of(op, "lift", lift, LIFTS)
        self._rows = ScanRows(op, precision)
        self.state_names = ("centroids", "lift", *BucketTables.state_names, *self._rows.state_names)
        self._lift = Lift(lift, bias=False, largest=0.0)
        self._centroids = np.zeros((self.num_clusters, dim), np.float32)
        self._lists = BucketTables(num_items, 1, self.num_clusters, seed=seed)

    @property
    def centroids(self) -> Float32:
        """(num_clusters, dim + lifted coordinates), as the last `build` learned them."""
        return self._centroids

    def occupancy(self) -> Occupancy:
        return self._lists.occupancy()

    def config(self) -> dict[str, Any]:
        names = (
            "num_items",
            "dim",
            "num_clusters",
            "probes",
            "seed",
            "iterations",
            "sample_per_cluster",
            "scored",
        )
        return (
            {"name": self.name}
            | {n: getattr(self, n) for n in names}
            | {
                "lift": self._lift.kind,
                "scored": self.scored,
                "precision": self._rows.precision,
            }
        )

    def _build(self, vectors: Vectors, bias: Float32 | None) -> None:
        self._lift = Lift.fit(self._lift.kind, vectors, bias)
        rng = np.random.default_rng(self.seed)
        count = min(self.num_items, self.sample_per_cluster * self.num_clusters)
        sample = np.sort(rng.choice(self.num_items, count, replace=False))
        points = self._lift.items(vectors[sample], None if bias is None else bias[sample])
        self._centroids = kmeans(points, self.num_clusters, self.iterations, rng)
        self._refill(vectors, bias)

    def _refill(self, vectors: Vectors, bias: Float32 | None) -> None:
        self._rows.build(vectors)
        self._lists.build(self._assign(vectors, bias))

    def _update(self, ids: Int32, vectors: Float32, bias: Float32 | None) -> None:
        self._rows.update(ids, vectors)
        self._lists.update(ids, self._assign(vectors, bias))

    def _assign(self, vectors: Vectors, bias: Float32 | None) -> Int32:
        """(n, 1): the cluster of each row, in blocks, so that the lifted copy stays small."""
        clusters = np.empty((len(vectors), 1), np.int32)
        for part in spans(vectors):
            items = self._lift.items(vectors[part], None if bias is None else bias[part])
            clusters[part, 0] = assign(items, self._centroids)
        return clusters

    def _state(self) -> Arrays:
        learned = {"centroids": self._centroids.copy()} | self._lift.state()
        return learned | self._lists.state() | self._rows.state()

    def _load_state(self, arrays: Mapping[str, Any], with_bias: bool) -> None:
        op = f"{self._op()}.load_state"
        lift = self._lift.loaded(op, arrays, with_bias)
        shape = (self.num_clusters, self.dim + lift.extra)
        centroids = state_array(op, arrays, "centroids", np.float32, shape)
        checks.finite(op, "centroids", centroids)
        rows = self._rows.loaded(op, arrays, (self.num_items, self.dim))
        self._lists.load_state({name: arrays[name] for name in BucketTables.state_names})
        self._lift, self._centroids, self._rows = lift, centroids.copy(), rows

    def _query(self, x: Queries, budget: int) -> Candidates:
        parts = [self._query_dense(densify(x, *span), budget) for span in dense_blocks(x)]
        return parts[0] if len(parts) == 1 else Candidates.concatenate(parts, self.num_items)

    def _query_dense(self, x: Float32, budget: int) -> Candidates:
        vectors, bias = self._built("query")
        lifted = self._lift.queries(x)
        assert isinstance(lifted, np.ndarray)
        probes, list_scores = top_k(lifted, self._centroids, None, self.probes)
        lists, sizes = self._lists.native, self._lists.sizes()[0][0]
        if self.scored:
            return probed(lists, probes, sizes, x, self._rows.rows(vectors), bias, budget)
        return listed(lists, probes, sizes, list_scores, self.num_items, budget)
