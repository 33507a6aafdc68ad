"""A linear layer whose weights share buckets, for dense rows and at chosen outputs of sparse ones."""

from __future__ import annotations

import math
from typing import Unpack

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hashfold import checks, functional
from hashfold.nn.active import ActiveValues
from hashfold.nn.folded.hashed import HashedWeight, HashOptions, hashed_weight
from hashfold.nn.folded.linear import FoldedLinear
from hashfold.sparse import ActiveSet, CsrBatch, Ragged

Sparse = CsrBatch | ActiveValues


class HashedLinear(FoldedLinear):
    """y = x W^T + b, where the weights of W (out_features, in_features) share buckets: `torch.nn.Linear` hashed.

    W is never built: a hash maps each of its entries to one of few stored values (HashedNets: Chen et al., ICML
    2015; ROBE: Desai et al., MLSys 2022; feature hashing: Weinberger et al., ICML 2009). Of sparse rows, only
    nonzeros and the outputs asked for are looked up: from input features to labels that is the wide part of Wide &
    Deep (Cheng et al., 2016).

    Args:
        in_features, out_features, bias: as of `nn.Linear`.
        hashing: `HashOptions`: compression_ratio=16, for instance; see `HashedWeight`.

    Virtual weights start with the variance of `nn.Linear`'s, the bias as its does. Gradients for buckets and bias,
    and for x where it is a tensor or the output of a looked-up layer (`ActiveValues`). Cost: of dense rows, rows *
    in_features * out_features multiply-adds; of sparse ones, for each pair of a row and an output, the nonzeros of
    the row.
    """

    weight: HashedWeight

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, **hashing: Unpack[HashOptions]
    ) -> None:
        op = type(self).__name__
        checks.integer(op, "in_features", in_features, low=1)
        checks.integer(op, "out_features", out_features, low=1)
        std = 1.0 / math.sqrt(3 * in_features)
        weight = hashed_weight(op, out_features, in_features, hashing, std)
        super().__init__(in_features, out_features, bias, weight=weight, generator=hashing.get("generator"))

    def forward(  # type: ignore[override]
        self, x: Tensor | Sparse, pairs: Ragged | ActiveSet | None = None
    ) -> Tensor | ActiveValues:
        """All outputs of a tensor x (..., in_features); of sparse rows, those asked for.

        pairs, with sparse rows (which need tile 1): `Ragged`, outputs for each row: (pairs,) beside `pairs.ids`;
        an `ActiveSet` per row: `ActiveValues`; one shared by the batch: (rows, active); None: all, (rows,
        out_features).
        """
        if isinstance(x, Tensor):
            if pairs is not None:
                checks.fail("HashedLinear", "pairs go with sparse rows", "a tensor", "leave pairs out")
            return super().forward(x)
        indptr, ids = self._outputs_of(x, pairs)
        y = self._at_pairs(x, torch.from_numpy(indptr), torch.from_numpy(ids))
        if isinstance(pairs, Ragged):
            return y
        if isinstance(pairs, ActiveSet) and not pairs.shared:
            return ActiveValues(pairs, y)
        return y.view(len(indptr) - 1, self.out_features if pairs is None else len(pairs.ids))

    def _at_pairs(self, x: Sparse, indptr: Tensor, ids: Tensor) -> Tensor:
        weight = self.weight
        if weight.tile != 1 and not weight.identity:
            checks.fail("HashedLinear", "sparse rows need tile 1", weight.tile, "make the layer with tile=1")
        features, columns, values = functional.csr_tensors(x) if isinstance(x, CsrBatch) else x.csr()
        return functional.hashed_linear(
            (features, columns, values if weight.scale == 1.0 else values * weight.scale),
            (indptr, ids),
            self._blocks(),
            weight.buckets,
            self.bias,
            seed=weight.seed,
            sign=weight.sign,
            identity=weight.identity,
        )

    def _blocks(self) -> tuple[Tensor, Tensor]:
        """Where each output's buckets begin, and how many they are: nothing of this is stored."""
        weight = self.weight
        blocks = self.out_features if weight.identity else weight.blocks
        size = weight.num_buckets // blocks
        starts = torch.arange(self.out_features) * blocks // self.out_features * size
        return starts, torch.full((self.out_features,), size, dtype=torch.int32)

    def _outputs_of(
        self, x: Sparse, pairs: Ragged | ActiveSet | None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """Row pointers and ids, checked."""
        op = "HashedLinear"
        rows, width = (len(x), x.num_cols) if isinstance(x, CsrBatch) else (x.num_rows, x.num_items)
        if width != self.in_features:
            checks.fail(op, f"x must have {self.in_features} columns", width)
        if pairs is None or (isinstance(pairs, ActiveSet) and pairs.indptr is None):
            ids = np.arange(self.out_features, dtype=np.int32) if pairs is None else pairs.ids
            indptr = np.arange(rows + 1, dtype=np.int64) * len(ids)
            ids = np.tile(ids, rows)
        else:
            assert pairs.indptr is not None
            indptr, ids = pairs.indptr, pairs.ids
        if len(indptr) - 1 != rows or (isinstance(pairs, ActiveSet) and pairs.num_rows != rows):
            checks.fail(op, f"pairs must be for {rows} rows", len(indptr) - 1)
        if indptr[-1] != len(ids):
            checks.fail(op, f"indptr of pairs must end at their number, {len(ids)}", int(indptr[-1]))
        checks.ids_in_range(op, "outputs of pairs", ids, self.out_features)
        return indptr, ids
