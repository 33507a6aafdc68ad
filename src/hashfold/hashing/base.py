"""What every hash family is: a frozen description whose hashes are a function of it alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from hashfold import checks
from hashfold.hashing.theory import collision_probability
from hashfold.kernels.native import core
from hashfold.sparse import CsrBatch, Float32, Int32

MAX_BUCKET_BITS = 30  # bucket ids are int32
MAX_DIM = 2**30
MAX_HASHES = 2**20

Rows = npt.NDArray[Any] | CsrBatch


@dataclass(frozen=True)
class HashFamily(ABC):
    """num_tables x hashes_per_table elementary hashes of a row of `dim` features.

    The hashes are drawn from `seed` and nothing else: the same description gives the same codes on every
    machine, instruction set and number of threads, and for a sparse row as for the same dense one. Zeros
    mean "absent"; a row without nonzeros has fixed codes.
    """

    name: ClassVar[str]
    refuse_negative: ClassVar[bool] = False

    dim: int
    num_tables: int
    hashes_per_table: int
    seed: int = 0

    def __post_init__(self) -> None:
        checks.integer(self.name, "dim", self.dim, low=1, high=MAX_DIM)
        checks.integer(self.name, "num_tables", self.num_tables, low=1)
        checks.integer(self.name, "hashes_per_table", self.hashes_per_table, low=1)
        checks.integer(self.name, "num_tables * hashes_per_table", self.num_hashes, high=MAX_HASHES)
        checks.integer(self.name, "seed", self.seed, low=0, high=2**63 - 1)

    @property
    def num_hashes(self) -> int:
        return self.num_tables * self.hashes_per_table

    @property
    @abstractmethod
    def code_bits(self) -> int:
        """Bits of an elementary code, concatenated to the bucket; 0: codes are 31 bits, mixed to the bucket."""

    @property
    def bucket_bits(self) -> int:
        """Bits of a bucket id."""
        return self.hashes_per_table * self.code_bits

    @property
    def num_buckets(self) -> int:
        """Buckets of one table, 2^bucket_bits; every one of them can be reached."""
        return 1 << self.bucket_bits

    def codes(self, x: Rows) -> Int32:
        """Elementary hashes of each row.

        x: float32 (rows, dim) or CsrBatch of width dim, finite. Returns int32 (rows, num_tables *
        hashes_per_table), table by table. Raises InputError if x does not fit.
        """
        rows, view = self._rows(x)
        codes = np.empty((rows, self.num_hashes), np.int32)
        self._hash(view, self._output(codes, None))
        return codes

    def buckets(self, x: Rows) -> Int32:
        """The bucket of each row in each table: int32 (rows, num_tables), in [0, num_buckets).

        Takes what `codes` takes; the codes themselves are never stored.
        """
        rows, view = self._rows(x)
        buckets = np.empty((rows, self.num_tables), np.int32)
        self._hash(view, self._output(None, buckets))
        return buckets

    def config(self) -> dict[str, Any]:
        """JSON-able; `make_family(**config)` is the same family, bit for bit."""
        return {"name": self.name} | {f.name: getattr(self, f.name) for f in fields(self)}

    def collision_probability(self, x: npt.ArrayLike, y: npt.ArrayLike) -> float:
        """P[one elementary hash of x and y agrees], by theory (see theory.collision_probability)."""
        options = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _COMMON_FIELDS}
        return collision_probability(self.name, x, y, **options)

    @abstractmethod
    def _hash(self, rows: Any, output: Any) -> None:
        """Fills `output` (core.HashOutput) with the hashes of `rows` (core.HashRows)."""

    def _output(self, codes: Int32 | None, buckets: Int32 | None) -> Any:
        return core.HashOutput(
            codes, buckets, self.num_tables, self.hashes_per_table, self.code_bits, self.bucket_bits, self.seed
        )

    def _check_bucket_bits(self, remedy: str) -> None:
        if not 0 <= self.bucket_bits <= MAX_BUCKET_BITS:
            checks.fail(self.name, f"a bucket id has at most {MAX_BUCKET_BITS} bits", self.bucket_bits, remedy)

    def _rows(self, x: Rows) -> tuple[int, Any]:
        if isinstance(x, CsrBatch):
            if x.num_cols != self.dim:
                checks.fail(self.name, f"x must have {self.dim} columns", x.num_cols)
            checks.ids_in_range(self.name, "features of x", x.indices, self.dim)
            self._check_values(x.values)
            return len(x), core.HashRows(x.indptr, x.indices, x.values)
        dense = checks.array(self.name, "x", x, np.float32, (None, self.dim))
        self._check_values(dense)
        return len(dense), core.HashRows(dense)

    def _check_values(self, values: Float32) -> None:
        at = core.first_invalid(values.reshape(-1), self.refuse_negative)
        if at >= 0:
            wanted = "finite and not negative" if self.refuse_negative else "finite"
            checks.fail(self.name, f"values of x must be {wanted}", f"{values.reshape(-1)[at]} at position {at}")


_COMMON_FIELDS = tuple(f.name for f in fields(HashFamily))
