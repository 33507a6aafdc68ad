"""The three look-ups together: who proposes labels, what each says of them, and the score that comes of it."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from hashfold import checks
from hashfold.kernels.native import core
from hashfold.metrics import contains
from hashfold.model.deep import DeepPath
from hashfold.model.deep_lookup import Deep, Outputs
from hashfold.model.mixing import Mixer
from hashfold.model.near import CHANNELS, LEADING, Near
from hashfold.model.pruned import PrunedWide
from hashfold.model.wide import Wide
from hashfold.sparse import CsrBatch, Float32, Int32, Int64, Ragged, RaggedIds

PARTS = ("deep", "wide", "near")
PROPOSALS = 50  # labels that the deep path proposes for a row, and as many the neighbours
RECALL_AT = 100  # proposals of each of which `recall` tells how many labels they hold
_BLOCK_ROWS = 2_048
LEAST_VOTE = 0.003  # what a label without votes counts as, before the logarithm
LEAST_ROWS = 4
"""What a label with fewer rows counts as, before the logarithm. Holding rows out takes one from the labels that
are right; of labels with one or two rows, those with one left would be known for the right ones."""


def key_of(parts: Collection[str]) -> str:
    """The name of a combination: its parts in the order of `PARTS`, joined by "+"."""
    return "+".join(part for part in PARTS if part in parts)


def combinations(parts: Collection[str]) -> list[tuple[str, ...]]:
    """All of them, each left out in turn, and near alone; those in which somebody proposes labels."""
    whole = tuple(part for part in PARTS if part in parts)
    without = [tuple(part for part in whole if part != left_out) for left_out in whole]
    near = tuple(part for part in whole if part == "near")  # for labels of which only neighbours know
    able = [c for c in (whole, *without, near) if "deep" in c or "near" in c]
    return [c for c in dict.fromkeys(able) if c != ("deep",)]


def vote_name(count: int, power: float) -> str:
    """Of the feature with the votes of so many neighbours by that power of their similarity."""
    return f"near_{count}_{power:g}"


def feature_names(parts: Collection[str]) -> tuple[str, ...]:
    """Of the features of a pair, in the order of their columns."""
    votes = tuple(vote_name(count, power) for count, power in CHANNELS)
    return (
        "count",
        *(("deep",) * ("deep" in parts)),
        *(("wide",) * ("wide" in parts)),
        *(votes * ("near" in parts)),
    )


@dataclass
class Lookups:
    """Candidates from the deep path and from the neighbours, scored by all three and mixed.

    network: the deep path. near, wide: like it, absent where the model has none, but network or near is there.
    counts: int64 (num_labels,), training rows of each label. mixers: by `key_of` their parts; a combination
    without one is `alone`. learned: labels that training knew, by default all; others were added after it.
    outputs: the labels that the network's outputs stand for, by default all that training knew.
    """

    network: DeepPath | None
    counts: Int64
    near: Near | None = None
    wide: Wide | PrunedWide | None = None
    mixers: dict[str, Mixer] = field(default_factory=dict)
    learned: int = 0
    outputs: Outputs | None = None

    def __post_init__(self) -> None:
        self.learned = self.learned or len(self.counts)

    @property
    def parts(self) -> tuple[str, ...]:
        """That the model has."""
        there = {"deep": self.network, "wide": self.wide, "near": self.near}
        return tuple(p for p in PARTS if there[p] is not None)

    @property
    def alone(self) -> str:
        """Which look-up scores by itself where nothing is fitted: the deep path, or near where there is none."""
        return "near" if self.network is None else "deep"

    @property
    def deep(self) -> Deep:
        """The network with its labels. Only for models that have one."""
        assert self.network is not None
        return Deep(self.network, self.outputs or Outputs(None, self.learned))

    def features(
        self,
        x: CsrBatch,
        parts: Collection[str] | None = None,
        *,
        proposals: int = PROPOSALS,
        lookup: bool = False,
        exclude: npt.ArrayLike | None = None,
    ) -> tuple[Ragged, Float32]:
        """The candidates of each row and float32 (pairs, features) of them, columns as `feature_names`.

        exclude: as of `RowIndex.query`, for rows that are among the neighbours themselves.
        """
        parts = self.parts if parts is None else parts
        proposed, h = self._proposed(x, parts, proposals, lookup)
        pairs, votes = self._joined(x, proposed, parts, proposals, exclude)
        columns = [self._log_counts(pairs.ids)[:, None]]
        if h is not None:
            columns.append(self.deep.log_chances(h, pairs, proposed)[:, None])
        if "wide" in parts and self.wide is not None:
            columns.append(self.wide.scores(x, pairs)[:, None])
        if votes is not None:
            votes += np.float32(LEAST_VOTE)
            columns.append(np.log(votes, out=votes))
        return pairs, np.concatenate(columns, 1)

    def _log_counts(self, labels: Int32) -> Float32:
        """A logarithm takes longer than looking it up: where labels come often, one of each is taken."""
        often = len(labels) > len(self.counts)
        counts = self.counts if often else self.counts[labels]
        logarithms: Float32 = np.log1p(np.maximum(counts, LEAST_ROWS)).astype(np.float32)
        return logarithms[labels] if often else logarithms

    @torch.no_grad()
    def top_k(
        self,
        x: CsrBatch,
        k: int,
        *,
        lookup: bool = False,
        parts: Collection[str] | None = None,
        boost: Float32 | None = None,
    ) -> tuple[Int32, Float32]:
        """The k best labels of each row and the log-odds that they are true, best first: (rows, k) each.

        parts: the look-ups to use, by default all that the model has. lookup: the deep path proposes what its
        index finds, instead of scoring every label. boost: float32 (num_labels,), added to the log-odds (for
        rare labels, say). Rows with fewer candidates end in id -1 with score -inf. With the deep path alone,
        scores are its logits; with near alone and not fitted, the logarithms of the votes.

        Raises InputError: parts that the model lacks, or that it was not fitted to combine; lookup without a
        deep path.
        """
        if lookup:
            self.check_lookup("top_k")
        key = key_of(self.parts if parts is None else self._checked(parts))
        k = min(k, len(self.counts))
        ids, scores = np.full((len(x), k), -1, np.int32), np.full((len(x), k), -math.inf, np.float32)
        for begin in range(0, len(x), _BLOCK_ROWS):
            rows = slice(begin, min(len(x), begin + _BLOCK_ROWS))
            pairs, odds = self._odds(x.take(np.arange(len(x))[rows]), key, max(k, PROPOSALS), lookup)
            if boost is not None:
                odds = odds + boost[pairs.ids]
            _fill(pairs, odds, ids[rows], scores[rows])
        return ids, scores

    def _odds(self, x: CsrBatch, key: str, proposals: int, lookup: bool) -> tuple[Ragged, Float32]:
        if key not in self.mixers:
            return self._votes(x, proposals) if self.network is None else self.deep.ranked(x, proposals, lookup)
        mixer = self.mixers[key]
        pairs, features = self.features(x, key.split("+"), proposals=proposals, lookup=lookup)
        odds = mixer.log_odds(mixer.scores(features), pairs.indptr)
        added = pairs.ids >= self.learned
        if added.any():
            voted, columns = self.mixer_of_added(key)
            scores = voted.scores(np.ascontiguousarray(features[:, columns]))
            odds = np.where(added, voted.log_odds(scores, pairs.indptr), odds)
        return pairs, odds

    def _votes(self, x: CsrBatch, proposals: int) -> tuple[Ragged, Float32]:
        """Logarithms, so that a softmax gives each label its share of the votes; ties go to frequent labels."""
        pairs, votes = self._joined(x, _none(len(x)), ("near",), proposals)
        assert votes is not None
        prior = LEAST_VOTE * self.counts[pairs.ids] / max(1, int(self.counts.sum()))
        return pairs, np.log(votes[:, LEADING] + prior).astype(np.float32)

    def mixer_of_added(self, key: str) -> tuple[Mixer, list[int]]:
        """What scores labels added after training, and which features of combination `key` it looks at.

        That of the neighbours alone: the others would take what they never learned for a verdict. (Measured:
        with the others' least and starting scores instead, new labels are hardly ever among the first five.)
        """
        names, mixer = self.mixers[key].names, self.mixers.get("near", self.mixers[key])
        return mixer, [names.index(name) for name in mixer.names]

    @property
    def choices(self) -> list[str]:
        """Keys of the parts that can predict: those fitted to be combined, and the one that needs no fit."""
        return list(dict.fromkeys([*self.mixers, self.alone]))

    def check_lookup(self, op: str) -> None:
        """Raises InputError: there is no output layer whose labels could be looked up."""
        if self.network is None:
            remedy = "predict without lookup; the neighbours are looked up in any case"
            checks.fail(op, "the model must have the deep path to look labels up", "+".join(self.parts), remedy)

    def _checked(self, parts: Collection[str]) -> Collection[str]:
        if not set(parts) <= set(PARTS) or key_of(parts) not in self.choices:
            came, known = "+".join(parts) or "none", ", ".join(self.choices)
            checks.fail("top_k", f"the look-ups to use must be one of {known}", came, "train with those")
        return parts

    def recall(
        self, x: CsrBatch, y: RaggedIds, *, lookup: bool = False, parts: Collection[str] | None = None
    ) -> float:
        """The share of the rows' labels among their candidates, `RECALL_AT` of each look-up that proposes some;
        NaN without labels.
        """
        proposing = [p for p in (self.parts if parts is None else parts) if p != "wide"]
        found = 0
        for begin in range(0, len(x), _BLOCK_ROWS):
            rows = np.arange(begin, min(len(x), begin + _BLOCK_ROWS))
            pairs = self.candidates(x.take(rows), proposing, proposals=RECALL_AT, lookup=lookup)
            found += int(contains(y.take(rows), pairs).sum())
        return found / len(y.ids) if len(y.ids) else float("nan")

    def candidates(
        self, x: CsrBatch, parts: Collection[str], *, proposals: int = PROPOSALS, lookup: bool = False
    ) -> Ragged:
        """The labels that "deep" and "near", where they are among `parts`, propose for each row."""
        proposed, _ = self._proposed(x, parts, proposals, lookup)
        return self._joined(x, proposed, parts, proposals)[0]

    def _proposed(
        self, x: CsrBatch, parts: Collection[str], proposals: int, lookup: bool
    ) -> tuple[Ragged, Float32 | None]:
        """What the deep path proposes, and the hidden vectors; nothing where it has no part."""
        if "deep" not in parts:
            return _none(len(x)), None
        return self.deep.propose(x, proposals, lookup)

    def _joined(
        self,
        x: CsrBatch,
        proposed: Ragged,
        parts: Collection[str],
        proposals: int,
        exclude: npt.ArrayLike | None = None,
    ) -> tuple[Ragged, Float32 | None]:
        """What is proposed and, with near, the neighbours' labels, with their votes.

        A row for which nobody proposes anything gets the most frequent labels.
        """
        if "near" not in parts or self.near is None:
            return proposed, None
        pairs, votes = self.near.join(x, proposed, proposals, exclude)
        if pairs.counts.all():
            return pairs, votes
        return _filled_up(pairs, votes, _most_frequent(self.counts, proposals))

    def add(self, x: CsrBatch, y: RaggedIds) -> None:
        """New training rows (weighted) and their labels, also new ones: found at once, nothing is trained.

        Of a new label the network and the cross weights know nothing: it is scored as by the neighbours alone.
        Raises InputError, and nothing is added: a model without neighbours; rows that `Near.add` refuses.
        """
        if self.near is None:
            remedy = "train it with near, on enough rows to hold some out"
            checks.fail("add", "the model must look up neighbours", f"{'+'.join(self.parts)}", remedy)
        labels = max(len(self.counts), y.num_ids)
        self.near.add(x, y)
        self.near.num_labels = labels
        if self.wide is not None:
            self.wide.grow(labels)
        grown = np.zeros(labels, np.int64)
        grown[: len(self.counts)] = self.counts
        self.counts = grown + np.bincount(y.ids, minlength=labels)


def _fill(pairs: Ragged, scores: Float32, top: Int32, best: Float32) -> None:
    """The best of each row's candidates, into arrays (rows, k) that end in what they hold."""
    indptr, ids, values = pairs.indptr.copy(), pairs.ids.copy(), np.ascontiguousarray(scores, np.float32).copy()
    core.rank_rows(top.shape[1], indptr, ids, values)
    counts = np.diff(indptr)
    filled = np.arange(top.shape[1]) < counts[:, None]
    top[filled], best[filled] = ids[: indptr[-1]], values[: indptr[-1]]


def _none(rows: int) -> Ragged:
    return Ragged(np.zeros(rows + 1, np.int64), np.zeros(0, np.int32))


def _most_frequent(counts: Int64, most: int) -> Int32:
    """Labels that occur, the most frequent first; equal ones by smaller id."""
    least = np.partition(counts, -most)[-most] if most < len(counts) else 0
    ids = np.flatnonzero(counts >= max(1, least))
    return ids[np.argsort(-counts[ids], kind="stable")[:most]].astype(np.int32)


def _filled_up(pairs: Ragged, votes: Float32, labels: Int32) -> tuple[Ragged, Float32]:
    """`labels`, without votes, for the rows that have none."""
    counts = pairs.counts.copy()
    had = counts > 0
    counts[~had] = len(labels)
    kept = np.repeat(had, counts)
    ids, filled = np.empty(len(kept), np.int32), np.zeros((len(kept), votes.shape[1]), np.float32)
    ids[kept], filled[kept] = pairs.ids, votes
    ids[~kept] = np.tile(labels, int((~had).sum()))
    return Ragged(np.concatenate([[0], np.cumsum(counts)]), ids), filled
