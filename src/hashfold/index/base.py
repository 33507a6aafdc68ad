"""What every index over a layer's neurons does: take weight vectors, return candidates for queries."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from hashfold import checks
from hashfold.index.virtual import Vectors, VirtualRows, spans
from hashfold.sparse import CsrBatch, Float32, Int32, Int64, Ragged

Queries = Float32 | CsrBatch
Arrays = dict[str, npt.NDArray[Any]]
DENSE_BLOCK_BYTES = 64 << 20  # CSR queries are made dense in blocks of at most this size


@dataclass(frozen=True)
class Candidates(Ragged):
    """Items found for each query row, best first.

    Row i's `scores` lie as its ids do and never rise within the row; what a score means is the
    index's own (inner product, number of collisions). `found[i]` is the number of distinct items
    the index looked at for row i before the budget cut.
    """

    scores: Float32
    num_items: int
    found: Int64

    @property
    def truncated(self) -> int:
        """Items found but dropped by the budget, summed over rows."""
        return int(self.found.sum()) - len(self.ids)

    @classmethod
    def empty(cls, rows: int, num_items: int) -> Candidates:
        return cls(
            np.zeros(rows + 1, np.int64),
            np.zeros(0, np.int32),
            np.zeros(0, np.float32),
            num_items,
            np.zeros(rows, np.int64),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Candidates], num_items: int) -> Candidates:
        """The rows of one after those of the other; at least one part."""
        counts = np.concatenate([part.counts for part in parts])
        indptr = np.zeros(len(counts) + 1, np.int64)
        np.cumsum(counts, out=indptr[1:])
        ids, scores = np.concatenate([p.ids for p in parts]), np.concatenate([p.scores for p in parts])
        return cls(indptr, ids, scores, num_items, np.concatenate([p.found for p in parts]))


@dataclass(frozen=True)
class Occupancy:
    """How evenly the items lie in the buckets, over all tables."""

    tables: int
    buckets: int  # of all tables together
    empty: int  # buckets without an item
    mean: float  # items in a bucket that is not empty
    largest: int
    dropped_fraction: float  # entries that a bucket's capacity kept out, of all (item, table) pairs

    @property
    def empty_fraction(self) -> float:
        return self.empty / max(1, self.buckets)


class NeuronIndex(ABC):
    """Finds the neurons whose weight vectors fit a query: large <x, w_i> + b_i.

    An index keeps a reference to the `vectors` and `bias` given to `build`, never a copy (unless their
    type or layout forces one; `VirtualRows` are made a few at a time): scores always use the weights as they
    are now, while the tables, and a copy of the weights in a lower precision, follow only through `update` and
    `build`.
    """

    name: ClassVar[str]
    takes_virtual: ClassVar[bool] = True  # rows in the place of an array: `VirtualRows`
    state_names: tuple[str, ...] = ()  # the arrays of `state()`

    def __init__(self, num_items: int, dim: int) -> None:
        self.num_items = checks.integer(self._op(), "num_items", num_items, low=1, high=2**31 - 1)
        self.dim = checks.integer(self._op(), "dim", dim, low=1)
        self._vectors: Vectors | None = None
        self._bias: Float32 | None = None

    def build(self, vectors: npt.ArrayLike | VirtualRows, bias: npt.ArrayLike | None = None) -> None:
        """Indexes all items anew.

        Args:
            vectors: (num_items, dim) float32 or `VirtualRows`, finite; kept by reference.
            bias: (num_items,) float32, finite, or None for no bias; kept by reference.

        Raises: InputError for a wrong shape or values that are not finite.
        """
        self._vectors, self._bias = self._checked(f"{self._op()}.build", vectors, bias)
        self._build(self._vectors, self._bias)

    def refill(self) -> None:
        """Inserts every item anew, as the weights are now, keeping whatever `build` learned from data."""
        vectors, bias = self._built("refill")
        self._refill(vectors, bias)

    def update(self, ids: npt.ArrayLike, vectors: npt.ArrayLike, bias: npt.ArrayLike | None = None) -> None:
        """Re-inserts the items whose vectors changed; nothing else moves.

        The new rows are also written to the arrays given to `build`, which changes nothing where those
        are the live weights, as virtual rows always are.

        Args:
            ids: (n,) int32, distinct, in [0, num_items).
            vectors: (n, dim) float32: the new row of each id.
            bias: (n,) float32; required if and only if the index was built with a bias.
        """
        op = f"{self._op()}.update"
        self._built("update")
        rows = checks.array(op, "ids", ids, np.int32, (None,))
        checks.ids_in_range(op, "ids", rows, self.num_items)
        if len(np.unique(rows)) != len(rows):
            checks.fail(op, "ids must be distinct", "repeated ids", "pass each changed row once")
        new = checks.array(op, "vectors", vectors, np.float32, (len(rows), self.dim))
        checks.finite(op, "vectors", new)
        if (bias is None) != (self._bias is None):
            checks.fail(op, "bias must be given as it was to build", "none" if bias is None else "a bias")
        new_bias = None if bias is None else self._checked_bias(op, bias, len(rows))
        self._write(rows, new, new_bias)
        self._update(rows, new, new_bias)

    def state(self) -> Arrays:
        """All that queries and updates depend on beyond the settings and the weights, as arrays of its own.

        Ids are int32. With the same settings and weights, `load_state` makes an index that answers and
        updates bit for bit as this one, which was built when the weights were others.
        """
        self._built("state")
        return self._state()

    def load_state(
        self,
        arrays: Mapping[str, Any],
        vectors: npt.ArrayLike | VirtualRows,
        bias: npt.ArrayLike | None = None,
    ) -> None:
        """Goes on as the index that gave `state()`, in the place of `build`.

        Args:
            arrays: as `state` returned them; copied.
            vectors, bias: the weights as they are now, as in `build`.

        Raises: InputError, and the index is as it was: arrays that no index of these settings could have.
        """
        op = f"{self._op()}.load_state"
        checked = self._checked(op, vectors, bias)
        if set(arrays) != set(self.state_names):
            wanted, came = (", ".join(sorted(names)) or "none" for names in (self.state_names, arrays))
            checks.fail(op, f"arrays must be those of a {self.name} index ({wanted})", came)
        self._load_state(arrays, with_bias=bias is not None)
        self._vectors, self._bias = checked

    def query(self, x: npt.ArrayLike | CsrBatch, budget: int) -> Candidates:
        """At most `budget` items for each row of `x`, best first.

        Args:
            x: (batch, dim) float32 or a CsrBatch of that width, finite.
            budget: at least 1.
        """
        op = f"{self._op()}.query"
        self._built("query")
        budget = checks.integer(op, "budget", budget, low=1)
        return self._query(check_queries(op, x, self.dim), min(budget, self.num_items))

    @abstractmethod
    def occupancy(self) -> Occupancy:
        """Bucket statistics as they are now."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """JSON-able; `make_index(**config)` makes an equal index, to be built from the vectors."""

    def fresh(self) -> Self:
        """An equal index, to be built."""
        return type(self)(**{name: value for name, value in self.config().items() if name != "name"})

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """An index in the same state, over a copy of the vectors (of a layer: over its copy's weights)."""
        made = memo[id(self)] = self.fresh()
        if self._vectors is not None:
            made.load_state(self.state(), copy.deepcopy(self._vectors, memo), copy.deepcopy(self._bias, memo))
        return made

    @abstractmethod
    def _build(self, vectors: Vectors, bias: Float32 | None) -> None: ...

    @abstractmethod
    def _update(self, ids: Int32, vectors: Float32, bias: Float32 | None) -> None: ...

    @abstractmethod
    def _query(self, x: Queries, budget: int) -> Candidates: ...

    @abstractmethod
    def _state(self) -> Arrays: ...

    @abstractmethod
    def _load_state(self, arrays: Mapping[str, Any], with_bias: bool) -> None: ...

    def _refill(self, vectors: Vectors, bias: Float32 | None) -> None:
        self._build(vectors, bias)  # for those that learn nothing from the data

    @classmethod
    def _op(cls) -> str:
        return f"{cls.name} index"

    def _built(self, method: str) -> tuple[Vectors, Float32 | None]:
        if self._vectors is None:
            checks.fail(f"{self._op()}.{method}", "the index must be built", "an empty index", "call build first")
        return self._vectors, self._bias

    def _checked(
        self, op: str, vectors: npt.ArrayLike | VirtualRows, bias: npt.ArrayLike | None
    ) -> tuple[Vectors, Float32 | None]:
        shape = (self.num_items, self.dim)
        checked: Vectors
        if isinstance(vectors, VirtualRows):
            if vectors.shape != shape:
                checks.fail(op, f"vectors must have shape {shape}", vectors.shape)
            checked = vectors
        else:
            checked = checks.array(op, "vectors", vectors, np.float32, shape)
        for part in spans(checked):
            checks.finite(op, "vectors", checked[part])
        return checked, None if bias is None else self._checked_bias(op, bias, self.num_items)

    def _checked_bias(self, op: str, bias: npt.ArrayLike, count: int) -> Float32:
        checked: Float32 = checks.array(op, "bias", bias, np.float32, (count,))
        checks.finite(op, "bias", checked)
        return checked

    def _write(self, ids: Int32, vectors: Float32, bias: Float32 | None) -> None:
        assert self._vectors is not None
        if not isinstance(self._vectors, VirtualRows):
            if not self._vectors.flags.writeable:
                self._vectors = self._vectors.copy()
            self._vectors[ids] = vectors
        if self._bias is not None:
            if not self._bias.flags.writeable:
                self._bias = self._bias.copy()
            self._bias[ids] = bias


def state_array(
    op: str, arrays: Mapping[str, Any], name: str, dtype: npt.DTypeLike, shape: tuple[int | None, ...]
) -> npt.NDArray[Any]:
    """An array of a saved state: exactly of `dtype`, since it was written so."""
    value = np.asarray(arrays[name])
    if value.dtype != dtype:
        checks.fail(op, f"{name} must be of {np.dtype(dtype)}", value.dtype)
    return checks.array(op, name, value, dtype, shape)


def check_queries(op: str, x: npt.ArrayLike | CsrBatch, dim: int) -> Queries:
    """`x` as float32 (batch, dim) or CsrBatch, finite."""
    if isinstance(x, CsrBatch):
        if x.num_cols != dim:
            checks.fail(op, f"x must be (batch, {dim})", x.shape)
        checks.finite(op, "x", x.values)
        return x
    dense: Float32 = checks.array(op, "x", x, np.float32, (None, dim))
    checks.finite(op, "x", dense)
    return dense


def dense_blocks(x: Queries) -> list[tuple[int, int]]:
    """Row spans of `x` that may be dense at once, at least one: everything if it is dense already."""
    if not isinstance(x, CsrBatch):
        return [(0, len(x))]
    step = max(1, DENSE_BLOCK_BYTES // (4 * max(1, x.num_cols)))
    return [(at, min(len(x), at + step)) for at in range(0, max(1, len(x)), step)]


def densify(x: Queries, begin: int, end: int) -> Float32:
    """Rows [begin, end) of `x` as a dense float32 matrix."""
    if not isinstance(x, CsrBatch):
        return x[begin:end]
    low, high = x.indptr[begin], x.indptr[end]
    dense = np.zeros((end - begin, x.num_cols), np.float32)
    rows = np.repeat(np.arange(end - begin), np.diff(x.indptr[begin : end + 1]))
    dense[rows, x.indices[low:high]] = x.values[low:high]
    return dense
