"""The wide path folded: the largest of its weights, in packed lists."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp

from hashfold import checks
from hashfold.index.base import Arrays, state_array
from hashfold.kernels.kmeans1d import kmeans1d
from hashfold.kernels.native import core
from hashfold.kernels.pruned_blocks import SparseWeights
from hashfold.sparse import MAX_IDS, CsrBatch, Float32, Int32, Ragged

BITS = 6  # of a weight: 8 score no better, 4 lose half a point
SAMPLE = 1_000_000  # weights to which the shared values are fitted
TOLERANCE = 1e-2  # of their squared error, above the least possible


def list_bytes(count: int, virtual: int) -> int:
    """At most so many for `count` weights of `virtual`: all lists of one length; if they differ it is less."""
    return int(count * (2 + max(0.0, math.log2(virtual / count)) + BITS) / 8) if count else 0


def table_bytes(num_features: int, num_labels: int) -> int:
    """Beside the lists, at most: scales, biases, and where lists begin, how long they are, and their last bits."""
    blocks = -(-num_features // core.PACKED_MOST_ROWS)
    return 4 * num_features + num_labels * (8 + 8 * blocks) + 4 * 2**BITS


class PrunedWide:
    """score(x, label) = b[label] + scale[label] * sum over x's nonzeros f of x_f * level[code(f, label)].

    A `Wide` of which few weights are left, each a feature's and a label's own; those that are not there are 0.
    Of each label a list holds its features, each in 2 + log2(features / length) bits at most (Elias and Fano), and
    beside it a code of `bits` bits for one of 2^bits values shared by all weights (Deep Compression: Han et al.,
    ICLR 2016). It is not trained: `hashfold.train.pruning` is what makes one.

    Args:
        num_features: width of the rows.
        num_labels: labels are 0 to num_labels - 1; see `grow`.
        bits: of a weight, 1 to 8.
        start_bias: the score of a label that never had a pair.
    """

    kind = "pruned"

    def __init__(self, num_features: int, num_labels: int, *, bits: int = BITS, start_bias: float = -1.0) -> None:
        op = "PrunedWide"
        self.num_features = checks.integer(op, "num_features", num_features, low=1, high=MAX_IDS)
        self.num_labels = checks.integer(op, "num_labels", num_labels, low=0, high=MAX_IDS)
        self._bits = checks.integer(op, "bits", bits, low=1, high=core.PACKED_MOST_BITS)
        self.start_bias = checks.number(op, "start_bias", start_bias)
        self._levels = np.zeros(2**self._bits, np.float32)
        self._bias = np.full(self.num_labels, self.start_bias, np.float32)
        self._scales = np.zeros(self.num_labels, np.float32)
        self._lists: Any = self._empty(self.num_labels)
        self._lists.append(
            np.zeros(self.num_features + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.uint8), self._ones()
        )

    @classmethod
    def of(
        cls,
        num_features: int,
        weights: SparseWeights,
        bias: Float32,
        *,
        bits: int = BITS,
        start_bias: float = -1.0,
    ) -> PrunedWide:
        """Holds weights (a row for each label) and bias (labels,), the shared values fitted to them by k-means.

        Raises InputError: weights that are not finite.
        """
        wide = cls(num_features, len(bias), bits=bits, start_bias=start_bias)
        checks.finite("PrunedWide", "weights", weights.weights)
        checks.finite("PrunedWide", "bias", bias)
        counts, values = np.diff(weights.indptr), weights.weights.astype(np.float64)
        label = np.repeat(np.arange(len(bias)), counts)
        scales = np.sqrt(np.bincount(label, values**2, len(bias)) / np.maximum(counts, 1))
        scales[scales == 0] = 1
        unit = values / scales[label]
        some = np.random.default_rng(0).permutation(len(unit))[:SAMPLE]
        if len(some):
            importance = scales[label[some]] ** 2
            levels = kmeans1d(unit[some], 2**wide._bits, weights=importance, tolerance=TOLERANCE)[0]
            wide._levels[:] = np.sort(levels)
        codes = np.searchsorted((wide._levels[1:] + wide._levels[:-1]) / 2, unit).astype(np.uint8)
        by_feature = sp.csr_array(
            (codes, weights.features, weights.indptr), shape=(len(bias), num_features)
        ).tocsc()
        labels, indptr = by_feature.indices.astype(np.int32), by_feature.indptr.astype(np.int64)
        wide._lists = wide._empty(len(bias))
        wide._lists.append(indptr, labels, by_feature.data, wide._ones())
        wide._bias, wide._scales = bias.astype(np.float32), scales.astype(np.float32)
        return wide

    @property
    def nbytes(self) -> int:
        """Memory of lists, scales, shared values and biases."""
        return int(self._lists.bytes()) + self._scales.nbytes + self._levels.nbytes + self._bias.nbytes

    def scores(self, x: CsrBatch, pairs: Ragged) -> Float32:
        """(pairs,) float32, beside `pairs.ids`. Cost: for each pair the list of its label.

        Raises: InputError: x of another width, ids out of range, values that are not finite.
        """
        self._check("PrunedWide.scores", x, pairs)
        y, known = np.empty(len(pairs.ids), np.float32), pairs.ids < len(self._scales)
        if not len(self._scales):
            return self._bias[pairs.ids]
        ids = pairs.ids if known.all() else np.where(known, pairs.ids, 0).astype(np.int32)
        self._lists.score_columns(x.indptr, x.indices, x.values, self._levels, pairs.indptr, ids, y)
        scores: Float32 = self._bias[pairs.ids] + y * np.where(known, self._scales[ids], np.float32(0))
        return scores

    def contributions(self, x: CsrBatch, row: int, label: int) -> tuple[Int32, Float32]:
        """As `Wide.contributions`."""
        op = "PrunedWide.contributions"
        row = checks.integer(op, "row", row, low=0, high=len(x) - 1)
        label = checks.integer(op, "label", label, low=0, high=self.num_labels - 1)
        own = x.take([row])
        self._check(op, own, Ragged(np.array([0, 1]), np.array([label], np.int32)))
        weights = np.zeros(self.num_features, np.float32)
        if label < len(self._scales):
            features, codes = self._lists.column(label)
            weights[features] = self._scales[label] * self._levels[codes]
        amounts: Float32 = own.values * weights[own.indices]
        return own.indices, amounts

    def bias(self, label: int) -> float:
        """What a label's score starts from."""
        op = "PrunedWide.bias"
        return float(self._bias[checks.integer(op, "label", label, low=0, high=self.num_labels - 1)])

    def grow(self, num_labels: int) -> None:
        """More labels, without weights."""
        more = checks.integer("PrunedWide.grow", "num_labels", num_labels, low=self.num_labels, high=MAX_IDS)
        self._bias = np.append(self._bias, np.full(more - self.num_labels, self.start_bias, np.float32))
        self.num_labels = more

    def config(self) -> dict[str, Any]:
        """JSON-able; `PrunedWide(**config)` without kind, followed by `load_state`, is this one again."""
        return {
            "kind": self.kind,
            "num_features": self.num_features,
            "num_labels": self.num_labels,
            "bits": self._bits,
            "start_bias": self.start_bias,
        }

    def state(self) -> Arrays:
        """lists uint8, as they are in memory, and scales float32, of the labels that there were when it was made;
        bias float32 (num_labels,); levels float32 (2^bits,).
        """
        lists = self._lists.save()[0]
        own = {"scales": self._scales, "bias": self._bias, "levels": self._levels}
        return {"lists": lists, **{name: array.copy() for name, array in own.items()}}

    def load_state(self, arrays: Mapping[str, Any]) -> None:
        """Goes on as the one that gave `state()`.

        Raises: InputError, and nothing is changed: arrays that none with these settings could have.
        """
        op = "PrunedWide.load_state"
        missing = sorted(self.state().keys() - arrays.keys())
        if missing:
            checks.fail(op, "arrays must hold lists, scales, bias and levels", f"none for {missing[0]}")
        lists = state_array(op, arrays, "lists", np.uint8, (None,))
        scales = state_array(op, arrays, "scales", np.float32, (None,))
        bias = state_array(op, arrays, "bias", np.float32, (self.num_labels,))
        levels = state_array(op, arrays, "levels", np.float32, (2**self._bits,))
        if len(scales) > self.num_labels:
            checks.fail(op, f"scales must be of at most {self.num_labels} labels", len(scales))
        for name, array in (("scales", scales), ("bias", bias), ("levels", levels)):
            checks.finite(op, name, array)
        loaded = self._empty(len(scales))
        if not loaded.load(lists, self._ones()):
            checks.fail(op, "lists must be those of packed weights", "others")
        self._lists, self._scales = loaded, scales.copy()
        self._bias, self._levels = bias.copy(), levels.copy()

    def _empty(self, labels: int) -> Any:
        """Lists of labels, in which rows, as the index calls them, are features."""
        return core.PackedSearch(max(1, labels), self._bits, core.PACKED_MOST_ROWS)

    def _ones(self) -> Float32:
        """A scale that the index wants of each feature."""
        return np.ones(self.num_features, np.float32)

    def _check(self, op: str, x: CsrBatch, pairs: Ragged) -> None:
        if x.num_cols != self.num_features:
            checks.fail(op, f"x must have {self.num_features} columns", x.num_cols)
        if len(x) != len(pairs):
            checks.fail(op, "x and pairs must have as many rows", f"{len(x)} and {len(pairs)}")
        checks.finite(op, "x", x.values)
        checks.ids_in_range(op, "labels of pairs", pairs.ids, self.num_labels)
