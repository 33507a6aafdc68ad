"""Items in 8 bits, cell by cell: see csrc/core/cells.hpp."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hashfold import checks
from hashfold.index.base import Arrays, state_array
from hashfold.kernels.native import core
from hashfold.kernels.quantized import QuantizedRows
from hashfold.sparse import Float32, Int32


class Cells:
    """Rows (num_items, dim) quantised as `QuantizedRows`, each in one of `num_cells` cells.

    An item also has `num_offsets` numbers, which a query weighs and adds to its score.
    """

    state_names = ("cells", "codes", "scales", "offsets")

    def __init__(self, num_items: int, num_cells: int, dim: int, num_offsets: int) -> None:
        self._shape, self._num_offsets = (num_items, dim), num_offsets
        self.num_cells = num_cells
        self.native = core.CellRows(num_items, num_cells, dim, num_offsets)

    @property
    def nbytes(self) -> int:
        return int(self.native.bytes())

    def build(self, vectors: Float32, offsets: Float32, cells: Int32) -> None:
        """vectors (num_items, dim), finite; offsets (num_items, num_offsets); cells (num_items,)."""
        self.native.build(vectors, offsets, cells)

    def update(self, vectors: Float32, offsets: Float32, ids: Int32, cells: Int32) -> None:
        """Items `ids`, distinct, become these rows in these cells."""
        self.native.update(vectors, offsets, ids, cells)

    def best(self, x: Float32, weights: Float32, cells: Int32) -> Int32:
        """(n,): the item of cell cells[i], not empty, with the largest score for x[i] (n, dim), both in 8 bits.

        weights: (n, num_offsets), of the items' offsets. Equal scores: the one inserted first.
        """
        chosen = np.empty(len(x), np.int32)
        core.best_in_cells(self.native, x, weights, cells, chosen)
        return chosen

    def sizes(self) -> Int32:
        """(num_cells,): items of each."""
        counts = np.empty(self.num_cells, np.int32)
        self.native.sizes(counts)
        return counts

    def state(self) -> Arrays:
        """By item: cells int32, codes int8 (items, dim), scales and offsets (items, num_offsets) float32."""
        items, _ = self._shape
        cells, codes = np.empty(items, np.int32), np.empty(self._shape, np.int8)
        scales, offsets = np.empty(items, np.float32), np.empty((items, self._num_offsets), np.float32)
        self.native.save(cells, codes, scales, offsets)
        return {"cells": cells, "codes": codes, "scales": scales, "offsets": offsets}

    def load_state(self, op: str, arrays: Mapping[str, Any]) -> None:
        """Goes on as the cells that gave `state()`. Raises InputError, nothing changed: arrays that do not fit."""
        items, _ = self._shape
        cells = state_array(op, arrays, "cells", np.int32, (items,))
        checks.ids_in_range(op, "cells", cells, self.num_cells)
        codes = state_array(op, arrays, "codes", np.int8, self._shape)
        scales = state_array(op, arrays, "scales", np.float32, (items,))
        offsets = state_array(op, arrays, "offsets", np.float32, (items, self._num_offsets))
        checks.finite(op, "offsets", offsets)
        rows = QuantizedRows.from_arrays(codes, scales, op)
        self.native.load(cells, rows.codes, rows.scales, offsets)
