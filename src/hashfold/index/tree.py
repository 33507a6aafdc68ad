"""An index learned from the data, for the least time a query: a tree of clusters over rows in 8 bits."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from hashfold import checks
from hashfold.index.base import (
    Arrays,
    Candidates,
    NeuronIndex,
    Occupancy,
    Queries,
    dense_blocks,
    densify,
)
from hashfold.index.cells import Cells
from hashfold.index.centroids import CentroidTree, Points
from hashfold.index.lift import LIFTS, Lift, LiftKind
from hashfold.index.report import hit_rate
from hashfold.index.tables import occupancy_of
from hashfold.index.topk import top_k
from hashfold.index.virtual import Vectors, VirtualRows
from hashfold.kernels.native import core
from hashfold.kernels.quantized import MOST_COLUMNS
from hashfold.sparse import CsrBatch, Float32, Int32

LEAST_FOUND = 512  # items of the clusters visited, or so, where nothing else is asked for


class TreeIndex(NeuronIndex):
    """Two levels of k-means; a query follows the best branches and scores the items of the best clusters in them.

    The items of a cluster lie together in 8 bits. Those that may be among the best, given what rounding does, are
    scored again with the weights as they are now: scores are <x, w_i> + b_i in 32 bits, and what is found is the
    best of the clusters visited.

    Args:
        num_items, dim: shape of the weight.
        num_clusters: None for about 6 sqrt(num_items), of 8 items or more.
        num_branches: groups of clusters; None for about 2 sqrt(num_clusters).
        branches: followed by a query; None for a third of them.
        probes: clusters visited; None for a fortieth of them, or those of 512 items, and three. `tune` finds how
            many are enough.
        seed: of the sample and the first centroids.
        lift: "norm" (items of one norm, so that the best cluster is the nearest), "bias" or "none"; see
            `index.lift`.
        iterations: of k-means, on `sample_per_cluster` * num_clusters items.

    `build` learns the tree, `refill` and `update` keep it; the copy in 8 bits follows the weights through all
    three. Cost of a query row: num_branches + branches / num_branches * num_clusters + probes / num_clusters *
    num_items inner products. Memory: dim + 28 bytes an item, and half a block of 16 items a cluster. Jegou et al.,
    "Product quantization for nearest neighbor search", PAMI 2011 (inverted lists); Guo et al., "Accelerating
    large-scale inference with anisotropic vector quantization", ICML 2020 (cells of codes, then exact scores).
    """

    name: ClassVar[str] = "tree"
    takes_virtual: ClassVar[bool] = False
    state_names = (*CentroidTree.state_names, "lift", *Cells.state_names)

    def __init__(
        self,
        num_items: int,
        dim: int,
        *,
        num_clusters: int | None = None,
        num_branches: int | None = None,
        branches: int | None = None,
        probes: int | None = None,
        seed: int = 0,
        lift: LiftKind = "norm",
        iterations: int = 8,
        sample_per_cluster: int = 32,
    ) -> None:
        super().__init__(num_items, dim)
        op = self._op()
        checks.integer(op, "dim", dim, high=MOST_COLUMNS)

        def setting(name: str, value: int | None, default: float, high: int) -> int:
            return min(high, checks.integer(op, name, math.ceil(default) if value is None else value, low=1))

        clusters = min(6 * math.sqrt(num_items), num_items / 8)
        self.num_clusters = setting("num_clusters", num_clusters, clusters, num_items)
        self.num_branches = setting(
            "num_branches", num_branches, 2 * math.sqrt(self.num_clusters), self.num_clusters
        )
        self.branches = setting("branches", branches, self.num_branches / 3, self.num_branches)
        visited = 3 + self.num_clusters * max(1 / 40, LEAST_FOUND / num_items)
        self.probes = setting("probes", probes, visited, self.num_clusters)
        self.seed = checks.integer(op, "seed", seed, low=0)
        self.iterations = checks.integer(op, "iterations", iterations, low=0)
        self.sample_per_cluster = checks.integer(op, "sample_per_cluster", sample_per_cluster, low=1)
        checks.one_of(op, "lift", lift, LIFTS)
        self._lift = Lift(lift, bias=False, largest=0.0)
        self._items: Cells | None = None
        self._tree: CentroidTree | None = None
        self._most: tuple[int, int] | None = None  # (probes, items that so many clusters hold at most)

    @property
    def nbytes(self) -> int:
        """Memory of the index beside the weights."""
        return sum(part.nbytes for part in (self._items, self._tree) if part is not None)

    def tune(self, x: npt.ArrayLike, recall: float = 0.95, k: int = 10) -> float:
        """Sets `probes` to the fewest, and raises `branches` where it must, that find so much of the best k.

        Args:
            x: (rows, dim) float32, at least one row, like the queries to come: some hundred are enough.
            recall: share of the best k items of all that shall be among the best k found, mean over rows.

        Returns the share found. Cost: a scan of all items, and about log2(num_clusters) queries, for each row.
        """
        op = f"{self._op()}.tune"
        vectors, bias = self._built("tune")
        recall = checks.number(op, "recall", recall, above=0.0, high=1.0)
        k = min(checks.integer(op, "k", k, low=1), self.num_items)
        rows: Float32 = checks.array(op, "x", x, np.float32, (None, self.dim))
        if not len(rows):
            checks.fail(op, "x must have rows", "none")
        best = top_k(rows, vectors, bias, k)[0]

        def reached(probes: int) -> float:
            self.probes = probes
            return hit_rate(self.query(rows, k), best)

        while reached(self.num_clusters) < recall and self.branches < self.num_branches:
            self.branches = min(self.num_branches, 2 * self.branches)
        fewest = 1 + bisect.bisect_left(range(1, self.num_clusters), recall, key=reached)
        return reached(fewest)

    def occupancy(self) -> Occupancy:
        held = np.zeros(self.num_clusters, np.int32) if self._items is None else self._items.sizes()
        return occupancy_of(held[None], held[None])

    def config(self) -> dict[str, Any]:
        names = ("num_items", "dim", "num_clusters", "num_branches", "branches", "probes", "seed", "iterations")
        settings = {name: getattr(self, name) for name in (*names, "sample_per_cluster")}
        return {"name": self.name, "lift": self._lift.kind, **settings}

    def _checked(
        self, op: str, vectors: npt.ArrayLike | VirtualRows, bias: npt.ArrayLike | None
    ) -> tuple[Float32, Float32 | None]:
        if isinstance(vectors, VirtualRows):
            checks.fail(op, "a tree keeps a copy of every row", "virtual rows", "use the clustered index")
        rows, offsets = super()._checked(op, vectors, bias)
        return _array(rows), offsets

    def _build(self, vectors: Vectors, bias: Float32 | None) -> None:
        vectors = _array(vectors)
        self._lift = Lift.fit(self._lift.kind, vectors, bias)
        rng = np.random.default_rng(self.seed)
        count = min(self.num_items, self.sample_per_cluster * self.num_clusters)
        sample = np.sort(rng.choice(self.num_items, count, replace=False))
        points = self._points(vectors[sample], None if bias is None else bias[sample])
        self._tree = CentroidTree.grow(points, self.num_branches, self.num_clusters, self.iterations, rng)
        self._items = Cells(self.num_items, self.num_clusters, self.dim, num_offsets=1)
        self._refill(vectors, bias)

    def _refill(self, vectors: Vectors, bias: Float32 | None) -> None:
        (tree, items), vectors = self._parts(), _array(vectors)
        items.build(vectors, _column(vectors, bias), tree.assign(self._points(vectors, bias)))
        self._most = None

    def _update(self, ids: Int32, vectors: Float32, bias: Float32 | None) -> None:
        tree, items = self._parts()
        items.update(vectors, _column(vectors, bias), ids, tree.assign(self._points(vectors, bias)))
        self._most = None

    def _points(self, vectors: Float32, bias: Float32 | None) -> Points:
        """Vectors with the coordinates that the lift appends."""
        lifted = self._lift.last(vectors, bias) if self._lift.kind == "norm" else None
        return Points(vectors, bias if self._lift.bias else None, lifted)

    def _parts(self) -> tuple[CentroidTree, Cells]:
        assert self._tree is not None
        assert self._items is not None
        return self._tree, self._items

    def _query(self, x: Queries, budget: int) -> Candidates:
        if not isinstance(x, CsrBatch):
            return self._query_dense(x, budget)
        parts = [self._query_dense(densify(x, *span), budget) for span in dense_blocks(x)]
        return parts[0] if len(parts) == 1 else Candidates.concatenate(parts, self.num_items)

    def _query_dense(self, x: Float32, budget: int) -> Candidates:
        (vectors, bias), (tree, items) = self._built("query"), self._parts()
        room, rows = min(budget, self._most_found()), len(x)
        indptr = np.arange(0, room * rows + 1, room)
        ids, scores = np.empty(room * rows, np.int32), np.empty(room * rows, np.float32)
        found = np.empty(rows, np.int64)
        settings = (self.branches, self.probes, budget)
        core.search_cells(
            *tree.native, items.native, x, _array(vectors), bias, *settings, indptr, ids, scores, found
        )
        count = indptr[-1]
        return Candidates(indptr, ids[:count], scores[:count], self.num_items, found)

    def _most_found(self) -> int:
        """Items that a query can meet."""
        if self._most is None or self._most[0] != self.probes:
            sizes = np.sort(self._parts()[1].sizes())
            self._most = (self.probes, max(1, int(sizes[-self.probes :].sum())))
        return self._most[1]

    def _state(self) -> Arrays:
        tree, items = self._parts()
        return tree.state() | self._lift.state() | items.state()

    def _load_state(self, arrays: Mapping[str, Any], with_bias: bool) -> None:
        op = f"{self._op()}.load_state"
        lift = self._lift.loaded(op, arrays, with_bias)
        tree = CentroidTree.loaded(op, arrays, (self.num_branches, self.num_clusters, self.dim))
        items = Cells(self.num_items, self.num_clusters, self.dim, num_offsets=1)
        items.load_state(op, arrays)
        self._lift, self._tree, self._items, self._most = lift, tree, items, None


def _array(vectors: Vectors) -> Float32:
    assert isinstance(vectors, np.ndarray)
    return vectors


def _column(vectors: Float32, bias: Float32 | None) -> Float32:
    """The bias as the items' only offset; zeros for none."""
    return np.zeros((len(vectors), 1), np.float32) if bias is None else bias[:, None]
