"""Why a label: the features, hidden units and neighbours that spoke for it, and what each look-up added."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.special import expit

from hashfold import checks
from hashfold.index import Candidates
from hashfold.model.lookups import LEAST_VOTE, PROPOSALS, Lookups, key_of, vote_name
from hashfold.model.mixing import Mixer
from hashfold.model.near import CHANNELS, LEADING
from hashfold.sparse import CsrBatch, Float32, Int32

if TYPE_CHECKING:
    from hashfold.model.pipeline import HashfoldModel, Rows

_BLOCK_ROWS = 256


@dataclass(frozen=True)
class Term:
    """What a look-up said of the label (`value`), and what that added to the score (`amount`).

    The value of "count" is the label's training rows; of "deep" the log of its probability; of "wide" the sum of
    its cross weights; of "near" its neighbours' votes. Amounts are measured against a candidate of which this
    look-up says what it says on average; "rest" is what is left: the other candidates of the row, and
    how the look-ups work together.
    """

    name: str
    value: float | None
    amount: float


@dataclass(frozen=True)
class Feature:
    """An input that spoke for the label, or (amount below 0) against it."""

    feature: int
    name: str | None
    amount: float


@dataclass(frozen=True)
class Unit:
    """A hidden unit, and what its activation times its weight adds to the label's logit."""

    unit: int
    amount: float


@dataclass(frozen=True)
class Neighbour:
    """A training row (rows added later count on), its similarity, and whether it has the label."""

    row: int
    similarity: float
    has_label: bool


@dataclass(frozen=True)
class Explanation:
    """What spoke for one label of one row: see `HashfoldModel.explain`."""

    row: int
    label_id: int
    label: Any
    score: float
    probability: float | None
    terms: tuple[Term, ...]
    wide: tuple[Feature, ...]
    deep: tuple[Feature, ...]
    hidden: tuple[Unit, ...]
    neighbours: tuple[Neighbour, ...]


@torch.no_grad()
def explain(
    model: HashfoldModel,
    rows: Rows,
    k: int,
    top: int,
    parts: Collection[str] | None,
    feature_names: Sequence[str] | None,
) -> list[Explanation]:
    """See `HashfoldModel.explain`."""
    k, top = (checks.integer("explain", n, v, low=1) for n, v in (("k", k), ("top", top)))
    x = model.encode(rows)
    if feature_names is not None and len(feature_names) < x.num_cols:
        checks.fail("explain", f"there must be a name for each of the {x.num_cols} features", len(feature_names))
    told = []
    for begin in range(0, len(x), _BLOCK_ROWS):
        block = x.take(np.arange(begin, min(len(x), begin + _BLOCK_ROWS)))
        told += _Block(model, block, begin, top, parts, feature_names).explain(k)
    return told


