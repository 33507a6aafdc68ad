"""Embeddings over a folded weight."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hashfold import checks
from hashfold.nn.folded.weight import FoldedWeight, check_shape

MODES = ("sum", "mean", "max")


class _FoldedTable(nn.Module):
    """What both have: each distinct row is built once a batch, the rest is torch's."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None,
        scale_grad_by_freq: bool,
        weight: FoldedWeight,
    ) -> None:
        super().__init__()
        op = type(self).__name__
        self.weight = check_shape(op, weight, num_embeddings, embedding_dim)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.scale_grad_by_freq = bool(scale_grad_by_freq)
        self.padding_idx: int | None = None
        if padding_idx is not None:
            given = checks.integer(op, "padding_idx", padding_idx, low=-num_embeddings, high=num_embeddings - 1)
            self.padding_idx = given % num_embeddings

    def _distinct(self, ids: Tensor) -> tuple[Tensor, Tensor, int | None]:
        """The rows of the distinct ids, where each id's is, and which is that of `padding_idx`."""
        if ids.is_floating_point() or ids.dtype == torch.bool:
            checks.fail(type(self).__name__, "ids must be integers", ids.dtype)
        distinct, places = torch.unique(ids, return_inverse=True)
        padding = None
        if self.padding_idx is not None:
            at = int(torch.searchsorted(distinct, self.padding_idx))
            padding = at if at < len(distinct) and distinct[at] == self.padding_idx else None
        return self.weight.rows(distinct), places, padding

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class FoldedEmbedding(_FoldedTable):
    """y = W[ids] with a virtual W: `torch.nn.Embedding`, whose `weight` is a `FoldedWeight`.

    Args:
        num_embeddings, embedding_dim, padding_idx, scale_grad_by_freq: as of `nn.Embedding`. The vector of
            `padding_idx` shares no value with others: it is the buffer `padding`, zero unless it is set.
        weight: (num_embeddings, embedding_dim), perhaps that of an output layer (tied weights).

    Integers (...) -> (..., embedding_dim). Gradient for the weight's stored values. Cost: the distinct rows.
    """

    padding: Tensor | None

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        scale_grad_by_freq: bool = False,
        weight: FoldedWeight,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, padding_idx, scale_grad_by_freq, weight)
        vector = None if padding_idx is None else torch.zeros(embedding_dim)
        self.register_buffer("padding", vector)

    def forward(self, ids: Tensor) -> Tensor:
        rows, places, padding = self._distinct(ids)
        if padding is not None:
            assert self.padding is not None
            rows = rows.index_copy(0, torch.tensor([padding]), self.padding[None])
        return F.embedding(places, rows, padding, scale_grad_by_freq=self.scale_grad_by_freq)


class FoldedEmbeddingBag(_FoldedTable):
    """Sum, mean or maximum of bags of rows of a virtual W: `torch.nn.EmbeddingBag` over a `FoldedWeight`.

    Args:
        num_embeddings, embedding_dim, scale_grad_by_freq, mode, include_last_offset, padding_idx: as of
            `nn.EmbeddingBag`; ids that are `padding_idx` are left out of their bag.
        weight: (num_embeddings, embedding_dim).

    ids (bags, n), or (m,) with offsets (bags,) -> (bags, embedding_dim); per_sample_weights, as ids, where mode is
    "sum". Gradients for the weight's stored values and per_sample_weights. Cost: the distinct ids' rows.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        weight: FoldedWeight,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, padding_idx, scale_grad_by_freq, weight)
        self.mode = checks.one_of(type(self).__name__, "mode", mode, MODES)
        self.include_last_offset = bool(include_last_offset)

    def forward(
        self, ids: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None
    ) -> Tensor:
        rows, places, padding = self._distinct(ids)
        return F.embedding_bag(
            places,
            rows,
            offsets,
            mode=self.mode,
            scale_grad_by_freq=self.scale_grad_by_freq,
            per_sample_weights=per_sample_weights,
            include_last_offset=self.include_last_offset,
            padding_idx=padding,
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, mode={self.mode}"
