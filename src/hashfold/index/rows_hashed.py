"""Rows found by hashing: those that share buckets of hash tables with the query, scored exactly."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from hashfold import checks
from hashfold.hashing import make_family
from hashfold.index.base import Candidates
from hashfold.index.rows import StoredRowIndex, effort
from hashfold.sparse import CsrBatch, Int32

MAX_BUCKETS = 2**28  # of all tables together
PART_ROWS = 65_536  # hashed at a time


class HashedRowIndex(StoredRowIndex):
    """num_tables hash tables; the `pool` rows that share most buckets with the query are scored exactly.

    A bucket of n of all N rows counts log2(1 + N / n), since it says the more the fewer rows are in it.
    The tables hash the rows as they are stored, so that an index loaded from its state has the same ones.

    Args:
        num_cols: width of the rows.
        num_tables, hashes_per_table: L tables, K hashes concatenated to a bucket.
        pool: rows scored for a query row (at least k).
        budget: rows met in buckets for a query row, at most (one met twice counts twice): the fullest
            buckets are left out.
        seed: of the hashes.
        family_options: for the family of hashes, see `hashing.FAMILIES`.

    Cost of a query row: K * L hashes, the rows in L buckets and `pool` inner products. Memory: 3 bytes an
    entry for the stored rows, 2 a table for each row.
    """

    family: ClassVar[str]

    def __init__(
        self,
        num_cols: int,
        num_tables: int,
        hashes_per_table: int,
        pool: int,
        budget: int,
        seed: int,
        family_options: dict[str, Any],
    ) -> None:
        op = self._op()
        checks.integer(op, "num_cols", num_cols, low=1)
        self._pool = checks.integer(op, "pool", pool, low=1)
        self._budget = checks.integer(op, "budget", budget, low=1)
        self._hashes = make_family(self.family, num_cols, num_tables, hashes_per_table, seed, **family_options)
        keys = num_tables * self._hashes.num_buckets
        checks.integer(op, "buckets of all tables", keys, high=MAX_BUCKETS)
        super().__init__(num_cols, keys)

    def _list(self, first: int) -> None:
        # Hashed in parts, so that the buckets of a large set are never in memory at once.
        for at in range(first, len(self), PART_ROWS):
            self._native.list_keys(self._keys(self.rows(at, min(len(self), at + PART_ROWS))))

    def _query(self, x: CsrBatch, k: int, exclude: Int32 | None, quick: bool) -> Candidates:
        keys = self._keys(x)
        indptr = np.arange(len(x) + 1, dtype=np.int64) * keys.shape[1]
        probes = CsrBatch(indptr, keys.reshape(-1), np.ones(keys.size, np.float32), self._hashes.num_buckets)
        return self._search(x, probes, k, exclude, *effort(k, self._pool, self._budget, quick))

    def _keys(self, x: CsrBatch) -> Int32:
        """(rows, num_tables): buckets, numbered through all tables."""
        tables = np.arange(self._hashes.num_tables, dtype=np.int32) * np.int32(self._hashes.num_buckets)
        return self._hashes.buckets(x) + tables

    def _settings(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "num_cols": self.num_cols,
            "num_tables": self._hashes.num_tables,
            "hashes_per_table": self._hashes.hashes_per_table,
            "pool": self._pool,
            "budget": self._budget,
            "seed": self._hashes.seed,
        }


class MinHashRowIndex(HashedRowIndex):
    """Tables of consistent weighted samples: a bucket is a sampled column and its rough weight.

    Cosines of text rows are low (.15 to .4 for the nearest), so one hash a table and many tables. bucket_bits:
    buckets of a table, 2^bucket_bits. Ioffe, "Improved consistent sampling", ICDM 2010.
    """

    name: ClassVar[str] = "minhash"
    family: ClassVar[str] = "minhash"

    def __init__(
        self,
        num_cols: int,
        *,
        num_tables: int = 128,
        hashes_per_table: int = 1,
        bucket_bits: int = 14,
        pool: int = 400,
        budget: int = 80_000,
        seed: int = 0,
    ) -> None:
        options = {"bucket_bits": bucket_bits}
        super().__init__(num_cols, num_tables, hashes_per_table, pool, budget, seed, options)

    def config(self) -> dict[str, Any]:
        return self._settings() | {"bucket_bits": self._hashes.bucket_bits}


class SimHashRowIndex(HashedRowIndex):
    """Tables of the signs of sparse random projections, nonzero_fraction of whose entries are not 0.

    Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002.
    """

    name: ClassVar[str] = "simhash"
    family: ClassVar[str] = "sparse_simhash"

    def __init__(
        self,
        num_cols: int,
        *,
        num_tables: int = 64,
        hashes_per_table: int = 8,
        nonzero_fraction: float = 1 / 3,
        pool: int = 400,
        budget: int = 80_000,
        seed: int = 0,
    ) -> None:
        self._nonzero_fraction = nonzero_fraction
        options = {"nonzero_fraction": nonzero_fraction}
        super().__init__(num_cols, num_tables, hashes_per_table, pool, budget, seed, options)

    def config(self) -> dict[str, Any]:
        return self._settings() | {"nonzero_fraction": self._nonzero_fraction}
