"""Locality-sensitive hashing: items that share buckets with the query."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from hashfold import checks
from hashfold.hashing import HashFamily, make_family
from hashfold.index.base import Arrays, Candidates, NeuronIndex, Occupancy, Queries
from hashfold.index.lift import LIFTS, Lift, LiftKind
from hashfold.index.tables import BucketTables, Policy, occupancy_of
from hashfold.index.topk import rescored
from hashfold.index.virtual import Vectors, spans
from hashfold.sparse import Float32, Int32

MIN_TABLE_BITS = 10


class LshIndex(NeuronIndex):
    """L hash tables over the weight rows; a query's candidates are the items in its L buckets.

    They are ranked by how many of the L buckets they share with the query (the score), or, with
    `rerank`, the `pool` * budget best of them by inner product with the weights as they are now.

    Args:
        num_items, dim: shape of the weight.
        family: a name of `hashing.FAMILIES`; `family_options` go to it.
        num_tables, hashes_per_table: L tables, K hashes concatenated to a bucket.
        bucket_capacity, policy: see BucketTables; None for any number of items.
        seed: of the hashes, of the samples in full buckets and of ties.
        lift: "none" hashes the weights alone (as SLIDE does), "bias" and "norm" see `index.lift`.
        rerank, pool: score `pool` times the budget of candidates exactly and keep the best.

    Buckets beyond 2^max(10, floor(log2 num_items)) a table are folded together by another hash, which
    costs collisions by chance but keeps the tables in proportion to the items.

    Chen et al., "SLIDE", MLSys 2020. Cost of a query row: K * L hashes and the items in L buckets.
    """

    name: ClassVar[str] = "lsh"
    state_names = ("lift", *BucketTables.state_names)

    def __init__(
        self,
        num_items: int,
        dim: int,
        *,
        family: str = "simhash",
        num_tables: int = 32,
        hashes_per_table: int = 9,
        bucket_capacity: int | None = None,
        policy: Policy = "reservoir",
        seed: int = 0,
        lift: LiftKind = "none",
        rerank: bool = False,
        pool: int = 4,
        family_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(num_items, dim)
        checks.one_of(self._op(), "lift", lift, LIFTS)
        self._settings: dict[str, Any] = {
            "family": family,
            "num_tables": num_tables,
            "hashes_per_table": hashes_per_table,
            "bucket_capacity": bucket_capacity,
            "policy": policy,
            "seed": seed,
            "lift": lift,
            "rerank": bool(rerank),
            "pool": checks.integer(self._op(), "pool", pool, low=1),
            "family_options": dict(family_options or {}),
        }
        self._lift = Lift(lift, bias=False, largest=0.0)
        self._hashes = self._make_family(dim + self._lift.extra)
        self._fold_bits = max(MIN_TABLE_BITS, num_items.bit_length() - 1)
        self._tables = BucketTables(
            num_items,
            num_tables,
            min(self._hashes.num_buckets, 1 << self._fold_bits),
            bucket_capacity,
            policy,
            seed,
        )

    @property
    def family(self) -> HashFamily:
        return self._hashes

    def occupancy(self) -> Occupancy:
        return occupancy_of(*self._tables.sizes())

    def config(self) -> dict[str, Any]:
        return {"name": self.name, "num_items": self.num_items, "dim": self.dim} | self._settings

    def _build(self, vectors: Vectors, bias: Float32 | None) -> None:
        self._set_lift(Lift.fit(self._lift.kind, vectors, bias))
        buckets = np.empty((self.num_items, self._hashes.num_tables), np.int32)
        for part in spans(vectors):
            buckets[part] = self._buckets(self._lift.items(vectors[part], None if bias is None else bias[part]))
        self._tables.build(buckets)

    def _update(self, ids: Int32, vectors: Float32, bias: Float32 | None) -> None:
        self._tables.update(ids, self._buckets(self._lift.items(vectors, bias)))

    def _set_lift(self, lift: Lift) -> None:
        """From now on weights and queries are lifted so, and hashed at that width."""
        self._lift = lift
        if self._hashes.dim != self.dim + lift.extra:
            self._hashes = self._make_family(self.dim + lift.extra)

    def _state(self) -> Arrays:
        return self._lift.state() | self._tables.state()

    def _load_state(self, arrays: Mapping[str, Any], with_bias: bool) -> None:
        lift = self._lift.loaded(f"{self._op()}.load_state", arrays, with_bias)
        self._tables.load_state(arrays)
        self._set_lift(lift)

    def _query(self, x: Queries, budget: int) -> Candidates:
        buckets = self._buckets(self._lift.queries(x))
        if not self._settings["rerank"]:
            return self._tables.query(buckets, budget)
        vectors, bias = self._built("query")
        pool = self._tables.query(buckets, min(self.num_items, budget * self._settings["pool"]))
        return rescored(pool, x, vectors, bias, budget)

    def _buckets(self, x: Queries) -> Int32:
        """Bucket ids in this index's tables."""
        buckets = self._hashes.buckets(x)
        if self._hashes.num_buckets <= self._tables.num_buckets:
            return buckets
        mixed = buckets.view(np.uint32) * np.uint32(0x9E3779B1)  # Fibonacci hashing, Knuth 6.4
        return np.asarray(mixed >> np.uint32(32 - self._fold_bits), np.int32)

    def _make_family(self, dim: int) -> HashFamily:
        s = self._settings
        return make_family(
            s["family"], dim, s["num_tables"], s["hashes_per_table"], s["seed"], **s["family_options"]
        )
