"""Layers whose weight matrices are folded into few stored values, and never built."""

from hashfold.nn.folded.codebook import CodebookWeight
from hashfold.nn.folded.codebook_layers import (
    CodebookConv1d,
    CodebookConv2d,
    CodebookConv3d,
    CodebookEmbedding,
    CodebookEmbeddingBag,
    CodebookGRU,
    CodebookLinear,
    CodebookLSTM,
    CodebookRNN,
)
from hashfold.nn.folded.conv import FoldedConv1d, FoldedConv2d, FoldedConv3d
from hashfold.nn.folded.convert import FOLDED_LAYERS, fold_layer, unfold_layer, weight_matrices
from hashfold.nn.folded.embedding import FoldedEmbedding, FoldedEmbeddingBag
from hashfold.nn.folded.hashed import HashedWeight, HashOptions
from hashfold.nn.folded.hashed_layers import (
    HashedConv1d,
    HashedConv2d,
    HashedConv3d,
    HashedEmbedding,
    HashedEmbeddingBag,
    HashedGRU,
    HashedLSTM,
    HashedRNN,
)
from hashfold.nn.folded.linear import FoldedLinear
from hashfold.nn.folded.rnn import FoldedGRU, FoldedLSTM, FoldedRNN
from hashfold.nn.folded.stacked import StackedWeight
from hashfold.nn.folded.weight import FoldedWeight, folded_weights

__all__ = [
    "FOLDED_LAYERS",
    "CodebookConv1d",
    "CodebookConv2d",
    "CodebookConv3d",
    "CodebookEmbedding",
    "CodebookEmbeddingBag",
    "CodebookGRU",
    "CodebookLSTM",
    "CodebookLinear",
    "CodebookRNN",
    "CodebookWeight",
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
    "HashOptions",
    "HashedConv1d",
    "HashedConv2d",
    "HashedConv3d",
    "HashedEmbedding",
    "HashedEmbeddingBag",
    "HashedGRU",
    "HashedLSTM",
    "HashedRNN",
    "HashedWeight",
    "StackedWeight",
    "fold_layer",
    "folded_weights",
    "unfold_layer",
    "weight_matrices",
]
