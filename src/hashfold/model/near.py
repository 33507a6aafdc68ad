"""The near path: the training rows most like a row are looked up, and their labels vote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hashfold import checks
from hashfold.index import Candidates, PackedRowIndex, RowIndex, make_row_index
from hashfold.index.base import Arrays, state_array
from hashfold.kernels.native import core
from hashfold.sparse import MAX_IDS, CsrBatch, Float32, Float64, Int32, Int64, Ragged, RaggedIds

INDEX = "pruned"
CHANNELS = ((5, 1.0), (20, 1.0), (100, 2.0), (100, 4.0))
"""In which votes are counted for the combined score: (neighbours that vote, power of their similarity)."""
LEADING = 2  # the channel that proposes labels
RIVALS = ((100, 2.0),)  # the only channel where labels are wanted that a row could be taken to have


class Near:
    """score(x, label) = sum over the nearest rows r that have the label of <x, r>^power.

    Rows are kept compactly, as are their labels; new rows and new labels can be added at any time, and are
    found at once.

    Args:
        num_features: width of the rows.
        num_labels: labels are 0 to num_labels - 1; grows when rows with more are added.
        index, options: the row index and its options, see `hashfold.index.ROW_INDEXES`.
        neighbours: rows that vote.
        power: above 1 the nearest count more, 0 lets all count alike.
    """

    def __init__(
        self,
        num_features: int,
        num_labels: int,
        *,
        index: str = INDEX,
        options: Mapping[str, Any] | None = None,
        neighbours: int = 20,
        power: float = 1.0,
    ) -> None:
        self.num_labels = checks.integer("Near", "num_labels", num_labels, low=0, high=MAX_IDS)
        self._neighbours = checks.integer("Near", "neighbours", neighbours, low=1)
        self._power = checks.number("Near", "power", power, low=0)
        self._rows = make_row_index(index, num_features, **dict(options or {}))
        self._labels: Any = core.LabelVotes()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def num_features(self) -> int:
        return self._rows.num_cols

    @property
    def index(self) -> RowIndex:
        return self._rows

    @property
    def nbytes(self) -> int:
        """Memory of rows, tables and labels."""
        return self._rows.nbytes + int(self._labels.bytes())

    def add(self, x: CsrBatch, y: RaggedIds) -> None:
        """New examples: rows x (n, num_features), finite and at least 0, with their labels y.

        Their ids go on from len(self). A larger y.num_ids makes num_labels grow. Raises InputError, and
        nothing is added.
        """
        if len(x) != len(y):
            checks.fail("Near.add", "x and y must have as many rows", f"{len(x)} and {len(y)}")
        y.validate("Near.add")
        self._rows.check(x)
        self.num_labels = max(self.num_labels, y.num_ids)
        self._labels.append(y.indptr, y.ids)  # before its row can be found
        self._rows.add(x)

    def neighbours(self, x: CsrBatch, exclude: npt.ArrayLike | None = None) -> Candidates:
        """Ids and inner products of the rows that vote, see `RowIndex.query`."""
        return self._rows.query(x, self._neighbours, exclude)

    def vote(self, x: CsrBatch, k_labels: int, exclude: npt.ArrayLike | None = None) -> Candidates:
        """At most `k_labels` labels of each row's neighbours, best first; equal scores by smaller id.

        x and exclude as in `RowIndex.query`. `found` counts the labels that any neighbour has. A row
        without neighbours has none.
        """
        k = min(checks.integer("Near.vote", "k_labels", k_labels, low=1), max(1, self.num_labels))
        channel = ((self._neighbours, self._power),)
        labels, votes, found = self._elect(self.neighbours(x, exclude), channel, 0, _nobody(len(x)), k)
        return Candidates(labels.indptr, labels.ids, votes[:, 0], self.num_labels, found)

    def join(
        self, x: CsrBatch, proposals: Ragged, k_labels: int, exclude: npt.ArrayLike | None = None
    ) -> tuple[Ragged, Float32]:
        """The proposed labels of each row and its neighbours' `k_labels` best ones, with their votes.

        Args:
            x, exclude: as in `RowIndex.query`.
            proposals: labels of each row, distinct; they stay in front, as they are.
            k_labels: of the neighbours, by the votes in channel `LEADING`; 0 adds none.

        Returns: the labels, and votes float32 (labels in all, channels): sums of similarity^power over the
        nearest rows that have the label, a column for each of `CHANNELS`.
        """
        k = checks.integer("Near.join", "k_labels", k_labels, low=0)
        near = self._rows.query(x, max(count for count, _ in CHANNELS), exclude)
        return self._elect(near, CHANNELS, LEADING, proposals, k)[:2]

    def rivals(self, x: CsrBatch, labels: Ragged, k_labels: int, exclude: npt.ArrayLike | None = None) -> Ragged:
        """Each row's `labels`, and then of the `k_labels` best of its neighbours' those not among them.

        As `join` without votes, in two thirds of the time: of neighbours looked up quickly.
        """
        k = checks.integer("Near.rivals", "k_labels", k_labels, low=0)
        near = self._rows.query(x, RIVALS[0][0], exclude, quick=True)
        return self._elect(near, RIVALS, 0, labels, k)[0]

    def _elect(
        self,
        voters: Candidates,
        channels: Sequence[tuple[int, float]],
        leading: int,
        proposals: Ragged,
        k: int,
    ) -> tuple[Ragged, Float32, Int64]:
        """The labels, their votes (labels in all, channels), and how many labels of each row had votes.

        voters: rows, the most similar first. channels: as `CHANNELS`. leading: the one that ranks.
        """
        rows, room = len(voters), len(proposals.ids) + len(voters) * k
        ids, votes = np.empty(room, np.int32), np.empty((room, len(channels)), np.float32)
        indptr, found = np.empty(rows + 1, np.int64), np.empty(rows, np.int64)
        counts = np.array([count for count, _ in channels], np.int64)
        powers = np.array([power for _, power in channels], np.float32)
        voting = (voters.indptr, voters.ids, voters.scores, counts, powers, leading)
        self._labels.join(*voting, proposals.indptr, proposals.ids, k, indptr, ids, votes, found)
        return Ragged(indptr, ids[: indptr[-1]]), votes[: indptr[-1]], found

    def have(self, rows: Int32, label: int) -> npt.NDArray[np.bool_]:
        """Which of these rows, ids below len(self), have the label: bool, like `rows`."""
        n = len(rows)
        checks.ids_in_range("Near.have", "rows", rows, len(self))
        each = np.arange(n + 1, dtype=np.int64)  # a query each, whose only voter is the row
        voters = Candidates(each, rows, np.ones(n, np.float32), len(self), np.ones(n, np.int64))
        _, votes, _ = self._elect(voters, ((1, 1.0),), 0, Ragged(each, np.full(n, label, np.int32)), 0)
        found: npt.NDArray[np.bool_] = votes[:, 0] > 0
        return found

    def labels(self) -> RaggedIds:
        """Of all rows."""
        indptr, ids = self._labels.read()
        return RaggedIds(indptr, ids, self.num_labels)

    def packed(self, bits: int, share: float = 1.0) -> Near:
        """The same rows and labels in packed lists, see `PackedRowIndex.of`: one to two bytes an entry.

        bits: of a value. share: of a row's squared length that its entries left, the heaviest, make up at least;
        they are scaled to the length that it had. Without the scaling long rows would lose, leaving out more.
        """
        rows = self._rows.rows()
        if checks.number("Near.packed", "share", share, above=0, high=1) < 1:
            rows = _heaviest(rows, share)
        return self._with(PackedRowIndex.of(rows, bits))

    def _with(self, rows: RowIndex) -> Near:
        """The same labels, of these rows."""
        settings = rows.config()
        features, name = settings.pop("num_cols"), settings.pop("name")
        near = Near(features, self.num_labels, index=name, options=settings, neighbours=self._neighbours)
        near._power, near._rows, labels = self._power, rows, self.labels()
        near._labels.append(labels.indptr, labels.ids)
        return near

    def config(self) -> dict[str, Any]:
        """JSON-able; `Near(**config)` followed by `load_state` is this one again."""
        settings = self._rows.config()
        return {
            "num_features": settings.pop("num_cols"),
            "num_labels": self.num_labels,
            "index": settings.pop("name"),
            "options": settings,
            "neighbours": self._neighbours,
            "power": self._power,
        }

    def state(self) -> Arrays:
        """The arrays of `RowIndex.state` as `rows.*`, and `labels`: uint8, coded as the columns are."""
        rows = {f"rows.{name}": array for name, array in self._rows.state().items()}
        return rows | {"labels": self._labels.save()}

    def load_state(self, arrays: Mapping[str, Any]) -> None:
        """Goes on as the one that gave `state()`; tables are built anew.

        Raises: InputError, and nothing is changed: arrays that none with these settings could have.
        """
        op = "Near.load_state"
        if "labels" not in arrays:
            checks.fail(op, "arrays must hold labels", ", ".join(sorted(arrays)) or "none")
        labels = state_array(op, arrays, "labels", np.uint8, (None,))
        rows = {name.removeprefix("rows."): array for name, array in arrays.items() if name != "labels"}
        scales = np.asarray(rows.get("scales", ()))
        loaded = core.LabelVotes()
        if not loaded.load(labels, len(scales) if scales.ndim == 1 else 0, self.num_labels):
            checks.fail(op, f"labels must be of as many rows, each below {self.num_labels}", "a contradiction")
        self._rows.load_state(rows)
        self._labels = loaded


def _nobody(rows: int) -> Ragged:
    return Ragged(np.zeros(rows + 1, np.int64), np.zeros(0, np.int32))


def heavier_share(rows: CsrBatch) -> Float64:
    """(nnz,): of each entry the share of its row's squared length in heavier ones; equal ones as they stand."""
    row = np.repeat(np.arange(len(rows)), np.diff(rows.indptr))
    order = np.lexsort((-rows.values, row))
    squares = rows.values[order].astype(np.float64) ** 2
    sums = np.concatenate([[0], np.cumsum(squares)])
    starts, ends = sums[rows.indptr[:-1]][row], sums[rows.indptr[1:]][row]  # rows stay in their places
    share = np.empty(rows.nnz)
    share[order] = np.divide(sums[:-1] - starts, ends - starts, out=np.zeros(rows.nnz), where=ends > starts)
    return share


def _heaviest(rows: CsrBatch, share: float) -> CsrBatch:
    """As few entries of each row as make up that share of its squared length, scaled to its length."""
    row, kept = np.repeat(np.arange(len(rows)), np.diff(rows.indptr)), heavier_share(rows) < share
    squares = rows.values.astype(np.float64) ** 2
    whole, left = (np.bincount(row, weights=w, minlength=len(rows)) for w in (squares, squares * kept))
    scale = np.sqrt(whole / np.maximum(left, np.finfo(np.float64).tiny))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row[kept], minlength=len(rows)))])
    values = (rows.values * scale[row])[kept].astype(np.float32)
    return CsrBatch(indptr, rows.indices[kept], values, rows.num_cols)
