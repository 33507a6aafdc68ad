"""Weighting of counts: log term frequency, smoothed inverse document frequency, unit rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from hashfold import checks
from hashfold.data.dataset import are_counts
from hashfold.sparse import CsrBatch, Float32, Int64

Mode = Literal["auto", "tfidf", "normalize", "none"]


@dataclass(frozen=True)
class TfIdf:
    """x_f <- (1 + log tf_f) * (log((1 + n) / (1 + df_f)) + 1), then rows scaled to Euclidean length 1.

    n training rows, df_f of them with feature f: scikit-learn's `TfidfTransformer(sublinear_tf=True)`.

    Modes: "tfidf" as above; "normalize" scales rows only; "none" changes nothing; "auto" is "tfidf" if
    every training value is a positive whole number (a bag of words, or indicators), else "normalize",
    because other values are weighted or measured already.
    """

    mode: Mode
    num_features: int
    idf: Float32 | None = None

    @classmethod
    def fit(cls, x: CsrBatch, mode: str = "auto") -> TfIdf:
        """Learns from the training rows. Raises InputError for negative values in mode "tfidf"."""
        checks.one_of("TfIdf", "mode", mode, get_args(Mode))
        if mode == "auto":
            mode = "tfidf" if are_counts(x.values) else "normalize"
        if mode != "tfidf":
            return cls(cast(Mode, mode), x.num_cols)
        _check_counts(x)
        df = np.bincount(x.indices[x.values > 0], minlength=x.num_cols)
        return cls("tfidf", x.num_cols, (np.log((1 + len(x)) / (1 + df)) + 1).astype(np.float32))

    def transform(self, x: CsrBatch) -> CsrBatch:
        """The weighted rows; rows without features stay empty. Raises InputError for another width."""
        if x.num_cols != self.num_features:
            checks.fail(
                "TfIdf",
                f"x must have the {self.num_features} features that it was fitted on",
                x.num_cols,
                "read it with num_features",
            )
        values = x.values
        if self.mode == "none":
            return x
        if self.idf is not None:
            _check_counts(x)
            logs = np.log(values, out=np.zeros_like(values), where=values > 0)
            values = np.where(values > 0, 1 + logs, 0).astype(np.float32) * self.idf[x.indices]
        return CsrBatch(x.indptr, x.indices, _unit_rows(x.indptr, values), x.num_cols)

    def to_state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """(JSON-able config, arrays): what a model folder keeps."""
        arrays = {} if self.idf is None else {"idf": self.idf}
        return {"kind": "tfidf", "mode": self.mode, "num_features": self.num_features}, arrays

    @classmethod
    def from_state(cls, config: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> TfIdf:
        mode = checks.one_of("TfIdf", "mode", str(config.get("mode")), ("tfidf", "normalize", "none"))
        width = checks.integer("TfIdf", "num_features", config.get("num_features"), low=0)
        idf = arrays.get("idf")
        if mode == "tfidf":
            idf = checks.array("TfIdf", "idf", [] if idf is None else idf, np.float32, (width,))
        return cls(cast(Mode, mode), width, idf)


def _check_counts(x: CsrBatch) -> None:
    if x.nnz and float(x.values.min()) < 0:
        checks.fail(
            "TfIdf", "values must be counts, at least 0", float(x.values.min()), 'use mode="normalize" or "none"'
        )


def _unit_rows(indptr: Int64, values: Float32) -> Float32:
    counts = np.diff(indptr)
    filled = indptr[:-1][counts > 0]
    if not filled.size:
        return values
    squares = np.add.reduceat(values.astype(np.float64) ** 2, filled)
    scale = np.divide(1.0, np.sqrt(squares), out=np.zeros_like(squares), where=squares > 0)
    return values * np.repeat(scale, counts[counts > 0]).astype(np.float32)
