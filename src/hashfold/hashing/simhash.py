"""SimHash: the signs of random projections, dense and very sparse ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from hashfold import checks
from hashfold.hashing.base import HashFamily
from hashfold.hashing.randomness import mix_at, stream, unit
from hashfold.kernels.native import core
from hashfold.sparse import Float32


@dataclass(frozen=True)
class SimHash(HashFamily):
    """h(x) = [<x, r> > 0], r standard normal; P[h(x) = h(y)] = 1 - angle(x, y) / pi.

    Scaling x by a positive number changes nothing. Buckets are the bits of a table, 2^hashes_per_table
    of them. Cost: num_hashes multiply-adds a nonzero (dense: a feature); memory dim * num_hashes * 4
    bytes. Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002.
    """

    name: ClassVar[str] = "simhash"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_bucket_bits("use fewer hashes_per_table")

    @property
    def code_bits(self) -> int:
        return 1

    @cached_property
    def projection(self) -> Float32:
        """The normals r, (dim, num_hashes)."""
        out = np.empty((self.dim, self.num_hashes), np.float32)
        core.gaussian_projection(self.seed, out)
        return out

    def _hash(self, rows: Any, output: Any) -> None:
        core.simhash(rows, self.projection, output)


@dataclass(frozen=True)
class SparseSimHash(HashFamily):
    """SimHash whose r is +1 or -1 with probability nonzero_fraction / 2 each, else 0.

    P[h(x) = h(y)] tends to 1 - angle(x, y) / pi as more nonzeros of x and y meet nonzeros of r. A row of
    which r sees nothing gets 0, so the fraction should leave several nonzeros of a row: 1/3 (Achlioptas,
    "Database-friendly random projections", 2003) is safe, 1/sqrt(dim) suits dense rows (Li, Hastie,
    Church, "Very sparse random projections", KDD 2006). Cost: nonzero_fraction * num_hashes additions a
    nonzero; memory nonzero_fraction * dim * num_hashes * 8 bytes.
    """

    name: ClassVar[str] = "sparse_simhash"

    nonzero_fraction: float = 1 / 3

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.number(self.name, "nonzero_fraction", self.nonzero_fraction, above=0)
        checks.number(self.name, "nonzero_fraction", self.nonzero_fraction, high=1)
        self._check_bucket_bits("use fewer hashes_per_table")

    @property
    def code_bits(self) -> int:
        return 1

    @cached_property
    def projection(self) -> sp.csr_array:
        """The signs r, (dim, num_hashes) with float32 entries -1 and +1."""
        rows_at_once = max(1, 2**20 // self.num_hashes)
        blocks = [
            self._projection_rows(np.arange(first, min(first + rows_at_once, self.dim)))
            for first in range(0, self.dim, rows_at_once)
        ]
        return sp.csr_array(sp.vstack(blocks, format="csr"))

    def _projection_rows(self, features: npt.NDArray[np.int64]) -> sp.csr_array:
        random = stream(mix_at(self.seed, features)[:, None], np.arange(self.num_hashes))
        row, column = np.nonzero(unit(random) < self.nonzero_fraction)
        # The lowest 12 bits played no part in the choice.
        signs = np.where(random[row, column] & np.uint64(1), np.float32(-1), np.float32(1))
        indptr = np.searchsorted(row, np.arange(len(features) + 1))
        return sp.csr_array((signs, column, indptr), shape=(len(features), self.num_hashes))

    @cached_property
    def _lists(self) -> tuple[npt.NDArray[Any], ...]:
        return (*_sign_list(self.projection), *_sign_list(sp.csr_array(self.projection.T)))

    def _hash(self, rows: Any, output: Any) -> None:
        core.sparse_simhash(rows, *self._lists, output)


def _sign_list(signs: sp.csr_array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
    signs.sort_indices()
    entries = signs.indices.astype(np.uint32) * np.uint32(2) + (signs.data < 0).astype(np.uint32)
    return signs.indptr.astype(np.int64), entries
