"""The mixture of scores and its listwise loss: a small function of each candidate's features.

score = w . z + u . tanh(V z + c). `scores` and `Lists.loss` are native; `scores_reference` and `loss_reference`
are their slow twins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hashfold.kernels.native import core
from hashfold.sparse import Float32, Float64, Int64


class Weights(NamedTuple):
    """linear w float32 (features,); hidden (V, c) float32 (units, features + 1); out u float32 (units,)."""

    linear: Float32
    hidden: Float32
    out: Float32


def scores(features: Float32, weights: Weights, offset: float = 0.0) -> Float32:
    """(candidates,) of features (candidates, features), plus the offset.

    The same bits wherever a candidate stands, and at any number of threads.
    """
    found = np.empty(len(features), np.float32)
    core.mixture_scores(np.ascontiguousarray(features), *weights, offset, found)
    return found


def scores_reference(features: npt.NDArray[np.floating], weights: Weights, offset: float = 0.0) -> Float64:
    linear, hidden, out = (w.astype(np.float64) for w in weights)
    z = features.astype(np.float64)
    answer: Float64 = z @ linear + np.tanh(z @ hidden[:, :-1].T + hidden[:, -1]) @ out + offset
    return answer


@dataclass(frozen=True)
class Lists:
    """Candidates of rows, as the loss reads them; `of` makes one.

    columns: float32, a feature a row, then ones, then zeros up to a multiple of the kernel's block; after the last
    candidate as many zeros as it reads beyond. indptr int64 (rows + 1,): candidates of each row, at least one.
    share float32 (candidates,): what a candidate has of the mean over rows of the mean over their true ones.
    stands_for float32 (candidates,): so many candidates, in the softmax.
    """

    columns: Float32
    indptr: Int64
    share: Float32
    stands_for: Float32

    @classmethod
    def of(cls, z: Float32, indptr: Int64, true: npt.NDArray[np.bool_] | Float64, stands_for: Float32) -> Lists:
        """z: float32 (candidates, features). true: (candidates,), at least one of each row is; or what each counts
        in the mean over its row's true ones, 0 for the wrong ones.
        """
        count, features = z.shape
        rows = -(-(features + 1) // core.MIXTURE_BLOCK) * core.MIXTURE_BLOCK
        columns = np.zeros((rows, count + core.MIXTURE_PADDING), np.float32)
        columns[:features, :count] = z.T
        columns[features, :count] = 1
        share = true / np.repeat(np.add.reduceat(true, indptr[:-1], dtype=np.float64), np.diff(indptr))
        return cls(columns, indptr, (share / (len(indptr) - 1)).astype(np.float32), stands_for)

    def loss(self, weights: Weights) -> tuple[float, Float64]:
        """Mean over rows of the mean over their true candidates of -log softmax, and its gradient.

        The gradient is float64, by linear, hidden and out behind one another. Cost: for each candidate
        2 * units * (features + 1) multiply-adds and a tanh a unit. The same bits at any number of threads.
        """
        gradient = np.empty(sum(w.size for w in weights), np.float64)
        loss = core.mixture_loss(self.columns, self.indptr, self.share, self.stands_for, *weights, gradient)
        return float(loss), gradient


def loss_reference(lists: Lists, weights: Weights) -> tuple[float, Float64]:
    """The twin of `Lists.loss`, in double precision."""
    linear, hidden, out = (w.astype(np.float64) for w in weights)
    z = lists.columns[: len(linear) + 1, : len(lists.share)].T.astype(np.float64)
    active = np.tanh(z @ hidden.T)
    counts, starts, share = np.diff(lists.indptr), lists.indptr[:-1], lists.share.astype(np.float64)
    found = z[:, :-1] @ linear + active @ out
    shifted = found - np.repeat(np.maximum.reduceat(found, starts), counts)
    exps = np.exp(shifted) * lists.stands_for
    sums, weight = np.add.reduceat(exps, starts), np.add.reduceat(share, starts)
    loss = float(weight @ np.log(sums) - share @ shifted)
    slope = exps * np.repeat(weight / sums, counts) - share
    back = slope[:, None] * out * (1 - active**2)
    return loss, np.concatenate([slope @ z[:, :-1], (back.T @ z).ravel(), slope @ active])
