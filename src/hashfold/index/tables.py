"""Hash tables over items, given the bucket of every item in every table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hashfold import checks
from hashfold.index.base import Arrays, Candidates, Occupancy, state_array
from hashfold.kernels.native import core
from hashfold.sparse import Float32, Int32, Int64

Policy = Literal["reservoir", "fifo"]
POLICIES = {"reservoir": 0, "fifo": 1}
MAX_TABLES = 4095  # collisions are counted in 12 bits


class BucketTables:
    """`num_tables` tables of `num_buckets` buckets, each holding at most `bucket_capacity` items.

    Args:
        num_items: items are 0 to num_items - 1; each lies in one bucket of every table.
        num_tables, num_buckets: L tables of this many buckets.
        bucket_capacity: items a bucket holds; None for any number.
        policy: what a full bucket keeps: "reservoir" a uniform sample of all that fell in, drawn from
            `seed`, "fifo" the ones inserted last. What a full bucket refused does not come back when it
            empties, until the next `build`.
        seed: of the samples, and of the tie-break between items with equally many collisions.

    Memory: num_tables * (8 * num_items + 16 * num_buckets) bytes, and 4 * num_items a thread that queries.
    """

    state_names = ("buckets", "items", "counts")  # the arrays of `state()`

    def __init__(
        self,
        num_items: int,
        num_tables: int,
        num_buckets: int,
        bucket_capacity: int | None = None,
        policy: Policy = "reservoir",
        seed: int = 0,
    ) -> None:
        op = "hash tables"
        self.num_items = checks.integer(op, "num_items", num_items, low=1, high=2**31 - 1)
        self.num_tables = checks.integer(op, "num_tables", num_tables, low=1, high=MAX_TABLES)
        self.num_buckets = checks.integer(op, "num_buckets", num_buckets, low=1, high=2**31 - 1)
        capacity = 0
        if bucket_capacity is not None:
            capacity = checks.integer(op, "bucket_capacity", bucket_capacity, low=1, high=2**31 - 1)
        policy_code = POLICIES[checks.one_of(op, "policy", policy, POLICIES)]
        seed = checks.integer(op, "seed", seed, low=0) & (2**64 - 1)
        self.native = core.HashTables(num_items, num_tables, num_buckets, capacity, policy_code, seed)
        self._filled = False

    def build(self, buckets: npt.ArrayLike) -> None:
        """Fills the tables. buckets: int32 (num_items, num_tables), each in [0, num_buckets).

        Cost: O(num_items * num_tables), in parallel over tables.
        """
        self.native.build(self._checked("build", buckets, self.num_items))
        self._filled = True

    def update(self, ids: npt.ArrayLike, buckets: npt.ArrayLike) -> None:
        """Moves items to new buckets. ids: int32 (n,), distinct; buckets: int32 (n, num_tables)."""
        self._require_filled("update")
        rows = checks.array("hash tables.update", "ids", ids, np.int32, (None,))
        checks.ids_in_range("hash tables.update", "ids", rows, self.num_items)
        self.native.update(rows, self._checked("update", buckets, len(rows)))

    def query(self, buckets: npt.ArrayLike, budget: int) -> Candidates:
        """The items that share most buckets with each row; a score is the number of shared buckets.

        buckets: int32 (rows, num_tables). Ties are broken by a hash of the item and of the row's buckets,
        so that no item wins them everywhere. Cost a row: the items in its buckets.
        """
        self._require_filled("query")
        rows = self._checked("query", buckets, None)
        entries = np.empty(len(rows), np.int64)
        self.native.entries(rows, entries)
        return gather(
            self.num_items, np.minimum(entries, budget), lambda *out: self.native.query(rows, budget, *out)
        )

    def state(self) -> Arrays:
        """All that queries and updates depend on, 8 bytes an item and table at most.

        buckets: int32 (num_tables, num_items), where each item fell. items: int32, what the buckets hold,
        one behind the other in their order, table after table; counts: int64 (num_tables,) of them.
        """
        self._require_filled("state")
        counts = self.sizes()[0].sum(axis=1, dtype=np.int64)
        buckets = np.empty((self.num_tables, self.num_items), np.int32)
        items = np.empty(counts.sum(), np.int32)
        self.native.save(buckets, items)
        return {"buckets": buckets, "items": items, "counts": counts}

    def load_state(self, arrays: Mapping[str, Any]) -> None:
        """Goes on as the tables of these settings that gave `state()`. Raises InputError, nothing changed."""
        op = "hash tables.load_state"
        buckets = state_array(op, arrays, "buckets", np.int32, (self.num_tables, self.num_items))
        items = state_array(op, arrays, "items", np.int32, (None,))
        counts = state_array(op, arrays, "counts", np.int64, (self.num_tables,))
        if not self.native.load(buckets, items, counts):
            remedy = "load the state of an index with the same settings"
            checks.fail(op, "buckets, items and counts must fit these tables", "a contradiction", remedy)
        self._filled = True

    def items(self, table: int, bucket: int) -> list[int]:
        """What one bucket holds."""
        return list(self.native.items(table, bucket))

    def sizes(self) -> tuple[Int32, Int32]:
        """(num_tables, num_buckets) twice: items that a bucket holds, and that fell into it."""
        shape = (self.num_tables, self.num_buckets)
        held, fallen = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        if self._filled:
            self.native.occupancy(held, fallen)
        return held, fallen

    def occupancy(self) -> Occupancy:
        return occupancy_of(*self.sizes())

    def _require_filled(self, method: str) -> None:
        if not self._filled:
            checks.fail(f"hash tables.{method}", "tables must be filled", "empty tables", "call build first")

    def _checked(self, method: str, buckets: npt.ArrayLike, rows: int | None) -> Int32:
        op = f"hash tables.{method}"
        checked: Int32 = checks.array(op, "buckets", buckets, np.int32, (rows, self.num_tables))
        checks.ids_in_range(op, "buckets", checked, self.num_buckets)
        return checked


def occupancy_of(held: Int32, fallen: Int32) -> Occupancy:
    """Statistics of (tables, buckets) counts."""
    occupied = int(np.count_nonzero(held))
    total, entries = int(held.sum(dtype=np.int64)), int(fallen.sum(dtype=np.int64))
    return Occupancy(
        tables=held.shape[0],
        buckets=held.size,
        empty=held.size - occupied,
        mean=total / max(1, occupied),
        largest=int(held.max(initial=0)),
        dropped_fraction=(entries - total) / max(1, entries),
    )


def gather(num_items: int, room: Int64, kernel: Callable[[Int64, Int32, Float32, Int64], Any]) -> Candidates:
    """Candidates written by `kernel(indptr, ids, scores, found)` into `room[i]` places for row i."""
    indptr = np.zeros(len(room) + 1, np.int64)
    np.cumsum(room, out=indptr[1:])
    ids, scores = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.float32)
    found = np.empty(len(room), np.int64)
    kernel(indptr, ids, scores, found)
    return Candidates(indptr, ids[: indptr[-1]], scores[: indptr[-1]], num_items, found)
