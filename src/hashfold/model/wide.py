"""The wide path: a weight for each feature and label, folded into buckets, trained label by label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from hashfold import checks
from hashfold.index.base import Arrays, state_array
from hashfold.kernels import hashed_blocks as kernels
from hashfold.kernels.hashed_blocks import Blocks, FitRule, Int8, Tasks
from hashfold.sparse import MAX_IDS, CsrBatch, Float32, Float64, Int32, Int64, Ragged

LEAST_BUCKETS = 16
"""Of a label that has training pairs."""

MOST_PER_NONZERO = 4
"""Buckets for each nonzero that a label is trained on; more would stay empty."""

FEWEST, MOST = 2**18, 2**28


def buckets_for(num_pairs_nnz: int, bytes_budget: int) -> int:
    """Buckets (a byte each) of a wide path trained on so many nonzeros, summed over its pairs.

    One for each nonzero, but between 2^18 and 2^28, and not above the budget in bytes.
    """
    op = "buckets_for"
    nonzeros = checks.integer(op, "num_pairs_nnz", num_pairs_nnz, low=0)
    budget = checks.integer(op, "bytes_budget", bytes_budget, low=LEAST_BUCKETS)
    return min(budget, max(FEWEST, min(MOST, nonzeros)))


class Wide:
    """score(x, label) = b[label] + sum over x's nonzeros f of x_f * sign(f, label) * w[label, hash(f, label)].

    The matrix of weights (features, labels) of a linear model, folded: each label owns a block of buckets, as
    many as its training pairs have nonzeros to learn from, and inside it a feature's weight is found by hashing
    (HashedNets: Chen et al., ICML 2015; feature hashing: Weinberger et al., ICML 2009; the wide part of Wide &
    Deep: Cheng et al., 2016). Evaluated at chosen pairs of a row and a label only. Stored in 8 bits, with one
    scale a label.

    A label is trained by itself, on pairs that the caller chose (the rows that have it, and those for which
    it is a hard wrong answer): all epochs in an order drawn from (seed, label), by Adagrad, while its block is
    in cache. The result is the same bits at any number of threads. Cost: for each pair the nonzeros of its row,
    times epochs; memory beside the model: 8 bytes for each bucket of the largest block, a thread.

    Args:
        num_features: width of the rows.
        num_labels: labels are 0 to num_labels - 1; grows when pairs with more are added.
        budget_buckets: at most so many buckets, a byte each; see `buckets_for`. Every label with pairs gets
            at least 16, and none more than four for each nonzero of its pairs.
        sign: multiply by a hashed sign, so that the features that share a bucket cancel in the mean.
        seed: of the hash (its low 32 bits) and of the orders.
        epochs: passes over a label's pairs.
        lr, floor: Adagrad's rate falls in equal steps from lr in the first epoch to floor * lr in the last.
        loss: "squared_hinge", max(0, 1 - t z)^2 / 2 with t = 1 or -1; or "logistic", log(1 + exp(-t z)).
        l2: adds l2 * w to the gradient of each weight that a pair touches.
        bias_rate: a bias moves at bias_rate * the rate; 0 keeps it.
        initial_sum: where Adagrad's sums of squared gradients start; above 0 the first steps are smaller.
        start_bias: where biases start; the score of a label that never had a pair.
    """

    _codes: Int8
    _scales: Float32
    _bias: Float32

    def __init__(
        self,
        num_features: int,
        num_labels: int,
        *,
        budget_buckets: int,
        sign: bool = False,
        seed: int = 0,
        epochs: int = 4,
        lr: float = 0.1,
        floor: float = 0.1,
        loss: str = "squared_hinge",
        l2: float = 0.0,
        bias_rate: float = 0.5,
        initial_sum: float = 0.0,
        start_bias: float = -1.0,
    ) -> None:
        op = "Wide"
        self.num_features = checks.integer(op, "num_features", num_features, low=1, high=MAX_IDS)
        self.num_labels = checks.integer(op, "num_labels", num_labels, low=0, high=MAX_IDS)
        self.budget_buckets = checks.integer(op, "budget_buckets", budget_buckets, low=LEAST_BUCKETS)
        self.seed = checks.integer(op, "seed", seed, low=0, high=2**63 - 1)
        self.sign = bool(sign)
        self.start_bias = checks.number(op, "start_bias", start_bias)
        self.rule = FitRule(
            loss=checks.one_of(op, "loss", loss, kernels.LOSSES),
            epochs=checks.integer(op, "epochs", epochs, low=1, high=10_000),
            lr=checks.number(op, "lr", lr, above=0),
            floor=checks.number(op, "floor", floor, low=0, high=1),
            l2=checks.number(op, "l2", l2, low=0),
            bias_rate=checks.number(op, "bias_rate", bias_rate, low=0),
            initial_sum=checks.number(op, "initial_sum", initial_sum, low=0),
            seed=self.seed,
        )
        self._forget()

    @property
    def num_buckets(self) -> int:
        return len(self._codes)

    @property
    def sizes(self) -> Int32:
        """(num_labels,): buckets of each label, 0 for those without training pairs."""
        return self._blocks.sizes

    @property
    def nbytes(self) -> int:
        """Memory of codes, scales, biases and block sizes."""
        blocks = self._blocks.sizes.nbytes + self._blocks.offsets.nbytes
        return self._codes.nbytes + self._scales.nbytes + self._bias.nbytes + blocks

    def fit(self, x: CsrBatch, pairs: Ragged, targets: Float32) -> float:
        """Trains all labels anew, on the labels `pairs` of each row of x.

        targets: (pairs,) float32 in [0, 1] beside `pairs.ids`; above 1/2 the row has the label. Returns the mean
        loss over the pairs in the last epoch (0 without pairs).

        Raises: InputError, and nothing is changed: shapes that disagree, ids out of range, values that are not
        finite, a budget below 16 buckets for each label with pairs; weights that overflowed.
        """
        op = "Wide.fit"
        self._check(op, x, pairs, self.num_labels)
        targets = _checked_targets(op, targets, pairs)
        tasks, nonzeros = by_label(x, pairs, targets, self.num_labels)
        sizes = block_sizes(nonzeros, tasks.labels, self.num_labels, self.budget_buckets)
        return self._train(op, x, tasks, sizes, self.rule, warm=False)

    def add(
        self,
        x: CsrBatch,
        pairs: Ragged,
        targets: Float32,
        *,
        num_labels: int | None = None,
        initial_sum: float = 1.0,
    ) -> float:
        """Trains the labels in `pairs` on from where they are; all others keep their bits.

        x, pairs and targets as in `fit`: new rows, and for each their labels and some wrong ones. Labels seen
        before keep their blocks; others, also new ones (num_labels may grow), get blocks beside them, of
        as many buckets for each nonzero as `fit` could afford; the budget of `fit` is not asked again. Steps are
        damped as if each weight had gathered `initial_sum` squared gradients before. Returns as `fit`.
        """
        op = "Wide.add"
        grown = checks.integer(
            op,
            "num_labels",
            self.num_labels if num_labels is None else num_labels,
            low=self.num_labels,
            high=MAX_IDS,
        )
        checks.number(op, "initial_sum", initial_sum, low=0)
        self._check(op, x, pairs, grown)
        targets = _checked_targets(op, targets, pairs)
        tasks, nonzeros = by_label(x, pairs, targets, grown)
        sizes = np.zeros(grown, np.int32)
        sizes[: self.num_labels] = self._blocks.sizes
        new = tasks.labels[sizes[tasks.labels] == 0]
        wanted = np.minimum(nonzeros[new] * self._per_nonzero(), MOST_PER_NONZERO * nonzeros[new])
        sizes[new] = np.clip(wanted, LEAST_BUCKETS, MAX_IDS)
        rule = replace(self.rule, initial_sum=initial_sum)
        return self._train(op, x, tasks, sizes, rule, warm=True)

    def grow(self, num_labels: int) -> None:
        """More labels, without buckets."""
        nobody = Ragged(np.zeros(1, np.int64), np.zeros(0, np.int32))
        nothing = CsrBatch(nobody.indptr, nobody.ids, np.zeros(0, np.float32), self.num_features)
        self.add(nothing, nobody, np.zeros(0, np.float32), num_labels=num_labels)

    def scores(self, x: CsrBatch, pairs: Ragged) -> Float32:
        """(pairs,) float32, beside `pairs.ids`. Cost: for each pair, the nonzeros of its row.

        Raises: InputError: x of another width, ids out of range, values that are not finite.
        """
        self._check("Wide.scores", x, pairs, self.num_labels)
        return kernels.scores_int8(x, pairs, self._blocks, self._codes, self._scales, self._bias)

    def contributions(self, x: CsrBatch, row: int, label: int) -> tuple[Int32, Float32]:
        """What each nonzero of a row of x adds to the score of a label: features (n,), amounts (n,) float32.

        The score is their sum and the label's bias.
        """
        op = "Wide.contributions"
        row = checks.integer(op, "row", row, low=0, high=len(x) - 1)
        label = checks.integer(op, "label", label, low=0, high=self.num_labels - 1)
        own = x.take([row])
        self._check(op, own, Ragged(np.array([0, 1]), np.array([label], np.int32)), self.num_labels)
        if not self._blocks.sizes[label]:
            return own.indices, np.zeros(own.nnz, np.float32)
        places, signs = self._blocks.places_and_signs(own.indices, label)
        weights = self._scales[label] * self._codes[self._blocks.offsets[label] + places]
        return own.indices, own.values * weights * signs.astype(np.float32)

    def bias(self, label: int) -> float:
        """What a label's score starts from."""
        return float(self._bias[checks.integer("Wide.bias", "label", label, low=0, high=self.num_labels - 1)])

    def config(self) -> dict[str, Any]:
        """JSON-able; `Wide(**config)` followed by `load_state` is this one again."""
        rule = {key: value for key, value in asdict(self.rule).items() if key != "seed"}
        return {
            "num_features": self.num_features,
            "num_labels": self.num_labels,
            "budget_buckets": self.budget_buckets,
            "sign": self.sign,
            "seed": self.seed,
            "start_bias": self.start_bias,
            **rule,
        }

    def state(self) -> Arrays:
        """sizes int32, scales and bias float32, each (num_labels,); codes int8; nonzeros int64 (1,)."""
        return {
            "sizes": self._blocks.sizes,
            "codes": self._codes,
            "scales": self._scales,
            "bias": self._bias,
            "nonzeros": np.array([self._nonzeros], np.int64),
        }

    def load_state(self, arrays: Mapping[str, Any]) -> None:
        """Goes on as the one that gave `state()`.

        Raises: InputError, and nothing is changed: arrays that none with these settings could have.
        """
        op, labels = "Wide.load_state", self.num_labels
        missing = sorted(self.state().keys() - arrays.keys())
        if missing:
            checks.fail(op, "arrays must hold sizes, codes, scales, bias and nonzeros", f"none for {missing[0]}")
        sizes = state_array(op, arrays, "sizes", np.int32, (labels,))
        scales = state_array(op, arrays, "scales", np.float32, (labels,))
        bias = state_array(op, arrays, "bias", np.float32, (labels,))
        nonzeros = state_array(op, arrays, "nonzeros", np.int64, (1,))
        if (sizes < 0).any() or nonzeros[0] < 0:
            checks.fail(op, "sizes and nonzeros must be at least 0", int(min(sizes.min(initial=0), nonzeros[0])))
        codes = state_array(op, arrays, "codes", np.int8, (int(sizes.sum(dtype=np.int64)),))
        checks.finite(op, "scales", scales)
        checks.finite(op, "bias", bias)
        self._blocks = Blocks.of_sizes(sizes, self._hash_seed(), self.sign)
        self._codes, self._scales, self._bias, self._nonzeros = codes, scales, bias, int(nonzeros[0])

    def _forget(self) -> None:
        """No label has a block."""
        self._blocks = Blocks.of_sizes(np.zeros(self.num_labels, np.int32), self._hash_seed(), self.sign)
        self._codes = np.zeros(0, np.int8)
        self._scales = np.zeros(self.num_labels, np.float32)
        self._bias = np.full(self.num_labels, self.start_bias, np.float32)
        self._nonzeros = 0  # of the pairs of `fit`

    def _hash_seed(self) -> int:
        return self.seed & 0xFFFFFFFF

    def _per_nonzero(self) -> float:
        """Buckets for each nonzero, as `fit` could afford them; the most where it never ran."""
        return self.num_buckets / self._nonzeros if self._nonzeros else MOST_PER_NONZERO

    def _check(self, op: str, x: CsrBatch, pairs: Ragged, num_labels: int) -> None:
        if x.num_cols != self.num_features:
            checks.fail(op, f"x must have {self.num_features} columns", x.num_cols)
        if len(x) != len(pairs):
            checks.fail(op, "x and pairs must have as many rows", f"{len(x)} and {len(pairs)}")
        if len(pairs.indptr) and pairs.indptr[-1] != len(pairs.ids):
            checks.fail(op, f"indptr must end at the number of pairs, {len(pairs.ids)}", int(pairs.indptr[-1]))
        checks.finite(op, "x", x.values)
        checks.ids_in_range(op, "labels of pairs", pairs.ids, num_labels)

    def _train(self, op: str, x: CsrBatch, tasks: Tasks, sizes: Int32, rule: FitRule, *, warm: bool) -> float:
        """Builds the blocks, trains, and only then takes them over."""
        blocks = Blocks.of_sizes(sizes, self._hash_seed(), self.sign)
        bias, scales = np.full(len(sizes), self.start_bias, np.float32), np.zeros(len(sizes), np.float32)
        if warm:
            codes = _widened(self._codes, self._blocks, blocks)
            bias[: self.num_labels], scales[: self.num_labels] = self._bias, self._scales
        else:
            codes = np.zeros(int(sizes.sum(dtype=np.int64)), np.int8)
        losses = kernels.fit(x, tasks, blocks, rule, bias, codes=codes, scales=scales, warm=warm)
        bad = ~(np.isfinite(scales) & np.isfinite(bias))
        if bad.any():
            label = int(np.flatnonzero(bad)[0])
            remedy = "lower lr, or scale the rows of x to length 1"
            checks.fail(op, "weights must stay finite", f"an overflow at label {label}", remedy)
        if not warm:
            self._nonzeros = _summed_nonzeros(x, tasks)
        self._blocks, self._codes, self._scales, self._bias = blocks, codes, scales, bias
        self.num_labels = len(sizes)
        return _mean_loss(losses, tasks)


