"""Differentiable k-means: weights are trained through the soft means of their clusters."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hashfold.compress.config import DKM, CodebookConfig
from hashfold.compress.straight import groups_of, matrix_of, nearest_codes, vectors_of
from hashfold.compress.transform import Transform
from hashfold.kernels.codebook_matrix import pack_codes
from hashfold.nn.folded import CodebookWeight


class SoftKMeans(Transform):
    """The layer sees each weight as a mean of means, by a softmax of its distances to them (Cho et al., 2022).

    In training the means are those of soft k-means, which starts where the last call ended and is differentiated
    through; in eval mode each weight has the mean nearest to it, as after `convert`. Only the dense weight is
    trained. Memory in training: the weight and one block's attention; it is computed again by backward.
    """

    temperatures: Tensor

    def __init__(
        self, config: CodebookConfig, shared: CodebookWeight, pruned: Tensor | None, weight: Tensor
    ) -> None:
        super().__init__(config.prune, pruned)
        assert isinstance(config.tuning, DKM)
        self.iterations, self.block = config.tuning.iterations, config.tuning.block
        self.shared = shared.requires_grad_(False)
        errors = [
            (weight[group] - shared.dense()[group]).square().mean() * shared.dim for group in groups_of(shared)
        ]
        unit = torch.stack(errors).clamp(min=1e-12)
        self.register_buffer("temperatures", config.tuning.temperature * unit)

    def forward(self, weight: Tensor) -> Tensor:
        if not self.training:
            self._assign(weight)
            return self.shared.dense()
        bands: dict[int, list[Tensor]] = {}
        for g, (rows, cols) in enumerate(groups_of(self.shared)):
            bands.setdefault(rows.start, []).append(self._soft(weight[rows, cols], g, (rows, cols)))
        return torch.cat([torch.cat(parts, 1) for parts in bands.values()])

    def convert(self, weight: Tensor) -> CodebookWeight:
        self._assign(weight)
        old = self.shared
        return CodebookWeight(
            old.out_features,
            old.in_features,
            old.codes.clone(),
            old.codebook.detach().clone(),
            old.bits,
            group_rows=old.group_rows,
            group_cols=old.group_cols,
            zero=old.zero,
        )

    def _assign(self, weight: Tensor) -> None:
        self.shared.codes.copy_(pack_codes(nearest_codes(weight, self.shared, self.pruned), self.shared.bits))

    def _soft(self, part: Tensor, group: int, place: tuple[slice, slice]) -> Tensor:
        """One group, seen through its means; they are kept for the next time."""
        first, dim = int(self.shared.zero), self.shared.dim
        vectors = vectors_of(part, dim)
        pruned = None if self.pruned is None else self.pruned[place]
        counted = vectors.new_ones(len(vectors)) if pruned is None else (~pruned).flatten().to(vectors.dtype)
        weighed = torch.cat([vectors * counted[:, None], counted[:, None]], 1)
        means = self.shared.codebook.detach()[group, first:].clone()
        temperature = self.temperatures[group]
        blocks = list(zip(torch.split(vectors, self.block), torch.split(weighed, self.block), strict=True))
        for _ in range(self.iterations):
            sums = torch.stack([_again(_moments, block, w, means, temperature) for block, w in blocks]).sum(0)
            total, mass = sums[:, :dim], sums[:, dim:]
            means = (total + 1e-6 * means) / (mass + 1e-6)  # a mean that nobody is near stays
        with torch.no_grad():
            self.shared.codebook[group, first:] = means
        seen = matrix_of(torch.cat([_again(_seen, block, means, temperature) for block, _ in blocks]), part)
        return seen if pruned is None else seen.masked_fill(pruned, 0.0)


def _attention(vectors: Tensor, means: Tensor, temperature: Tensor) -> Tensor:
    """How much of each mean (n, k) a vector is."""
    halves = means.square().sum(1) / 2  # |v|^2 is the same for all means: softmax does not see it
    return torch.softmax(torch.addmm(-halves * (2 / temperature), vectors, means.T * (2 / temperature)), 1)


def _moments(vectors: Tensor, weighed: Tensor, means: Tensor, temperature: Tensor) -> Tensor:
    """Of the vectors that each mean attracts the sum, and how many they are: (k, dim + 1)."""
    return _attention(vectors, means, temperature).T @ weighed


def _seen(vectors: Tensor, means: Tensor, temperature: Tensor) -> Tensor:
    return _attention(vectors, means, temperature) @ means


def _again(function, *arguments: Tensor):  # type: ignore[no-untyped-def]
    """Computed now, and again by backward."""
    return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
