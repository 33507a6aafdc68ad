"""The three look-ups together: who proposes labels, what each says of them, and the score that comes of it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hashfold import checks
from hashfold.index import ExactIndex
from hashfold.index.base import Arrays
from hashfold.kernels.native import core
from hashfold.metrics import contains
from hashfold.model.mixing import Mixer
from hashfold.model.near import CHANNELS, Near
from hashfold.model.network import LookupNetwork
from hashfold.model.wide import Wide
from hashfold.sparse import CsrBatch, Float32, Int32, Int64, Ragged, RaggedIds

PARTS = ("deep", "wide", "near")
PROPOSALS = 100  # labels that the deep path proposes for a row, and as many the neighbours
_BLOCK_ROWS = 2_048
LEAST_VOTE = 0.003  # what a label without votes counts as, before the logarithm


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

    network: the deep path. near, wide: absent where the model has none. counts: int64 (num_labels,), training
    rows of each label. mixers: by `key_of` their parts; a combination without one is scored by the network
    alone, so it has to be ("deep",).
    """

    network: LookupNetwork
    counts: Int64
    near: Near | None = None
    wide: Wide | None = None
    mixers: dict[str, Mixer] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[str, ...]:
        """That the model has."""
        return tuple(p for p in PARTS if p == "deep" or getattr(self, p) is not None)

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
        votes = None
        pairs = proposed
        if "near" in parts and self.near is not None:
            pairs, votes = self.near.join(x, proposed, proposals, exclude)
        columns = [np.log1p(self.counts[pairs.ids]).astype(np.float32)[:, None]]
        if h is not None:
            columns.append(self._deep(h, pairs, proposed)[:, None])
        if "wide" in parts and self.wide is not None:
            columns.append(self.wide.scores(x, pairs)[:, None])
        if votes is not None:
            columns.append(np.log(votes + np.float32(LEAST_VOTE)))
        return pairs, np.concatenate(columns, 1)

    def _deep(self, h: Float32, pairs: Ragged, proposed: Ragged) -> Float32:
        """log p(label): of the sigmoid, or of the softmax over the labels that the deep path proposed."""
        exact = self.network.searcher(False)
        assert isinstance(exact, ExactIndex)
        known = pairs.ids < self.network.config.num_labels  # others were added after training
        logits = exact.score(h, pairs if known.all() else Ragged(pairs.indptr, np.where(known, pairs.ids, 0)))
        if not known.all():
            row = np.repeat(np.arange(len(h)), pairs.counts)
            least = np.zeros(len(h), np.float32)
            np.minimum.at(least, row[known], logits[known])
            logits[~known] = least[row[~known]]
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
        scores are its logits.

        Raises InputError: parts that the model lacks, or that it was not fitted to combine.
        """
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
        if key == "deep" and key not in self.mixers:
            found = self.network.candidates(x, min(proposals, self.network.config.num_labels), lookup)
            return Ragged(found.indptr, found.ids), found.scores
        mixer = self.mixers[key]
        pairs, features = self.features(x, key.split("+"), proposals=proposals, lookup=lookup)
        odds = mixer.log_odds(mixer.scores(features), pairs.indptr)
        added = pairs.ids >= self.network.config.num_labels
        if added.any():
            voted, columns = self.mixer_of_added(key)
            scores = voted.scores(np.ascontiguousarray(features[:, columns]))
            odds = np.where(added, voted.log_odds(scores, pairs.indptr), odds)
        return pairs, odds

    def mixer_of_added(self, key: str) -> tuple[Mixer, list[int]]:
        """What scores labels added after training, and which features of combination `key` it looks at.

        That of the neighbours alone: the others would take what they never learned for a verdict. (Measured:
        with the others' least and starting scores instead, new labels are hardly ever among the first five.)
        """
        names, mixer = self.mixers[key].names, self.mixers.get("near", self.mixers[key])
        return mixer, [names.index(name) for name in mixer.names]

    @property
    def choices(self) -> list[str]:
        """Keys of the parts that can predict: those fitted to be combined, and the deep path alone."""
        return list(dict.fromkeys([*self.mixers, "deep"]))

    def _checked(self, parts: Collection[str]) -> Collection[str]:
        if not set(parts) <= set(PARTS) or key_of(parts) not in self.choices:
            came, known = "+".join(parts) or "none", ", ".join(self.choices)
            checks.fail("top_k", f"the look-ups to use must be one of {known}", came, "train with those")
        return parts

    def recall(
        self, x: CsrBatch, y: RaggedIds, *, lookup: bool = False, parts: Collection[str] | None = None
    ) -> float:
        """The share of the rows' labels that are among their candidates; NaN without labels."""
        proposing = [p for p in (self.parts if parts is None else parts) if p != "wide"]
        found = 0
        for begin in range(0, len(x), _BLOCK_ROWS):
            rows = np.arange(begin, min(len(x), begin + _BLOCK_ROWS))
            found += int(contains(y.take(rows), self.candidates(x.take(rows), proposing, lookup=lookup)).sum())
        return found / len(y.ids) if len(y.ids) else float("nan")

    def candidates(
        self, x: CsrBatch, parts: Collection[str], *, proposals: int = PROPOSALS, lookup: bool = False
    ) -> Ragged:
        """The labels that "deep" and "near", where they are among `parts`, propose for each row."""
        proposed, _ = self._proposed(x, parts, proposals, lookup)
        if "near" in parts and self.near is not None:
            return self.near.join(x, proposed, proposals)[0]
        return proposed

    def _proposed(
        self, x: CsrBatch, parts: Collection[str], proposals: int, lookup: bool
    ) -> tuple[Ragged, Float32 | None]:
        """What the deep path proposes, and the hidden vectors; nothing where it has no part."""
        if "deep" not in parts:
            return Ragged(np.zeros(len(x) + 1, np.int64), np.zeros(0, np.int32)), None
        h = self.network.hidden(x).detach().numpy()
        found = self.network.searcher(lookup).query(h, min(proposals, self.network.config.num_labels))
        return Ragged(found.indptr, found.ids), h

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
            nothing = Ragged(np.zeros(1, np.int64), np.zeros(0, np.int32))
            self.wide.add(x.take(np.zeros(0, np.int64)), nothing, np.zeros(0, np.float32), num_labels=labels)
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


def lookups_to_state(lookups: Lookups) -> tuple[dict[str, Any], Arrays]:
    """JSON-able settings and the arrays of all but the network; both empty where there is nothing else."""
    settings: dict[str, Any] = {}
    arrays: Arrays = {}
    for name, part in (("near", lookups.near), ("wide", lookups.wide)):
        if part is not None:
            settings[name] = part.config()
            arrays |= {f"{name}.{key}": array for key, array in part.state().items()}
    if lookups.mixers:
        settings["mixers"] = {key: list(mixer.names) for key, mixer in lookups.mixers.items()}
    for key, mixer in lookups.mixers.items():
        arrays |= {f"mixer.{key}.{name}": array for name, array in mixer.to_arrays().items()}
    return settings, arrays


def load_lookups(lookups: Lookups, settings: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Gives `lookups` the parts of `lookups_to_state`. Raises InputError, KeyError: arrays that do not fit."""

    def part(prefix: str) -> dict[str, Any]:
        return {n.removeprefix(prefix): np.asarray(a) for n, a in arrays.items() if n.startswith(prefix)}

    if "near" in settings:
        lookups.near = Near(**settings["near"])
        lookups.near.load_state(part("near."))
    if "wide" in settings:
        lookups.wide = Wide(**settings["wide"])
        lookups.wide.load_state(part("wide."))
    for key, names in settings.get("mixers", {}).items():
        lookups.mixers[key] = Mixer.from_arrays(names, part(f"mixer.{key}."))