def block_sizes(nonzeros: Int64, labels: Int32, num_labels: int, budget: int) -> Int32:
    """(num_labels,): for each of `labels` 16 buckets, and its share, by nonzeros, of what is left of the budget.

    nonzeros: (num_labels,), summed over each label's pairs. No block is larger than 4 * nonzeros (or 16).
    Raises InputError: a budget below 16 for each of `labels`.
    """
    least = LEAST_BUCKETS * len(labels)
    if budget < least:
        expected = f"budget_buckets must be at least {least}, {LEAST_BUCKETS} for each of {len(labels)} labels"
        checks.fail("Wide.fit", expected, budget, "raise the budget, or leave the wide path out")
    sizes = np.zeros(num_labels, np.int32)
    own = nonzeros[labels]
    share = (budget - least) / max(1, int(own.sum()))
    wanted = np.minimum(LEAST_BUCKETS + np.floor(own * share), MOST_PER_NONZERO * own)
    sizes[labels] = np.clip(wanted, LEAST_BUCKETS, MAX_IDS)
    return sizes


def _checked_targets(op: str, targets: Float32, pairs: Ragged) -> Float32:
    checked: Float32 = checks.array(op, "targets", targets, np.float32, (len(pairs.ids),))
    if checked.size and not (checked.min() >= 0 and checked.max() <= 1):
        checks.fail(op, "targets must lie in [0, 1]", f"{checked.min()} to {checked.max()}")
    return checked


