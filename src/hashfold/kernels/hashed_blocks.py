"""Folded weights where each output owns a block of buckets: trained output by output, kept in 8 bits.

The layer is that of `hashfold.kernels.hashed_linear`. `fit` and `scores_int8` are native; `fit_reference` is
the slow twin of `fit`, update by update.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hashfold.kernels.hashed_linear import places_and_signs
from hashfold.kernels.native import core
from hashfold.sparse import CsrBatch, Float32, Float64, Int32, Int64, Ragged

Int8 = npt.NDArray[np.int8]

LOSSES = ("logistic", "squared_hinge")


@dataclass(frozen=True)
class Blocks:
    """Which buckets each output has: offsets (outputs,), sizes (outputs,), and the seed and sign of the hash."""

    offsets: Int64
    sizes: Int32
    seed: int = 0
    sign: bool = False

    @classmethod
    def of_sizes(cls, sizes: Int32, seed: int = 0, sign: bool = False) -> Blocks:
        """Blocks side by side, in the order of the outputs."""
        ends = np.cumsum(sizes, dtype=np.int64)
        return cls(ends - sizes, sizes, seed, sign)

    def places_and_signs(self, features: Int32, output: int) -> tuple[Int64, Int64]:
        """Where in the output's block each feature's weight lies, and its sign."""
        one = torch.ones(len(features), dtype=torch.int64)
        size = one * int(self.sizes[output])
        places, signs = places_and_signs(torch.from_numpy(features), one * output, size, self.seed)
        return places.numpy(), signs.numpy() if self.sign else np.ones_like(signs.numpy())

    def native(self) -> Any:
        return core.HashedLayout(self.offsets, self.sizes, self.seed, self.sign, False)


@dataclass(frozen=True)
class Tasks:
    """What outputs are trained on: output labels[t] on pairs indptr[t] to indptr[t + 1].

    labels int32 (tasks,), distinct; indptr int64 (tasks + 1,); rows int32 and targets float32 (pairs,): a
    target above 1/2 says that the row has the label.
    """

    labels: Int32
    indptr: Int64
    rows: Int32
    targets: Float32


@dataclass(frozen=True)
class FitRule:
    """How outputs are trained, see `hashfold.model.Wide`."""

    loss: str = "squared_hinge"
    epochs: int = 4
    lr: float = 0.1
    floor: float = 0.1
    l2: float = 0.0
    bias_rate: float = 0.5
    initial_sum: float = 0.0
    seed: int = 0

    def native(self) -> Any:
        return core.FitRule(
            self.loss == "logistic",
            self.epochs,
            self.lr,
            self.floor,
            self.l2,
            self.bias_rate,
            self.initial_sum,
            self.seed,
        )


def scores_int8(
    x: CsrBatch, pairs: Ragged, blocks: Blocks, codes: Int8, scales: Float32, bias: Float32
) -> Float32:
    """(pairs,): bias[o] + scales[o] * sum of x_f * sign(f, o) * codes[offset[o] + place(f, o)]."""
    y = np.empty(len(pairs.ids), np.float32)
    core.hashed_linear_int8(
        x.indptr, x.indices, x.values, pairs.indptr, pairs.ids, blocks.native(), codes, scales, bias, y
    )
    return y


def fit(
    x: CsrBatch,
    tasks: Tasks,
    blocks: Blocks,
    rule: FitRule,
    bias: Float32,
    *,
    buckets: Float32 | None = None,
    codes: Int8 | None = None,
    scales: Float32 | None = None,
    warm: bool = False,
) -> Float64:
    """Trains the tasks' outputs in place: bias, and either float buckets, or codes and scales.

    Blocks must be disjoint. Others than the tasks' are not touched. warm: go on from what is there; otherwise
    weights start at 0. Returns (tasks,): the sum of each output's losses in the last epoch. The same bits at
    any number of threads. A block that overflowed has scale NaN.
    """
    losses = np.zeros(len(tasks.labels), np.float64)
    core.hashed_linear_fit(
        x.indptr,
        x.indices,
        x.values,
        tasks.labels,
        tasks.indptr,
        tasks.rows,
        tasks.targets,
        blocks.native(),
        rule.native(),
        buckets,
        codes,
        scales,
        bias,
        warm,
        losses,
    )
    return losses


def fit_reference(
    x: CsrBatch, tasks: Tasks, blocks: Blocks, rule: FitRule, bias: Float32, buckets: Float32, warm: bool = False
) -> Float64:
    """The twin of `fit` with float buckets."""
    losses = np.zeros(len(tasks.labels), np.float64)
    for t, label in enumerate(tasks.labels):
        pairs = slice(tasks.indptr[t], tasks.indptr[t + 1])
        rows, targets = tasks.rows[pairs], tasks.targets[pairs]
        if len(rows) and blocks.sizes[label]:
            block = buckets[blocks.offsets[label] :][: blocks.sizes[label]]
            if not warm:
                block[:] = 0
            losses[t] = _fit_label(x, rows, targets > 0.5, int(label), blocks, rule, block, bias)
    return losses


def _fit_label(
    x: CsrBatch,
    rows: Int32,
    positive: npt.NDArray[np.bool_],
    label: int,
    blocks: Blocks,
    rule: FitRule,
    block: Float32,
    bias: Float32,
) -> float:
    f = np.float32
    squares, bias_squares = np.full(len(block), rule.initial_sum, f), f(rule.initial_sum)
    order, random, total = list(range(len(rows))), _stream(rule.seed, label), 0.0
    for epoch in range(rule.epochs):
        _shuffle(order, random)
        done = f(epoch) / f(max(1, rule.epochs - 1))
        lr, total = f(rule.lr) * (f(1) - (f(1) - f(rule.floor)) * done), 0.0
        for k in order:
            entries = slice(x.indptr[rows[k]], x.indptr[rows[k] + 1])
            places, signs = blocks.places_and_signs(x.indices[entries], label)
            values = x.values[entries] * signs.astype(f)
            slope, loss = _slope(rule.loss, bias[label] + _four_sums(values * block[places]), bool(positive[k]))
            total += loss
            if abs(slope) < f(1e-6):
                continue
            bias_squares += slope * slope
            bias[label] -= f(rule.bias_rate) * lr * slope / np.sqrt(bias_squares + f(1e-6))
            d, seen = slope * values + f(rule.l2) * block[places], np.empty(len(values), f)
            for j, place in enumerate(places):
                squares[place] += d[j] * d[j]
                seen[j] = squares[place]
            np.subtract.at(block, places, lr * d / np.sqrt(seen + f(1e-6)))
    return total


def _slope(loss: str, score: np.float32, positive: bool) -> tuple[np.float32, float]:
    """The loss's derivative by the score, and the loss."""
    f = np.float32
    if loss == "logistic":
        slope = f(1) / (f(1) + np.exp(-score)) - f(positive)
        return slope, float(np.logaddexp(0, -score if positive else score))
    missing = max(f(0), f(1) - (score if positive else -score))
    return (-missing if positive else missing), float(missing) ** 2 / 2


