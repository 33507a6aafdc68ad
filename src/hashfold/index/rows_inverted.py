"""Rows found by an inverted index over their columns: all of it, or the heaviest columns of the query only."""

from __future__ import annotations

from typing import Any, ClassVar

from hashfold import checks
from hashfold.index.base import Candidates
from hashfold.index.rows import StoredRowIndex, effort
from hashfold.sparse import CsrBatch, Int32


class ExactRowIndex(StoredRowIndex):
    """Every row that shares a column with the query, scored exactly: the oracle for the others.

    Rows whose sums are equal up to rounding are scored once more, so the answer depends on no order of
    additions. Cost of a query row: the lengths of its columns' lists (a column that 1 in 16 rows has is a byte
    for every row, and costs what rows / 24 entries of a list do), and a sweep over all rows' sums. Memory:
    6 bytes an entry (3 in the stored row, 3 in the lists; up to 16 for the common columns).
    """

    name: ClassVar[str] = "inverted"

    def config(self) -> dict[str, Any]:
        return {"name": self.name, "num_cols": self.num_cols}

    def _list(self, first: int) -> None:
        self._native.list_columns()

    def _query(self, x: CsrBatch, k: int, exclude: Int32 | None, quick: bool) -> Candidates:
        return self._search(x, x, k, exclude)


class PrunedRowIndex(ExactRowIndex):
    """The lists of the query's heaviest columns only; the rows with the largest sums are scored exactly.

    In tf-idf rows a few rare columns carry most of an inner product, and the long lists of the common ones
    cost most of the time. Columns are taken by falling value while their cost fits in `budget`; a query of
    which all fit is answered exactly.

    Args:
        num_cols: width of the rows.
        budget: entries of lists visited for a query row, at most (see `ExactRowIndex` for common columns).
        pool: rows scored for a query row (at least k).
    """

    name: ClassVar[str] = "pruned"

    def __init__(self, num_cols: int, *, budget: int = 40_000, pool: int = 200) -> None:
        super().__init__(num_cols)
        self._budget = checks.integer(self._op(), "budget", budget, low=1)
        self._pool = checks.integer(self._op(), "pool", pool, low=1)

    def config(self) -> dict[str, Any]:
        return super().config() | {"budget": self._budget, "pool": self._pool}

    def _query(self, x: CsrBatch, k: int, exclude: Int32 | None, quick: bool) -> Candidates:
        return self._search(x, x, k, exclude, *effort(k, self._pool, self._budget, quick))
