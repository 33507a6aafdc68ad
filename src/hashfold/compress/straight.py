"""Training of shared values, and of which weight has which: straight-through."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hashfold.compress.config import CodebookConfig, StraightThrough
from hashfold.compress.transform import Transform
from hashfold.kernels.codebook_matrix import pack_codes
from hashfold.nn.folded import CodebookWeight

BLOCK = 1 << 16
"""Vectors whose distances to all values are held at once."""


class SharedValues(Transform):
    """The layer sees shared values, which get the sum of their weights' gradients (Han et al., 2016).

    With `refresh_steps`, the weight gets the gradient of its value (straight-through: Bengio et al., 2013), and
    every so many steps takes the value that is nearest.
    """

    def __init__(self, config: CodebookConfig, shared: CodebookWeight, pruned: Tensor | None) -> None:
        super().__init__(config.prune, pruned)
        assert isinstance(config.tuning, StraightThrough)
        self.refresh_steps = config.tuning.refresh_steps
        self.trains_weight = self.refresh_steps > 0
        self.shared = shared

    def forward(self, weight: Tensor) -> Tensor:
        values = self.shared.dense()
        if not self.trains_weight:
            return values
        through = weight - weight.detach()
        return values + (through if self.pruned is None else through.masked_fill(self.pruned, 0.0))

    @torch.no_grad()
    def convert(self, weight: Tensor) -> CodebookWeight:
        old = self.shared
        layout = {"group_rows": old.group_rows, "group_cols": old.group_cols, "zero": old.zero}
        codes, codebook = old.codes.clone(), old.codebook.detach().clone()
        return CodebookWeight(old.out_features, old.in_features, codes, codebook, old.bits, **layout)  # type: ignore[arg-type]

    def step(self, weight: Tensor, steps: int) -> None:
        if self.refresh_steps and steps % self.refresh_steps == 0:
            self._assign(nearest_codes(weight, self.shared, self.pruned))

    @torch.no_grad()
    def prune(self, weight: Tensor, pruned: Tensor) -> None:
        """Pruned weights take code 0, those no longer pruned the nearest value; the others keep theirs."""
        assert self.pruned is not None
        moved = self.pruned | pruned
        super().prune(weight, pruned)
        found = nearest_codes(weight, self.shared, self.pruned)
        self._assign(torch.where(moved, found, self.shared.unpacked()))

    def _assign(self, codes: Tensor) -> None:
        self.shared.codes.copy_(pack_codes(codes, self.shared.bits))


def groups_of(shared: CodebookWeight) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of each group, in the order of the codebooks."""
    for row in range(0, shared.out_features, shared.group_rows):
        for col in range(0, shared.in_features, shared.group_cols):
            yield slice(row, row + shared.group_rows), slice(col, col + shared.group_cols)


def vectors_of(part: Tensor, dim: int) -> Tensor:
    """A part of a matrix as vectors (n, dim), rows filled up with zeros."""
    return torch.nn.functional.pad(part, (0, -part.shape[1] % dim)).reshape(-1, dim)


def matrix_of(vectors: Tensor, part: Tensor) -> Tensor:
    """What `vectors_of` was given, of the shape of `part`."""
    return vectors.reshape(part.shape[0], -1)[:, : part.shape[1]]


@torch.no_grad()
def nearest_codes(weight: Tensor, shared: CodebookWeight, pruned: Tensor | None) -> Tensor:
    """The code of the nearest shared value for each weight (or vector), (out, ceil(in / dim)); 0 for pruned ones.

    Code 0 is for the others too unless it stands for zero. Cost: weights * 2^bits.
    """
    dim, first = shared.dim, int(shared.zero)
    codes = torch.empty(shared.out_features, -(-shared.in_features // dim), dtype=torch.uint8)
    for (rows, cols), book in zip(groups_of(shared), shared.codebook.detach(), strict=True):
        part = weight.detach()[rows, cols]
        found = nearest(vectors_of(part, dim), book[first:]) + first
        columns = slice(cols.start // dim, -(-cols.stop // dim))
        codes[rows, columns] = found.view(part.shape[0], -1).to(torch.uint8)
    if pruned is not None:
        codes[pruned] = 0
    return codes


def nearest(vectors: Tensor, values: Tensor) -> Tensor:
    """The place of the nearest of `values` (k, dim) for each vector (n, dim): int64 (n,)."""
    if vectors.shape[1] == 1:
        own, places = values[:, 0].sort()
        return places[torch.bucketize(vectors[:, 0].contiguous(), (own[1:] + own[:-1]) / 2)]
    plain = "donot_use_mm_for_euclid_dist"  # small weights differ by less than products are rounded
    found = [torch.cdist(block, values, compute_mode=plain).argmin(1) for block in torch.split(vectors, BLOCK)]
    return torch.cat(found)
