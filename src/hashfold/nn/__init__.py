"""Layers whose neurons are looked up by hashing, layers whose weights are folded, and losses."""

from hashfold.nn.active import ActiveValues
from hashfold.nn.folded import (
    FoldedConv1d,
    FoldedConv2d,
    FoldedConv3d,
    FoldedEmbedding,
    FoldedEmbeddingBag,
    FoldedGRU,
    FoldedLinear,
    FoldedLSTM,
    FoldedRNN,
    FoldedWeight,
    HashedConv1d,
    HashedConv2d,
    HashedConv3d,
    HashedEmbedding,
    HashedEmbeddingBag,
    HashedGRU,
    HashedLSTM,
    HashedRNN,
    HashedWeight,
    folded_weights,
)
from hashfold.nn.hashed_linear import HashedLinear
from hashfold.nn.losses import SampledSigmoidLoss, SampledSoftmaxLoss
from hashfold.nn.lsh_linear import LSHLinear
from hashfold.nn.sparse_linear import SparseLinear

__all__ = [
    "ActiveValues",
    "FoldedConv1d",
    "FoldedConv2d",
    "FoldedConv3d",
    "FoldedEmbedding",
    "FoldedEmbeddingBag",
    "FoldedGRU",
    "FoldedLSTM",
    "FoldedLinear",
    "FoldedRNN",
    "FoldedWeight",
    "HashedConv1d",
    "HashedConv2d",
    "HashedConv3d",
    "HashedEmbedding",
    "HashedEmbeddingBag",
    "HashedGRU",
    "HashedLSTM",
    "HashedLinear",
    "HashedRNN",
    "HashedWeight",
    "LSHLinear",
    "SampledSigmoidLoss",
    "SampledSoftmaxLoss",
    "SparseLinear",
    "folded_weights",
]
