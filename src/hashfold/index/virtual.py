"""Weight rows that are computed when they are asked for, in the place of an array of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hashfold.kernels.quantized import QuantizedRows
from hashfold.sparse import Float32

BLOCK_BYTES = 4 << 20
"""Of virtual rows that an index has built at a time."""
ITEM_BLOCK = 65_536
"""Items of an array that an index hashes or assigns at a time."""


class VirtualRows(ABC):
    """A float32 matrix (items, dim) that is never built: `rows[ids]` and `rows[begin:end]` make some of it.

    An index takes one wherever it takes an array of weights. Its rows are those of the weights as they are now.
    """

    def __init__(self, num_items: int, dim: int) -> None:
        self.shape = (num_items, dim)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, chosen: slice | npt.NDArray[np.integer]) -> Float32:
        """The rows of a span, or of ids in [0, items): (rows, dim), C-contiguous."""
        if isinstance(chosen, slice):
            return self.make(np.arange(*chosen.indices(len(self)), dtype=np.int64))
        return self.make(np.asarray(chosen, np.int64))

    def scanned(self, chosen: slice | npt.NDArray[np.integer]) -> Float32 | QuantizedRows:
        """The rows as a scan multiplies them."""
        return self[chosen]

    @abstractmethod
    def make(self, ids: npt.NDArray[np.int64]) -> Float32:
        """The rows of these ids."""


class EightBitRows(VirtualRows):
    """Other virtual rows, multiplied in 8 bits: faster by the more the more queries there are.

    A row has the same bits in whatever block it is made.
    """

    def __init__(self, rows: VirtualRows) -> None:
        super().__init__(*rows.shape)
        self._rows = rows

    def scanned(self, chosen: slice | npt.NDArray[np.integer]) -> QuantizedRows:
        return QuantizedRows.quantize(self[chosen])

    def make(self, ids: npt.NDArray[np.int64]) -> Float32:
        return self._rows.make(ids)


Vectors: TypeAlias = Float32 | VirtualRows


def spans(vectors: Vectors) -> Iterator[slice]:
    """All rows in order, in blocks that may exist at once; one block where there are none."""
    virtual = isinstance(vectors, VirtualRows)
    step = rows_at_once(vectors.shape[1]) if virtual else ITEM_BLOCK
    for at in range(0, max(1, len(vectors)), step):
        yield slice(at, min(at + step, len(vectors)))


def rows_at_once(dim: int) -> int:
    return max(1, BLOCK_BYTES // (4 * max(1, dim)))