def _four_sums(terms: Float32) -> np.float32:
    """As the kernel adds: entry k to sum k % 4, those of an incomplete four to the first."""
    sums = np.zeros(4, np.float32)
    whole = len(terms) // 4 * 4
    for k in range(0, whole, 4):
        sums += terms[k : k + 4]
    for term in terms[whole:]:
        sums[0] += term
    return np.float32((sums[0] + sums[1]) + (sums[2] + sums[3]))


def _mix64(x: int) -> int:
    mask = 2**64 - 1
    x = x + 0x9E3779B97F4A7C15 & mask
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & mask
    x = (x ^ x >> 27) * 0x94D049BB133111EB & mask
    return x ^ x >> 31


def _stream(seed: int, position: int) -> Iterator[int]:
    """32 random bits at a time: csrc/core/rng.hpp."""
    state = _mix64(_mix64(seed) ^ position * 0xD1B54A32D192ED03 & 2**64 - 1)
    while True:
        yield _mix64(state) >> 32
        state = state + 1 & 2**64 - 1


def _shuffle(order: list[int], random: Iterator[int]) -> None:
    """Fisher and Yates, from the end."""
    for k in range(len(order) - 1, 0, -1):
        other = next(random) * (k + 1) >> 32
        order[k], order[other] = order[other], order[k]
