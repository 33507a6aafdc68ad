"""What every index over sparse rows does: take rows, return for a query row those most similar to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from hashfold import checks
from hashfold.index.base import Arrays, Candidates, state_array
from hashfold.kernels.native import core
from hashfold.sparse import MAX_IDS, CsrBatch, Float32, Int32

BLOCK_ROWS = 32_768  # rows that share a table of lists, at most 2^16; their sums fit the second-level cache
MAX_COLS = 2**30


class RowIndex(ABC):
    """Finds the rows with the largest inner product with a query row; of unit rows, the largest cosine.

    Rows have values at least 0. They are kept with their values rounded: scores are inner products with these
    stored rows. Ids count rows in the order in which they came. Queries may run side by side; `add` waits until
    it is alone.

    Args:
        num_cols: width of the rows.
    """

    name: ClassVar[str]
    state_names: ClassVar[tuple[str, ...]]  # the arrays of `state()`; one of them is scales, float32 (rows,)

    def __init__(self, num_cols: int) -> None:
        self.num_cols = checks.integer(self._op(), "num_cols", num_cols, low=1, high=MAX_COLS)

    @abstractmethod
    def __len__(self) -> int: ...

    def add(self, rows: CsrBatch) -> None:
        """Appends rows; their ids go on from len(self). What is there is not built anew.

        rows: of this width, finite, at least 0. Raises InputError, and nothing is added.
        """
        self.check(rows)
        self._add(rows)

    def check(self, rows: CsrBatch) -> None:
        """Raises what `add` would raise."""
        op = f"{self._op()}.add"
        self._check_width(op, rows)
        rows.validate(op)
        self._check_values(op, rows.values)
        checks.integer(op, "rows in all", len(self) + len(rows), high=MAX_IDS)

    def query(
        self, x: CsrBatch, k: int, exclude: npt.ArrayLike | None = None, *, quick: bool = False
    ) -> Candidates:
        """At most k rows with scores above 0 for each row of `x`, best first; equal scores by smaller id.

        Args:
            x: (batch, num_cols), finite, at least 0.
            k: at least 1.
            exclude: int32 (batch,): the id that each row must not find, -1 for none. For rows that are in the
                index themselves (leave-one-out).
            quick: an index that looks at some rows only looks at half as many, and scores no more than k.

        Returns: scores float32, `found` the rows met before the cut to k (the excluded one among them).
        """
        op = f"{self._op()}.query"
        k = checks.integer(op, "k", k, low=1)
        self._check_width(op, x)
        checks.ids_in_range(op, "features of x", x.indices, self.num_cols)
        self._check_values(op, x.values)
        excluded = None if exclude is None else self._check_exclude(op, exclude, len(x))
        if len(x) == 0 or len(self) == 0:
            return Candidates.empty(len(x), len(self))
        return self._query(x, min(k, len(self)), excluded, quick)

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Memory of the rows and of what finds them."""

    @property
    @abstractmethod
    def row_nbytes(self) -> int:
        """Memory of the stored rows alone."""

    def rows(self, first: int = 0, last: int | None = None) -> CsrBatch:
        """The stored rows with ids in [first, last), as scores see them."""
        op = f"{self._op()}.rows"
        end = len(self) if last is None else checks.integer(op, "last", last, low=0, high=len(self))
        begin = checks.integer(op, "first", first, low=0, high=end)
        return self._read(begin, end)

    @abstractmethod
    def state(self) -> Arrays:
        """The stored rows. An index of the same settings that loads them answers alike."""

    def load_state(self, arrays: Mapping[str, Any]) -> None:
        """Goes on as the index that gave `state()`.

        Raises: InputError, and the index is as it was: arrays that no index of this width could have.
        """
        op = f"{self._op()}.load_state"
        if set(arrays) != set(self.state_names):
            came = ", ".join(sorted(arrays)) or "none"
            checks.fail(op, f"arrays must be {', '.join(self.state_names)}", came)
        if not self._load(op, arrays):
            names = f"{', '.join(self.state_names[:-1])} and {self.state_names[-1]}"
            remedy = "load the state of an index of this width"
            checks.fail(op, f"{names} must be rows of this width", "a contradiction", remedy)

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """JSON-able; `make_row_index(**config)` makes an equal index without rows."""

    @abstractmethod
    def _add(self, rows: CsrBatch) -> None:
        """Rows that passed `check`."""

    @abstractmethod
    def _read(self, first: int, last: int) -> CsrBatch: ...

    @abstractmethod
    def _load(self, op: str, arrays: Mapping[str, Any]) -> bool:
        """Takes over arrays of the right names; False, and nothing changed, if they are not of such rows."""

    @abstractmethod
    def _query(self, x: CsrBatch, k: int, exclude: Int32 | None, quick: bool) -> Candidates: ...

    @classmethod
    def _op(cls) -> str:
        return f"{cls.name} rows"

    def _check_width(self, op: str, x: CsrBatch) -> None:
        if not isinstance(x, CsrBatch):
            checks.fail(op, "rows must be a CsrBatch", type(x).__name__, "use CsrBatch.from_scipy")
        if x.num_cols != self.num_cols:
            checks.fail(op, f"rows must be {self.num_cols} wide", x.shape)

    def _check_values(self, op: str, values: Float32) -> None:
        at = core.first_invalid(values, True)
        if at >= 0:
            checks.fail(op, "values must be finite and at least 0", f"{values[at]} at position {at}")

    def _check_exclude(self, op: str, exclude: npt.ArrayLike, rows: int) -> Int32:
        ids: Int32 = checks.array(op, "exclude", exclude, np.int32, (rows,))
        if ids.size and (int(ids.min()) < -1 or int(ids.max()) >= len(self)):
            bad = ids[(ids < -1) | (ids >= len(self))][0]
            checks.fail(op, f"exclude must lie in [0, {len(self)}), or be -1 for none", int(bad))
        return ids