class _Block:
    """Some rows, with what is computed once for all of them."""

    def __init__(
        self,
        model: HashfoldModel,
        x: CsrBatch,
        first: int,
        top: int,
        parts: Collection[str] | None,
        names: Sequence[str] | None,
    ) -> None:
        self.model, self.x, self.first, self.top, self.names = model, x, first, top, names
        self.parts = model.lookups.parts if parts is None else parts
        self.network = model.network if "deep" in self.parts else None
        self.hidden: Float32 | None = None if self.network is None else self.network.hidden(x).numpy()

    def explain(self, k: int) -> list[Explanation]:
        lookups = self.model.lookups
        ids, scores = lookups.top_k(self.x, k, parts=self.parts)
        terms = _Terms(lookups, self.x, k, self.parts)
        near = lookups.near.neighbours(self.x) if lookups.near is not None and "near" in self.parts else None
        told = []
        for row, label, score in zip(*_filled(ids), scores[ids >= 0].tolist(), strict=True):
            calibrated = self.model.gives_log_odds(self.parts)
            told.append(
                Explanation(
                    self.first + row,
                    label,
                    self.model.targets.label(label),
                    score,
                    float(expit(score)) if calibrated else None,
                    terms.of(row, label, score),
                    self._wide(row, label),
                    self._deep(row, label),
                    self._units(row, label),
                    () if near is None else self._neighbours(near, row, label),
                )
            )
        return told

    def _wide(self, row: int, label: int) -> tuple[Feature, ...]:
        wide = self.model.lookups.wide
        if wide is None or "wide" not in self.parts:
            return ()
        return self._features(*wide.contributions(self.x, row, label))

    def _deep(self, row: int, label: int) -> tuple[Feature, ...]:
        """Gradient times input: sum over hidden units j of W[label, j] 1[h_j > 0] V[feature, j] x_feature."""
        network, weights = self.network, self._label_row(label)
        if network is None or self.hidden is None or weights is None:
            return ()
        own = slice(int(self.x.indptr[row]), int(self.x.indptr[row + 1]))
        features, values = self.x.indices[own], self.x.values[own]
        open_units = np.where(self.hidden[row] > 0, weights, 0)
        amounts = values * (network.feature_rows(features) @ open_units)
        if network.config.unit_hidden:  # the length is taken as it is
            length = float(torch.relu(network.sums(self.x.take([row]))).norm())
            amounts = amounts / max(length, 1e-12)
        return self._features(features, amounts)

    def _units(self, row: int, label: int) -> tuple[Unit, ...]:
        weights = self._label_row(label)
        if self.hidden is None or weights is None:
            return ()
        amounts = self.hidden[row] * weights
        return tuple(Unit(int(j), float(amounts[j])) for j in _largest(amounts, self.top))

    def _label_row(self, label: int) -> Float32 | None:
        """Of the network; it has none for labels of few rows, or that were added later."""
        return None if self.network is None else self.model.lookups.deep.label_row(label)

    def _neighbours(self, found: Candidates, row: int, label: int) -> tuple[Neighbour, ...]:
        near = self.model.lookups.near
        assert near is not None
        shown = found[row][: self.top]
        similarities = found.scores[found.indptr[row] :][: len(shown)]
        said = zip(shown.tolist(), similarities.tolist(), near.have(shown, label).tolist(), strict=True)
        return tuple(Neighbour(*each) for each in said)

    def _features(self, features: Int32, amounts: Float32) -> tuple[Feature, ...]:
        chosen = [(int(features[at]), float(amounts[at])) for at in _largest(amounts, self.top)]
        return tuple(Feature(feature, self._name(feature), amount) for feature, amount in chosen)

    def _name(self, feature: int) -> str | None:
        if self.names is not None:
            return self.names[feature]
        vectorizer = self.model.vectorizer
        return None if vectorizer is None else str(vectorizer.feature_name(feature))


class _Terms:
    """What each look-up adds to the scores of the candidates of some rows."""

    def __init__(self, lookups: Lookups, x: CsrBatch, k: int, parts: Collection[str]) -> None:
        key = key_of(parts)
        self._lookups, self._key = lookups, key
        if key in lookups.mixers:
            self._pairs, self._columns = lookups.features(x, key.split("+"), proposals=max(k, PROPOSALS))

    def of(self, row: int, label: int, score: float) -> tuple[Term, ...]:
        """Their amounts add up to the score; none where one look-up is alone."""
        if self._key not in self._lookups.mixers:
            return ()
        mixer, chosen = self._mixer(label)
        at = int(self._pairs.indptr[row]) + int(np.flatnonzero(self._pairs[row] == label)[0])
        columns = self._columns[at, chosen]
        terms = []
        for look_up in dict.fromkeys(name.split("_")[0] for name in mixer.names):
            own = np.array([name.split("_")[0] == look_up for name in mixer.names])
            both = np.stack([columns, np.where(own, mixer.mean, columns)]).astype(np.float32)
            with_it, without = mixer.scores(both)
            value = self._lookups.counts[label] if look_up == "count" else columns[own][-1]
            if look_up == "near":
                value = np.exp(columns[mixer.names.index(vote_name(*CHANNELS[LEADING]))]) - LEAST_VOTE
            terms.append(Term(look_up, float(value), float(mixer.chance[0] * (with_it - without))))
        return (*terms, Term("rest", None, score - sum(term.amount for term in terms)))

    def _mixer(self, label: int) -> tuple[Mixer, list[int]]:
        """What scored the label, and the columns it looked at."""
        if label >= self._lookups.learned:
            return self._lookups.mixer_of_added(self._key)
        mixer = self._lookups.mixers[self._key]
        return mixer, list(range(len(mixer.names)))


def _filled(ids: Int32) -> tuple[list[int], list[int]]:
    """Rows and ids of what was found."""
    rows, _ = np.nonzero(ids >= 0)
    return rows.tolist(), ids[ids >= 0].tolist()


def _largest(amounts: Float32, top: int) -> list[int]:
    """Where the largest amounts are, by size whatever their sign; zeros are left out."""
    order = np.argsort(-np.abs(amounts), kind="stable")[:top]
    return [int(at) for at in order if amounts[at] != 0]
