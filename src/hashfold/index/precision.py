"""The rows that a scan multiplies: the weights as they are, or a copy of them in 8 bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hashfold import checks
from hashfold.index.base import Arrays, state_array
from hashfold.index.topk import Rows
from hashfold.index.virtual import Vectors, VirtualRows
from hashfold.kernels.quantized import QuantizedRows
from hashfold.sparse import Float32, Int32

PRECISIONS = ("fp32", "int8")


class ScanRows:
    """`precision` "fp32": the live weights. "int8": a copy, a quarter of them, as of the last build and updates.

    Scanning the copy costs a third of the time and takes the queries in 8 bits as well; scores are off by about
    a hundredth of their spread (see `hashfold.kernels.quantized`).
    """

    def __init__(self, op: str, precision: str) -> None:
        self._op = op
        self.precision = checks.one_of(op, "precision", precision, PRECISIONS)
        self._copy: QuantizedRows | None = None

    @property
    def state_names(self) -> tuple[str, ...]:
        return () if self.precision == "fp32" else ("codes", "scales")

    def build(self, vectors: Vectors) -> None:
        if self.precision == "int8":
            if isinstance(vectors, VirtualRows):
                expected = "precision int8 keeps a copy of every row"
                checks.fail(self._op, expected, "virtual rows", "use precision fp32")
            self._copy = QuantizedRows.quantize(vectors)

    def update(self, ids: Int32, vectors: Float32) -> None:
        if self._copy is not None:
            self._copy.replace(ids, vectors)

    def rows(self, vectors: Vectors) -> Rows:
        """What stands for the live weights `vectors` in a scan."""
        return vectors if self._copy is None else self._copy

    def state(self) -> Arrays:
        if self._copy is None:
            return {}
        return {"codes": self._copy.codes.copy(), "scales": self._copy.scales.copy()}

    def loaded(self, op: str, arrays: Mapping[str, Any], shape: tuple[int, int]) -> ScanRows:
        """The rows of a saved state. Raises InputError: arrays that cannot be of such rows."""
        rows = ScanRows(op, self.precision)
        if self.precision == "int8":
            codes = state_array(op, arrays, "codes", np.int8, shape)
            scales = state_array(op, arrays, "scales", np.float32, shape[:1])
            rows._copy = QuantizedRows.from_arrays(codes.copy(), scales.copy(), op)
        return rows
