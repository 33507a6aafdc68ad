"""How the scores of the three look-ups become one: a small function of a candidate's features, fitted to rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from threadpoolctl import ThreadpoolController

from hashfold import checks
from hashfold.index.base import Arrays, state_array
from hashfold.kernels import mixture
from hashfold.kernels.mixture import Lists, Weights
from hashfold.kernels.native import core
from hashfold.sparse import Float32, Float64, Int32, Int64

UNITS = 8
STARTS = 3  # mixers of so many first weights: their mean, or with many rows one of as many units as they together
DECAY = 1e-3  # of the squared weights, on standardised features
ITERATIONS, MORE_ITERATIONS = 40, 60
ROWS_FOR_UNITS = 200  # with fewer held-out rows the mixture is linear
ROWS_TOGETHER = 1_500  # with fewer the mean of several mixers is better than as many units in one
FRONT = 5  # candidates of a row on which probabilities are calibrated
PAIRS = 16  # wrong candidates of a row that the fit looks at one by one


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
        linear, offset = self._of_raw(self.linear[None], np.zeros(1))
        hidden, bias = self._of_raw(self.hidden[:, :-1], self.hidden[:, -1])
        weights = Weights(linear[0], np.concatenate([hidden, bias[:, None]], 1), self.out)
        return mixture.scores(features, weights, float(offset[0]))

    def _of_raw(self, weight: npt.NDArray[Any], bias: npt.NDArray[Any]) -> tuple[Float32, Float32]:
        """The same weights (units, features) and biases (units,) for features that are not standardised."""
        raw = weight.astype(np.float64) / self.scale
        return raw.astype(np.float32), (bias - raw @ self.mean).astype(np.float32)

    def log_odds(self, scores: Float32, indptr: Int64) -> Float32:
        """Of each candidate being true, from the scores of all candidates of its row."""
        slope, shift, offset = self.chance
        per_row = np.repeat(_log_sum_exp(scores, indptr), np.diff(indptr))
        odds: Float32 = (slope * scores + shift * per_row + offset).astype(np.float32)
        return odds

    def after(self, slope: npt.NDArray[np.float64], offset: npt.NDArray[np.float64]) -> Mixer:
        """The mixer of features f that scores as this one does slope * f + offset (one each, slope above 0)."""
        mean, scale = (self.mean - offset) / slope, self.scale / slope
        return replace(self, mean=mean.astype(np.float32), scale=scale.astype(np.float32))

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
    names: Sequence[str],
    features: Float32,
    indptr: Int64,
    true: npt.NDArray[np.bool_],
    *,
    weights: Float64 | None = None,
    seed: int = 0,
    starts: int = STARTS,
) -> Mixer:
    """Fits a `Mixer` to the candidates of held-out rows, by L-BFGS.

    First a linear one; of each row it picks the `PAIRS` wrong candidates that it scores highest. Then, where there
    are `ROWS_FOR_UNITS` rows, the mixer is fitted to these and to a sample of the others, starting from there: one
    of `starts` times `UNITS` hidden units where there are `ROWS_TOGETHER` rows, else the mean of `starts` mixers
    of `UNITS` each (it is a mixer of as many). The candidates left out are made up for by the weight of those
    sampled, so that the softmax is over all of them.

    Args:
        names: of the features. features: float32 (pairs, len(names)), finite. indptr: int64 (rows + 1,), which
        pairs are of which row. true: bool (pairs,), the label is one of the row's.
        weights: (pairs,), above 0: what a true label counts beside the others of its row; by default all alike.
        seed: of the hidden units' first weights. starts: more of them fit better and take as much longer.

    Raises: InputError where no row has both a true and a wrong candidate: there is nothing to fit.
    """
    first = _chosen(np.zeros(len(true), np.float32), indptr, true)
    rows = len(first.indptr) - 1
    if not rows:
        expected = "held-out rows must have true labels among their candidates, and others"
        checks.fail("fit_mixer", expected, f"none of {len(indptr) - 1} has", "hold out more rows")
    mean, scale = features.mean(0), np.maximum(features.std(0), 1e-6)
    z = (features - mean) / scale
    share = true.astype(np.float64) if weights is None else np.where(true, weights, 0.0)
    with _libraries().limit(limits=1, user_api="blas"):  # L-BFGS-B's own products are far too small for threads
        linear = _fit(_lists(z, share, first), _Shape(len(names), 0), seed).linear
        lists = _lists(z, share, _chosen(z @ linear, indptr, true))
        if rows < ROWS_FOR_UNITS:
            found = _fit(lists, _Shape(len(names), 0), seed, linear)
        elif rows < ROWS_TOGETHER:
            found = _mean([_fit(lists, _Shape(len(names), UNITS), seed + at, linear) for at in range(starts)])
        else:
            found = _fit(lists, _Shape(len(names), UNITS * starts), seed, linear, MORE_ITERATIONS)
        mixer = Mixer(tuple(names), mean, scale, *found, chance=np.array([1.0, -1.0, 0.0]))
        return replace(mixer, chance=_fit_chance(mixer.scores(features), indptr, true))


@cache
def _libraries() -> ThreadpoolController:
    """Found once: to look for them takes as long as a small fit."""
    return ThreadpoolController()


def _mean(fitted: Sequence[Weights]) -> Weights:
    """The weights that score as all of them do in the mean."""
    linear, hidden, out = zip(*fitted, strict=True)
    share = np.float32(1 / len(fitted))
    return Weights(share * np.sum(linear, 0), np.concatenate(hidden), share * np.concatenate(out))


@dataclass(frozen=True)
class _Shape:
    """Of the weights, and how they lie in one vector."""

    features: int
    units: int

    def start(self, seed: int, linear: Float32 | None) -> Float32:
        rng = np.random.default_rng(seed)
        width = self.features + 1
        parts = [
            np.zeros(self.features) if linear is None else linear,
            rng.normal(0, width**-0.5, self.units * width),
            rng.uniform(-0.25, 0.25, self.units),
        ]
        return np.concatenate(parts).astype(np.float32)

    def unpack(self, vector: npt.NDArray[Any]) -> Weights:
        v = np.asarray(vector, np.float32)
        hidden = v[self.features : len(v) - self.units].reshape(self.units, self.features + 1)
        return Weights(v[: self.features].copy(), hidden.copy(), v[len(v) - self.units :].copy())


class _Chosen(NamedTuple):
    indptr: Int64
    pairs: Int64
    stands_for: Float32


def _lists(z: Float32, share: Float64, chosen: _Chosen) -> Lists:
    return Lists.of(z[chosen.pairs], chosen.indptr, share[chosen.pairs], chosen.stands_for)


def _minimize(loss: Callable[[Float64], tuple[float, Float64]], start: Any, **settings: Any) -> Any:
    from scipy.optimize import minimize  # 20 MB that who predicts can do without

    return minimize(loss, start, jac=True, method="L-BFGS-B", **settings)


def _fit(
    lists: Lists, shape: _Shape, seed: int, linear: Float32 | None = None, iterations: int = ITERATIONS
) -> Weights:
    def loss(vector: Float64) -> tuple[float, Float64]:
        value, gradient = lists.loss(shape.unpack(vector))
        return value + DECAY * float(vector @ vector), gradient + 2 * DECAY * vector

    start = shape.start(seed, linear)
    found = _minimize(loss, start, options={"maxiter": iterations})
    return shape.unpack(found.x)


def _chosen(scores: Float32, indptr: Int64, true: npt.NDArray[np.bool_]) -> _Chosen:
    """Of the rows with true and wrong candidates: the true ones, the `PAIRS` wrong ones with the highest scores,
    and an even sample of about as many others, each of which stands for those left out beside it.
    """
    counts = np.diff(indptr)
    rows = np.repeat(np.arange(len(counts)), counts)
    hits = np.bincount(rows, weights=true, minlength=len(counts)).astype(np.int64)
    useful = (hits > 0) & (hits < counts)
    _, order = ranked(np.where(true, np.float32(np.inf), scores), indptr)  # the true, then the best wrong ones
    beyond = np.arange(len(rows)) - (indptr[:-1] + hits + PAIRS)[rows]
    easy = np.maximum(counts - hits - PAIRS, 0)
    step = np.maximum(1, easy // PAIRS)
    sampled = -(-easy // step)
    keep = useful[rows] & ((beyond < 0) | (beyond % step[rows] == 0))
    stands_for = np.where(beyond < 0, 1.0, (easy / np.maximum(sampled, 1))[rows])[keep].astype(np.float32)
    kept = np.bincount(rows[keep], minlength=len(counts))[useful]
    return _Chosen(np.concatenate([[0], np.cumsum(kept)]).astype(np.int64), order[keep], stands_for)


def ranked(scores: Float32, indptr: Int64, most: int | None = None) -> tuple[Int64, Int32]:
    """Positions of the `most` (default: all) highest scores of each row, best first, and the rows' pointers."""
    most = int(np.diff(indptr).max(initial=0)) if most is None else most
    kept, order, values = indptr.copy(), np.arange(len(scores), dtype=np.int32), scores.copy()
    core.rank_rows(most, kept, order, values)
    return kept, order[: kept[-1]]


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
    """Slope, weight of the row's log sum exp, and offset, by logistic regression; the slope stays positive.

    On the `FRONT` best candidates of each row: those that are shown. The many others, nearly all wrong, would
    outvote them.
    """
    shown, front = ranked(scores, indptr, FRONT)
    per_row = np.repeat(_log_sum_exp(scores, indptr), np.diff(shown))
    x = np.stack([scores[front], per_row, np.ones(len(front))], 1)
    x, y = x.astype(np.float64), true[front]

    def loss(weights: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        odds = x @ weights
        value = np.logaddexp(0, odds).mean() - odds[y].sum() / len(odds) + 1e-6 * weights @ weights
        return float(value), x.T @ (expit(odds) - y) / len(odds) + 2e-6 * weights

    bounds = [(1e-3, None), (None, None), (None, None)]
    found = _minimize(loss, [1.0, -1.0, 0.0], bounds=bounds)
    chance: npt.NDArray[np.float64] = np.asarray(found.x, np.float64)
    return chance
