"""Sparse batches, ragged ids and active sets: the currency between the stations.

All arrays are NumPy: `indptr` int64, ids and `indices` int32, values float32. torch sees the same
memory through `torch.from_numpy`. Objects are frozen and validated once, where they enter
(`validate`, `from_scipy`, `from_lists`); code that builds one from arrays it made itself does not
check again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from hashfold import checks

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

MAX_IDS = 2**31 - 1


@dataclass(frozen=True)
class CsrBatch:
    """Rows of a sparse matrix (compressed sparse rows).

    Row i holds entries `indptr[i]` to `indptr[i + 1]`: columns `indices` (int32, ascending, distinct
    within a row) and `values` (float32, finite). `num_cols` is the width of the matrix.
    """

    indptr: Int64
    indices: Int32
    values: Float32
    num_cols: int

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self.num_cols

    @property
    def nnz(self) -> int:
        return int(self.indptr[-1])

    @property
    def nbytes(self) -> int:
        return self.indptr.nbytes + self.indices.nbytes + self.values.nbytes

    @classmethod
    def from_scipy(cls, matrix: Any, op: str = "CsrBatch") -> CsrBatch:
        """From any SciPy sparse matrix or dense 2-D array; repeated entries are summed, columns sorted."""
        if not sp.issparse(matrix):
            dense = np.asarray(matrix)
            if dense.ndim != 2:
                checks.fail(op, "X must be a 2-D matrix", f"{dense.ndim} dimensions")
            matrix = sp.csr_array(dense)
        csr = sp.csr_array(matrix)
        if not csr.has_canonical_format:
            csr = csr.copy()
            csr.sum_duplicates()
        batch = cls(
            np.ascontiguousarray(csr.indptr, np.int64),
            np.ascontiguousarray(csr.indices, np.int32),
            np.ascontiguousarray(csr.data, np.float32),
            int(csr.shape[1]),
        )
        checks.finite(op, "X", batch.values)
        return batch

    def to_scipy(self) -> sp.csr_array:
        """The same memory as a SciPy matrix."""
        return sp.csr_array((self.values, self.indices, self.indptr), shape=self.shape)

    def validate(self, op: str = "CsrBatch") -> CsrBatch:
        """Checks every promise of the class; returns itself."""
        _check_ragged(op, self.indptr, self.indices, self.num_cols, "feature")
        checks.array(op, "values", self.values, np.float32, (len(self.indices),))
        checks.finite(op, "values", self.values)
        return self

    def take(self, rows: npt.ArrayLike) -> CsrBatch:
        """The given rows, in the given order, as a batch of its own."""
        rows = np.asarray(rows)
        indptr, at = _gather(self.indptr, rows)
        return CsrBatch(indptr, self.indices[at], self.values[at], self.num_cols)


@dataclass(frozen=True)
class Ragged:
    """Ids for each row: row i holds `ids[indptr[i] : indptr[i + 1]]`, distinct within the row."""

    indptr: Int64
    ids: Int32

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def __getitem__(self, row: int) -> Int32:
        return self.ids[self.indptr[row] : self.indptr[row + 1]]

    @property
    def counts(self) -> Int64:
        """(rows,): how many ids each row holds."""
        return np.diff(self.indptr)


@dataclass(frozen=True)
class RaggedIds(Ragged):
    """A set of ids for each row, such as the labels of examples: ascending, each in [0, num_ids)."""

    num_ids: int

    @classmethod
    def from_lists(
        cls, rows: Iterable[Sequence[int]], num_ids: int | None = None, op: str = "RaggedIds"
    ) -> RaggedIds:
        """From one sequence of ids a row; sorted, repeats dropped. `num_ids`: largest id + 1 if not given."""
        parts = [np.unique(np.asarray(row, np.int64)) for row in rows]
        indptr = np.concatenate([[0], np.cumsum([len(p) for p in parts], dtype=np.int64)]).astype(np.int64)
        ids = np.concatenate(parts) if parts else np.zeros(0, np.int64)
        bound = num_ids if num_ids is not None else (int(ids.max()) + 1 if ids.size else 0)
        checks.ids_in_range(op, "ids", ids, min(bound, MAX_IDS))
        return cls(indptr, ids.astype(np.int32), bound)

    @classmethod
    def from_scipy(cls, matrix: Any, op: str = "RaggedIds") -> RaggedIds:
        """The columns of the nonzero entries of each row."""
        csr = sp.csr_array(matrix)
        if (csr.data == 0).any() or not csr.has_canonical_format:
            csr = csr.copy()
            csr.sum_duplicates()
            csr.eliminate_zeros()
        return cls(np.asarray(csr.indptr, np.int64), np.asarray(csr.indices, np.int32), int(csr.shape[1]))

    def to_scipy(self) -> sp.csr_array:
        """A matrix (rows, num_ids) of ones."""
        return sp.csr_array(
            (np.ones(len(self.ids), np.float32), self.ids, self.indptr), shape=(len(self), self.num_ids)
        )

    def validate(self, op: str = "RaggedIds") -> RaggedIds:
        _check_ragged(op, self.indptr, self.ids, self.num_ids, "id")
        return self

    def take(self, rows: npt.ArrayLike) -> RaggedIds:
        indptr, at = _gather(self.indptr, np.asarray(rows))
        return RaggedIds(indptr, self.ids[at], self.num_ids)

    def below(self, limit: int) -> RaggedIds:
        """The ids below `limit`, of as many rows; `num_ids` is that limit."""
        kept = self.ids < limit
        before = np.zeros(len(kept) + 1, np.int64)
        np.cumsum(kept, out=before[1:])
        return RaggedIds(before[self.indptr], self.ids[kept], min(limit, self.num_ids))


@dataclass(frozen=True)
class LookupStats:
    """What a lookup found and what was made of it. Adds up over batches with `+`."""

    rows: int = 0
    num_items: int = 0  # neurons of the layer
    candidates: int = 0  # ids the index returned, summed over rows
    active: int = 0  # neurons computed, summed over rows
    filled: int = 0  # neurons added at random because too few were found, summed over rows
    rows_filled: int = 0  # rows that needed a fill
    truncated: int = 0  # candidates dropped by the budget, summed over rows
    labels_missed: int = 0  # true labels that the index did not find (they were forced in)
    labels: int = 0  # true labels asked for

    @property
    def active_fraction(self) -> float:
        return self.active / max(1, self.rows * self.num_items)

    @property
    def label_recall(self) -> float:
        return 1.0 - self.labels_missed / self.labels if self.labels else float("nan")

    def __add__(self, other: LookupStats) -> LookupStats:
        summed = {k: getattr(self, k) + getattr(other, k) for k in self.__dataclass_fields__ if k != "num_items"}
        return LookupStats(num_items=max(self.num_items, other.num_items), **summed)


@dataclass(frozen=True)
class ActiveSet:
    """The neurons of one layer that are computed for one batch.

    Shared by the batch (`indptr` is None): every row computes `ids` (distinct). Per row: row i computes
    `ids[indptr[i] : indptr[i + 1]]` (distinct within the row).

    `weights` (float32, like ids) says how many neurons an entry stands for: 1 for those certain to be
    there (true labels, looked-up neurons), (neurons left) / (drawn) for uniform negatives; log(weights)
    is the log-q correction of a sampled softmax. The first `num_certain` of a shared set have weight 1.

    `label_positions` are positions in `ids` of each row's true labels, row i's at
    `label_indptr[i] : label_indptr[i + 1]`; both None without labels.
    """

    num_items: int
    ids: Int32
    weights: Float32
    num_rows: int
    num_certain: int = 0
    indptr: Int64 | None = None
    label_indptr: Int64 | None = None
    label_positions: Int64 | None = None
    stats: LookupStats = field(default_factory=LookupStats)

    @property
    def shared(self) -> bool:
        return self.indptr is None

    @property
    def covers_all(self) -> bool:
        """Every neuron is active, in order: the layer is dense for this batch."""
        if self.indptr is not None or len(self.ids) != self.num_items:
            return False
        return bool((self.ids == np.arange(self.num_items, dtype=np.int32)).all())


def _check_ragged(op: str, indptr: Int64, ids: Int32, bound: int, what: str) -> None:
    if indptr.ndim != 1 or len(indptr) < 1 or indptr[0] != 0 or (np.diff(indptr) < 0).any():
        checks.fail(op, "indptr must start at 0 and never fall", indptr[:8])
    if indptr[-1] != len(ids):
        checks.fail(op, f"indptr must end at the number of {what}s, {len(ids)}", int(indptr[-1]))
    checks.ids_in_range(op, f"{what}s", ids, bound)
    within = np.ones(len(ids), bool)
    within[indptr[:-1][np.diff(indptr) > 0]] = False
    if (within[1:] & (np.diff(ids) <= 0)).any():
        checks.fail(
            op, f"{what}s must ascend within a row, without repeats", "unsorted or repeated ids", "sort them"
        )


def _gather(indptr: Int64, rows: npt.NDArray[Any]) -> tuple[Int64, Int64]:
    """indptr of the taken rows, and where their entries lie."""
    starts, counts = indptr[rows], indptr[rows + 1] - indptr[rows]
    taken = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(counts, out=taken[1:])
    return taken, np.repeat(starts - taken[:-1], counts) + np.arange(taken[-1])