class StoredRowIndex(RowIndex):
    """Rows kept one by one, and beside them lists by which they are found.

    Values are rounded to 255 steps of the row's largest: 3 bytes an entry.
    """

    state_names: ClassVar[tuple[str, ...]] = ("columns", "values", "scales")

    def __init__(self, num_cols: int, num_keys: int = 0) -> None:
        super().__init__(num_cols)
        self._native: Any = core.RowSearch(self.num_cols, num_keys, BLOCK_ROWS)

    def __len__(self) -> int:
        return int(self._native.rows())

    @property
    def nbytes(self) -> int:
        return int(self._native.store_bytes() + self._native.postings_bytes())

    @property
    def row_nbytes(self) -> int:
        return int(self._native.store_bytes())

    def state(self) -> Arrays:
        """2 to 3 bytes an entry; lists and tables are built anew when loaded.

        columns: uint8, of each row the number of entries and the steps from column to column, as variable-length
        numbers. values: uint8, 1 to 255, of all rows. scales: float32 (rows,).
        """
        return dict(zip(self.state_names, self._native.save(), strict=True))

    def _add(self, rows: CsrBatch) -> None:
        first = len(self)
        self._native.append(rows.indptr, rows.indices, rows.values)
        self._list(first)

    def _read(self, first: int, last: int) -> CsrBatch:
        indptr, columns, steps, scales = self._native.read(first, last)
        values = steps.astype(np.float32) * np.repeat(scales, np.diff(indptr))
        return CsrBatch(indptr, columns, values, self.num_cols)

    def _load(self, op: str, arrays: Mapping[str, Any]) -> bool:
        columns = state_array(op, arrays, "columns", np.uint8, (None,))
        values = state_array(op, arrays, "values", np.uint8, (None,))
        scales = state_array(op, arrays, "scales", np.float32, (None,))
        if not self._native.load(columns, values, scales):
            return False
        self._list(0)
        return True

    @abstractmethod
    def _list(self, first: int) -> None:
        """Makes the stored rows from id `first` on ones that can be found."""

    def _search(
        self, x: CsrBatch, keys: CsrBatch, k: int, exclude: Int32 | None, pool: int = 0, budget: int = 0
    ) -> Candidates:
        """The native search: the `pool` rows with the largest sums over `keys`, scored against x.

        pool 0: all that may be among the k by the sums. budget: of the keys' costs, 0 for all keys.
        """
        ids, scores = np.empty((len(x), k), np.int32), np.empty((len(x), k), np.float32)
        counts, found = np.empty(len(x), np.int64), np.empty(len(x), np.int64)
        query = (x.indptr, x.indices, x.values, keys.indptr, keys.indices, keys.values)
        self._native.query(*query, k, pool, budget, exclude, ids, scores, counts, found)
        return packed(ids, scores, counts, found, len(self))


def effort(k: int, pool: int, budget: int, quick: bool) -> tuple[int, int]:
    """The pool and the budget of a query for k rows, see `RowIndex.query`."""
    return (k, max(1, budget // 2)) if quick else (max(k, pool), budget)


def packed(ids: Int32, scores: Float32, counts: npt.NDArray[np.int64], found: Any, num_items: int) -> Candidates:
    """Candidates from (rows, k) arrays of which the first counts[i] places of row i are filled."""
    indptr = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=indptr[1:])
    filled = np.arange(ids.shape[1]) < counts[:, None]
    return Candidates(indptr, ids[filled], scores[filled], num_items, found)