def by_label(x: CsrBatch, pairs: Ragged, targets: Float32, num_labels: int) -> tuple[Tasks, Int64]:
    """The pairs label by label, rows ascending; and (num_labels,) the nonzeros of each label's rows."""
    columns = sp.csr_array((targets, pairs.ids, pairs.indptr), shape=(len(pairs), num_labels)).tocsc()
    labels = np.flatnonzero(np.diff(columns.indptr)).astype(np.int32)
    indptr = np.append(columns.indptr[labels], len(targets)).astype(np.int64)
    rows = columns.indices.astype(np.int32, copy=False)
    before = np.concatenate([[0], np.cumsum(np.diff(x.indptr)[rows])])
    nonzeros: Int64 = np.diff(before[columns.indptr])
    return Tasks(labels, indptr, rows, columns.data), nonzeros


def _summed_nonzeros(x: CsrBatch, tasks: Tasks) -> int:
    return int(np.diff(x.indptr)[tasks.rows].sum())


def _mean_loss(losses: Float64, tasks: Tasks) -> float:
    return float(losses.sum()) / max(1, len(tasks.rows))


def _widened(codes: Int8, old: Blocks, new: Blocks) -> Int8:
    """The old blocks in their new places; the blocks between them are zero."""
    wide = np.zeros(int(new.sizes.sum(dtype=np.int64)), np.int8)
    count = len(old.sizes)
    moved = (
        np.flatnonzero(np.diff(new.offsets[:count] - old.offsets, prepend=0)) if count else np.zeros(0, np.int64)
    )
    for first, last in zip([0, *moved.tolist()], [*moved.tolist(), count], strict=True):
        if first < last:
            start, end = int(old.offsets[first]), int(old.offsets[last - 1] + old.sizes[last - 1])
            wide[new.offsets[first] : new.offsets[first] + end - start] = codes[start:end]
    return wide
