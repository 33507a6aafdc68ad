"""SimHash: the signs of random projections."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from hashfold.hashing.base import HashFamily
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
