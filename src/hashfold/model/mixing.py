"""How the scores of the three look-ups become one: a small function of a candidate's features, fitted on held-out rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hashfold import checks
from hashfold.index.base import Arrays, state_array
from hashfold.sparse import Float32, Int64

UNITS = 16
DECAY = 1e-3  # of the squared weights, on standardised features
FOLDS_ROWS = 200  # fewer held-out rows cannot choose between a linear mixture and one with hidden units
PAIRS = 64  # candidates of a row that the fit looks at, the true ones first


@dataclass(frozen=True)
class Mixer:
    """score = w . z + u . tanh(V z + c), z the standardised features of a (row, label) pair; u, V may be absent.

    Fitted listwise: of each held-out row, the softmax of the scores of its candidates shall give its true
    labels; what is the same for all candidates of a row does not matter then, and labels of other rows are not
    compared. `chance` makes probabilities of scores (Platt): the log-odds of a label are
    chance . (score, log sum exp of the row's scores, 1).

    Attributes: names of the features; mean, scale, linear float32 (features,); hidden float32 (units, features
    + 1), the last column c; out float32 (units,); chance float64 (3,).
    """

    names: tuple[str, ...]
    mean: Float32
    scale: Float32
    linear: Float32
    hidden: Float32
    out: Float32
    chance: npt.NDArray[np.float64]

    def scores(self, features: Float32) -> Float32:
        """(pairs,) of features (pairs, len(names))."""
        z = (torch.from_numpy(features) - torch.from_numpy(self.mean)) / torch.from_numpy(self.scale)
        y = z @ torch.from_numpy(self.linear)
        if len(self.out):
            hidden = torch.from_numpy(self.hidden)
            y += torch.tanh_(torch.addmm(hidden[:, -1], z, hidden[:, :-1].T)) @ torch.from_numpy(self.out)
        result: Float32 = y.numpy()
        return result

    def log_odds(self, scores: Float32, indptr: Int64) -> Float32:
        """Of each candidate being true, from the scores of all candidates of its row."""
        slope, shift, offset = self.chance
        per_row = np.repeat(_log_sum_exp(scores, indptr), np.diff(indptr))
        odds: Float32 = (slope * scores + shift * per_row + offset).astype(np.float32)
        return odds

    def to_arrays(self) -> Arrays:
        return {name: np.asarray(getattr(self, name)) for name in _ARRAYS}

    @classmethod
    def from_arrays(cls, names: Sequence[str], arrays: Mapping[str, Any]) -> Mixer:
        """Raises InputError: arrays that do not fit each other."""
        n, op = len(names), "Mixer"
        out = state_array(op, arrays, "out", np.float32, (None,))
        shapes = {"mean": (n,), "scale": (n,), "linear": (n,), "hidden": (len(out), n + 1), "chance": (3,)}
        kinds = {name: np.float64 if name == "chance" else np.float32 for name in shapes}
        found = {name: state_array(op, arrays, name, kinds[name], shape) for name, shape in shapes.items()}
        return cls(tuple(names), out=out, **found)


_ARRAYS = ("mean", "scale", "linear", "hidden", "out", "chance")


def fit_mixer(
    names: Sequence[str], features: Float32, indptr: Int64, true: npt.NDArray[np.bool_], *, seed: int = 0
) -> Mixer:
    """Fits a `Mixer` to the candidates of held-out rows.

    Linear, or with `UNITS` hidden units, whichever has the smaller loss on rows that it has not seen (two
    folds; linear where there are fewer than `FOLDS_ROWS` rows).

    Args:
        names: of the features. features: float32 (pairs, len(names)), finite. indptr: int64 (rows + 1,), which
        pairs are of which row. true: bool (pairs,), the label is one of the row's.
        seed: of the hidden units' first weights.

    Raises: InputError where no row has both a true and a wrong candidate: there is nothing to fit.
    """
    kept, pairs = _informative(features, indptr, true)
    if not len(kept) - 1:
        expected = "held-out rows must have true labels among their candidates, and others"
        checks.fail("fit_mixer", expected, f"none of {len(indptr) - 1} has", "hold out more rows")
    x, y = features[pairs], true[pairs]
    mean, scale = x.mean(0), np.maximum(x.std(0), 1e-6)
    z = torch.from_numpy((x - mean) / scale)
    lists = _Lists(z, torch.from_numpy(kept), torch.from_numpy(y.astype(np.float32)))
    units = UNITS if len(kept) - 1 >= FOLDS_ROWS and _gains(lists, seed) else 0
    weights = lists.fit(units, seed)
    parts = [w.detach().numpy() for w in (weights.linear, weights.hidden, weights.out)]
    mixer = Mixer(tuple(names), mean, scale, *parts, chance=np.array([1.0, -1.0, 0.0]))
    chance = _fit_chance(mixer.scores(features), indptr, true)
    return Mixer(tuple(names), mean, scale, *parts, chance=chance)


@dataclass(frozen=True)
class _Weights:
    linear: Tensor
    hidden: Tensor
    out: Tensor

    def score(self, z: Tensor) -> Tensor:
        y = z @ self.linear
        if len(self.out):
            y = y + torch.tanh(torch.addmm(self.hidden[:, -1], z, self.hidden[:, :-1].T)) @ self.out
        return y

    def all(self) -> list[Tensor]:
        return [w for w in (self.linear, self.hidden, self.out) if w.numel()]


@dataclass(frozen=True)
class _Lists:
    """Standardised features of the candidates of some rows; each row has a true one."""

    z: Tensor
    indptr: Tensor
    true: Tensor

    def rows(self, chosen: Tensor) -> _Lists:
        counts = self.indptr.diff()
        keep = torch.repeat_interleave(chosen, counts)
        indptr = torch.cat([torch.zeros(1, dtype=torch.int64), counts[chosen].cumsum(0)])
        return _Lists(self.z[keep], indptr, self.true[keep])

    def loss(self, weights: _Weights) -> Tensor:
        """Mean over rows of the mean over its true labels of -log softmax."""
        counts = self.indptr.diff()
        row = torch.repeat_interleave(torch.arange(len(counts)), counts)
        scores = weights.score(self.z)
        best = torch.segment_reduce(scores.detach(), "max", offsets=self.indptr)
        sums = torch.zeros(len(counts)).index_add(0, row, torch.exp(scores - best[row]))
        share = self.true / torch.zeros(len(counts)).index_add(0, row, self.true)[row]
        return -(share * (scores - best[row] - torch.log(sums)[row])).sum() / len(counts)

    def fit(self, units: int, seed: int) -> _Weights:
        width, generator = self.z.shape[1], torch.Generator().manual_seed(seed)
        weights = _Weights(
            torch.zeros(width),
            torch.randn(units, width + 1, generator=generator) / (width + 1) ** 0.5,
            torch.zeros(units).uniform_(-0.25, 0.25, generator=generator),
        )
        for w in weights.all():
            w.requires_grad_()
        optimizer = torch.optim.LBFGS(weights.all(), max_iter=150 if units else 60, line_search_fn="strong_wolfe")

        def closure() -> float:
            optimizer.zero_grad()
            loss = self.loss(weights) + DECAY * sum((w.square().sum() for w in weights.all()), torch.zeros(()))
            loss.backward()
            return float(loss)

        optimizer.step(closure)
        return weights


@torch.no_grad()
def _measure(lists: _Lists, weights: _Weights) -> float:
    return float(lists.loss(weights))


def _gains(lists: _Lists, seed: int) -> bool:
    """Hidden units lower the loss on rows not fitted."""
    even = torch.arange(len(lists.indptr) - 1) % 2 == 0
    losses = {0: 0.0, UNITS: 0.0}
    for fitted, unseen in ((even, ~even), (~even, even)):
        for units in losses:
            losses[units] += _measure(lists.rows(unseen), lists.rows(fitted).fit(units, seed))
    return losses[UNITS] < losses[0]


def _informative(features: Float32, indptr: Int64, true: npt.NDArray[np.bool_]) -> tuple[Int64, Int64]:
    """Rows with true and wrong candidates, cut to `PAIRS` each: their indptr, and which pairs they keep.

    True ones stay; of the others the front ones of each look-up would do, but an even sample keeps the shape of
    the list: every n-th, from the first on.
    """
    counts = np.diff(indptr)
    rows = np.repeat(np.arange(len(counts)), counts)
    hits = np.bincount(rows, weights=true, minlength=len(counts))
    useful = (hits > 0) & (hits < counts)
    wrong = np.cumsum(~true) - 1
    first = np.zeros(len(counts), np.int64)
    first[counts > 0] = wrong[indptr[:-1][counts > 0]] + true[indptr[:-1][counts > 0]]
    step = np.maximum(1, -(-(counts - hits).astype(np.int64) // PAIRS))
    keep = useful[rows] & (true | ((wrong - first[rows]) % step[rows] == 0))
    pairs = np.flatnonzero(keep)
    kept = np.bincount(rows[pairs], minlength=len(counts))[useful]
    return np.concatenate([[0], np.cumsum(kept)]).astype(np.int64), pairs


def _log_sum_exp(scores: Float32, indptr: Int64) -> npt.NDArray[np.float64]:
    """Of each row; 0 for a row without candidates."""
    counts = np.diff(indptr)
    filled = counts > 0
    out = np.zeros(len(counts))
    if not filled.any():
        return out
    starts = indptr[:-1][filled]
    best = np.maximum.reduceat(scores, starts).astype(np.float64)
    out[filled] = best + np.log(np.add.reduceat(np.exp(scores - np.repeat(best, counts[filled])), starts))
    return out


def _fit_chance(scores: Float32, indptr: Int64, true: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Slope, weight of the row's log sum exp, and offset, by logistic regression; the slope stays positive."""
    per_row = np.repeat(_log_sum_exp(scores, indptr), np.diff(indptr))
    x = torch.from_numpy(np.stack([scores, per_row, np.ones(len(scores))], 1).astype(np.float64))
    y = torch.from_numpy(true.astype(np.float64))
    weights = torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=60, line_search_fn="strong_wolfe")

    def odds() -> Tensor:
        return x[:, 0] * weights[0].exp() + x[:, 1:] @ weights[1:]

    def closure() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(odds(), y) + 1e-6 * weights.square().sum()
        loss.backward()
        return float(loss)

    optimizer.step(closure)
    slope, shift, offset = weights.detach().tolist()
    return np.array([np.exp(slope), shift, offset])
