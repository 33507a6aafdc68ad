"""The layers over codebook weights, each made from the torch layer that it stands for."""

from __future__ import annotations

from typing import Any, Self, cast

from torch import nn

from hashfold import checks
from hashfold.nn.folded.codebook import CodebookWeight
from hashfold.nn.folded.conv import FoldedConv1d, FoldedConv2d, FoldedConv3d
from hashfold.nn.folded.convert import fold_layer
from hashfold.nn.folded.embedding import FoldedEmbedding, FoldedEmbeddingBag
from hashfold.nn.folded.linear import FoldedLinear
from hashfold.nn.folded.rnn import FoldedGRU, FoldedLSTM, FoldedRNN


class _FromDense:
    @classmethod
    def from_dense(cls, layer: nn.Module, bits: int = 4, **options: Any) -> Self:
        """A layer whose weights share codebooks, nearest to those of `layer`, which stays as it is.

        `options` as of `CodebookWeight.from_dense`: dim, group_rows, group_cols, zero, seed. Raises InputError.
        """
        folded: Any = fold_layer(layer, lambda _, dense: CodebookWeight.from_dense(dense, bits, **options))
        if not issubclass(cls, type(folded)):
            expected = f"layer must be what {cls.__name__} stands for"
            checks.fail(f"{cls.__name__}.from_dense", expected, type(layer).__name__)
        folded.__class__ = cls  # a subclass that adds nothing but its name
        return cast("Self", folded)


class CodebookLinear(_FromDense, FoldedLinear):
    """`torch.nn.Linear` with shared values: `CodebookLinear.from_dense(linear, bits=4)`."""


class CodebookConv1d(_FromDense, FoldedConv1d):
    """`torch.nn.Conv1d` with shared values; see `CodebookLinear`. A row of the virtual matrix is a filter."""


class CodebookConv2d(_FromDense, FoldedConv2d):
    """`torch.nn.Conv2d` with shared values; see `CodebookConv1d`."""


class CodebookConv3d(_FromDense, FoldedConv3d):
    """`torch.nn.Conv3d` with shared values; see `CodebookConv1d`."""


class CodebookEmbedding(_FromDense, FoldedEmbedding):
    """`torch.nn.Embedding` with shared values; see `CodebookLinear`."""


class CodebookEmbeddingBag(_FromDense, FoldedEmbeddingBag):
    """`torch.nn.EmbeddingBag` with shared values; see `CodebookLinear`."""


class CodebookRNN(_FromDense, FoldedRNN):
    """`torch.nn.RNN` with shared values, each weight matrix with codebooks of its own; see `CodebookLinear`."""


class CodebookLSTM(_FromDense, FoldedLSTM):
    """`torch.nn.LSTM` with shared values; see `CodebookRNN`."""


class CodebookGRU(_FromDense, FoldedGRU):
    """`torch.nn.GRU` with shared values; see `CodebookRNN`."""
