"""The deep path as one of the look-ups: which labels its outputs stand for, what it proposes, and what it says."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hashfold import checks
from hashfold.data import Dataset
from hashfold.index import ExactIndex
from hashfold.model.deep import DeepPath
from hashfold.sparse import CsrBatch, Float32, Int32, Int64, Ragged, RaggedIds

_NONE = -1


class Outputs:
    """The labels that a network's outputs stand for: all of them, or those with rows enough to learn from.

    Args:
        labels: int32 (outputs,), ascending: the label of each output. None: output i is label i.
        num_labels: how many labels the network was trained among.

    Raises: InputError: no labels; labels that do not ascend or are out of range.
    """

    def __init__(self, labels: Int32 | None, num_labels: int) -> None:
        self.num_labels = checks.integer("Outputs", "num_labels", num_labels, low=1)
        self.ids = labels
        if labels is None:
            return
        if not len(labels) or labels[0] < 0 or labels[-1] >= num_labels or (np.diff(labels) <= 0).any():
            checks.fail("Outputs", f"labels must ascend from 0 to at most {num_labels - 1}", "others")
        self._places = np.full(num_labels, _NONE, np.int32)
        self._places[labels] = np.arange(len(labels), dtype=np.int32)

    @classmethod
    def with_rows(cls, counts: Int64, least: int) -> Outputs:
        """The labels of at least so many rows; counts: int64 (num_labels,). All of them, with those of no rows,
        where `least` is 1 or no label has as many.
        """
        enough = counts >= (least if least > 1 else 0)
        some = enough.any() and not enough.all()
        return cls(np.flatnonzero(enough).astype(np.int32) if some else None, len(counts))

    def __len__(self) -> int:
        return self.num_labels if self.ids is None else len(self.ids)

    @property
    def partial(self) -> bool:
        """Some labels have no output."""
        return self.ids is not None

    @property
    def nbytes(self) -> int:
        return 0 if self.ids is None else self.ids.nbytes + self._places.nbytes

    def labels(self, places: Int32) -> Int32:
        """Of these outputs; -1 stays."""
        if self.ids is None:
            return places
        return np.where(places < 0, np.int32(_NONE), self.ids[places])

    def places(self, labels: Int32) -> Int32:
        """The outputs of these labels; -1 for one that has none, or was added after training."""
        known = labels < self.num_labels
        if self.ids is None:
            return labels if known.all() else np.where(known, labels, np.int32(_NONE))
        found: Int32 = self._places[labels if known.all() else np.where(known, labels, 0)]
        return found if known.all() else np.where(known, found, np.int32(_NONE))

    def of(self, y: RaggedIds) -> RaggedIds:
        """The outputs of each row's labels. Labels without one come after all outputs, as ids that never occur."""
        if self.ids is None:
            return y
        places = self.places(y.ids)
        ids = np.where(places < 0, len(self.ids) + y.ids, places).astype(np.int32)
        row = np.repeat(np.arange(len(y)), y.counts)
        return RaggedIds(y.indptr, ids[np.lexsort((ids, row))], len(self.ids) + y.num_ids)

    def learned(self, rows: Dataset) -> Dataset:
        """The rows with labels that have an output, and only those labels, as outputs."""
        if not self.partial:
            return rows
        y = self.of(rows.y).below(len(self))
        return replace(rows, y=y, label_names=None).take(np.flatnonzero(y.counts))


@dataclass(frozen=True)
class Deep:
    """What the network says, in ids of labels."""

    network: DeepPath
    outputs: Outputs

    def propose(self, x: CsrBatch, k: int, lookup: bool) -> tuple[Ragged, Float32]:
        """The k labels of each row with the highest logits, best first, and the hidden vectors (rows, hidden)."""
        h = self.network.hidden(x).detach().numpy()
        found = self.network.searcher(lookup).query(h, min(k, len(self.outputs)))
        return Ragged(found.indptr, self.outputs.labels(found.ids)), h

    def ranked(self, x: CsrBatch, k: int, lookup: bool) -> tuple[Ragged, Float32]:
        """The same labels, and their logits."""
        found = self.network.candidates(x, min(k, len(self.outputs)), lookup)
        return Ragged(found.indptr, self.outputs.labels(found.ids)), found.scores

    def log_chances(self, h: Float32, pairs: Ragged, proposed: Ragged) -> Float32:
        """log p(label) of each pair: of the sigmoid, or of the softmax over the labels that the deep path
        proposed, which are the first of each row's. A label without an output counts as the least of its row.
        """
        logits = self._logits(h, pairs)
        if self.network.config.loss == "sigmoid":
            logarithms: Float32 = -np.logaddexp(np.float32(0), -logits)
            return logarithms
        rank = np.arange(len(logits)) - np.repeat(pairs.indptr[:-1], pairs.counts)
        own = np.where(rank < np.repeat(proposed.counts, pairs.counts), logits, -np.inf)
        top = np.full(len(h), -np.inf, np.float32)
        filled = pairs.counts > 0
        starts = pairs.indptr[:-1][filled]
        if len(starts):
            best = np.maximum.reduceat(own, starts)
            sums = np.add.reduceat(np.exp(own - np.repeat(best, pairs.counts[filled])), starts)
            top[filled] = best + np.log(sums)
        result: Float32 = (logits - np.repeat(top, pairs.counts)).astype(np.float32)
        return result

    def _logits(self, h: Float32, pairs: Ragged) -> Float32:
        exact = self.network.searcher(False)
        assert isinstance(exact, ExactIndex)
        places = self.outputs.places(pairs.ids)
        known = places >= 0
        logits = exact.score(h, Ragged(pairs.indptr, places if known.all() else np.maximum(places, 0)))
        if not known.all():
            row = np.repeat(np.arange(len(h)), pairs.counts)
            least = np.zeros(len(h), np.float32)
            np.minimum.at(least, row[known], logits[known])
            logits[~known] = least[row[~known]]
        return logits

    def label_row(self, label: int) -> Float32 | None:
        """The label's weights, (hidden,); None if it has no output."""
        place = int(self.outputs.places(np.array([label], np.int32))[0])
        return None if place < 0 else self.network.label_row(place)
