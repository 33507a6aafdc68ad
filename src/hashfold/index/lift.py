"""More coordinates for weights and queries, so that nearness means a large inner product.

Hashes and clusters answer to angle or distance, not to <x, w> + b. "bias" appends b to w and 1 to x.
"norm" appends also sqrt(M^2 - |w|^2 - b^2) to w, with M the largest norm, and 0 to x: all items then have
norm M, and the largest inner product is the smallest distance and angle (Bachrach et al., RecSys 2014;
Neyshabur & Srebro, ICML 2015).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hashfold import checks
from hashfold.index.base import Arrays, Queries, state_array
from hashfold.index.virtual import Vectors, spans
from hashfold.sparse import CsrBatch, Float32

LiftKind = Literal["none", "bias", "norm"]
LIFTS = ("none", "bias", "norm")


@dataclass(frozen=True)
class Lift:
    """Which coordinates are appended, frozen when an index is built."""

    kind: LiftKind
    bias: bool  # a bias coordinate
    largest: float  # M; items that outgrow it later are treated as if they had norm M

    @classmethod
    def fit(cls, kind: LiftKind, vectors: Vectors, bias: Float32 | None) -> Lift:
        parts = [_squares(vectors[part], None if bias is None else bias[part]) for part in spans(vectors)]
        if not all(np.isfinite(part).all() for part in parts):
            checks.fail("index", "squared norms of vectors must fit float32", "an overflow", "scale them down")
        with_bias = kind != "none" and bias is not None
        largest = max(float(np.sqrt(part.max())) for part in parts) if kind == "norm" else 0.0
        return cls(kind, with_bias, largest)

    def state(self) -> Arrays:
        """lift: float64 (2,), whether there is a bias coordinate, and M."""
        return {"lift": np.array([self.bias, self.largest])}

    def loaded(self, op: str, arrays: Mapping[str, Any], with_bias: bool) -> Lift:
        """The lift of this kind that gave `state()`, for weights with or without a bias."""
        saved = state_array(op, arrays, "lift", np.float64, (2,))
        expected = float(with_bias and self.kind != "none")
        if saved[0] != expected:
            checks.fail(op, f"lift must be of an index built {'with' if with_bias else 'without'} a bias", saved)
        if not np.isfinite(saved[1]) or saved[1] < 0 or (self.kind != "norm" and saved[1] > 0):
            checks.fail(op, f"lift must hold a norm that {self.kind!r} can have", saved[1])
        return Lift(self.kind, bool(expected), float(saved[1]))

    @property
    def extra(self) -> int:
        """Coordinates appended."""
        return int(self.bias) + int(self.kind == "norm")

    def items(self, vectors: Float32, bias: Float32 | None) -> Float32:
        """(n, dim + extra); the same memory if nothing is appended."""
        if not self.extra:
            return vectors
        dim = vectors.shape[1]
        lifted = np.empty((len(vectors), dim + self.extra), np.float32)
        lifted[:, :dim] = vectors
        if self.bias:
            lifted[:, dim] = bias
        if self.kind == "norm":
            lifted[:, -1] = self.last(vectors, bias)
        return lifted

    def last(self, vectors: Float32, bias: Float32 | None) -> Float32:
        """(n,): the coordinate that gives each item the norm M."""
        return np.sqrt(np.maximum(np.float32(self.largest**2) - _squares(vectors, bias), 0))

    def queries(self, x: Queries) -> Queries:
        """(rows, dim + extra)."""
        if not self.extra:
            return x
        if isinstance(x, CsrBatch):
            return _with_one(x, x.num_cols + self.extra) if self.bias else _wider(x, self.extra)
        lifted = np.zeros((len(x), x.shape[1] + self.extra), np.float32)
        lifted[:, : x.shape[1]] = x
        if self.bias:
            lifted[:, x.shape[1]] = 1
        return lifted


def _squares(vectors: Float32, bias: Float32 | None) -> Float32:
    with np.errstate(over="ignore"):  # the caller looks at what came out
        squares = np.einsum("ij,ij->i", vectors, vectors)
        return np.asarray(squares if bias is None else squares + bias * bias, np.float32)


def _wider(x: CsrBatch, extra: int) -> CsrBatch:
    return CsrBatch(x.indptr, x.indices, x.values, x.num_cols + extra)


def _with_one(x: CsrBatch, width: int) -> CsrBatch:
    """A 1 in column num_cols of every row: it is the last entry of its row."""
    at = x.indptr[1:]
    return CsrBatch(
        x.indptr + np.arange(len(x) + 1),
        np.insert(x.indices, at, x.num_cols).astype(np.int32),
        np.insert(x.values, at, 1).astype(np.float32),
        width,
    )
