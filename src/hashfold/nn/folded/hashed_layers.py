"""The layers over hashed weights: torch's arguments, then how to hash (`HashOptions`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Unpack

from hashfold.nn.folded.conv import FoldedConv, FoldedConv1d, FoldedConv2d, FoldedConv3d, Size
from hashfold.nn.folded.embedding import FoldedEmbedding, FoldedEmbeddingBag
from hashfold.nn.folded.hashed import HashedWeight, HashOptions, hashed_weight
from hashfold.nn.folded.rnn import FoldedGRU, FoldedLSTM, FoldedRecurrent, FoldedRNN


class _HashedConv(FoldedConv):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        **hashing: Unpack[HashOptions],
    ) -> None:
        out, fan_in = self.weight_shape(in_channels, out_channels, kernel_size, groups)
        weight = hashed_weight(type(self).__name__, out, fan_in, hashing, 1.0 / math.sqrt(3 * fan_in))
        settings = (stride, padding, dilation, groups, bias, padding_mode)
        generator = hashing.get("generator")
        super().__init__(in_channels, out_channels, kernel_size, *settings, weight=weight, generator=generator)


class HashedConv1d(_HashedConv, FoldedConv1d):
    """`torch.nn.Conv1d` whose weights share buckets: its arguments, then `HashOptions`.

    HashedConv1d(64, 128, 3, padding=1, compression_ratio=16), for instance. A row of the virtual matrix is a
    filter. Virtual weights start with the variance of torch's, the bias as torch's does.
    """


class HashedConv2d(_HashedConv, FoldedConv2d):
    """`torch.nn.Conv2d` whose weights share buckets: see `HashedConv1d`."""


class HashedConv3d(_HashedConv, FoldedConv3d):
    """`torch.nn.Conv3d` whose weights share buckets: see `HashedConv1d`."""


class HashedEmbedding(FoldedEmbedding):
    """`torch.nn.Embedding` whose weights share buckets: its arguments, then `HashOptions`.

    With `tile` above 1 each vector is put together from blocks of a shared array, as in ROBE (Desai et al., MLSys
    2022). Virtual weights start with standard deviation 1, as torch's.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        scale_grad_by_freq: bool = False,
        **hashing: Unpack[HashOptions],
    ) -> None:
        weight = hashed_weight(type(self).__name__, num_embeddings, embedding_dim, hashing, 1.0)
        shape = (num_embeddings, embedding_dim)
        super().__init__(*shape, padding_idx, scale_grad_by_freq=scale_grad_by_freq, weight=weight)


class HashedEmbeddingBag(FoldedEmbeddingBag):
    """`torch.nn.EmbeddingBag` whose weights share buckets: its arguments, then `HashOptions`.

    See `HashedEmbedding`.
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
        **hashing: Unpack[HashOptions],
    ) -> None:
        weight = hashed_weight(type(self).__name__, num_embeddings, embedding_dim, hashing, 1.0)
        super().__init__(
            num_embeddings,
            embedding_dim,
            scale_grad_by_freq=scale_grad_by_freq,
            mode=mode,
            include_last_offset=include_last_offset,
            padding_idx=padding_idx,
            weight=weight,
        )


class HashedRNN(FoldedRNN):
    """`torch.nn.RNN` whose weights share buckets: its arguments, then `HashOptions`.

    Each weight matrix has buckets of its own, by the ratio, unless `buckets` are given to all; the seeds count up
    from `seed`. Virtual weights start with the variance of torch's, biases as torch's do.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        **hashing: Unpack[HashOptions],
    ) -> None:
        settings = (num_layers, nonlinearity, bias, batch_first, dropout, bidirectional)
        shapes = self.weight_shapes(input_size, hidden_size, num_layers, bidirectional)
        weights = _recurrent_weights(type(self).__name__, shapes, hidden_size, hashing)
        super().__init__(input_size, hidden_size, *settings, weights=weights, generator=hashing.get("generator"))


class _HashedGated(FoldedRecurrent):
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        **hashing: Unpack[HashOptions],
    ) -> None:
        settings = (num_layers, bias, batch_first, dropout, bidirectional)
        shapes = self.weight_shapes(input_size, hidden_size, num_layers, bidirectional)
        weights = _recurrent_weights(type(self).__name__, shapes, hidden_size, hashing)
        super().__init__(input_size, hidden_size, *settings, weights=weights, generator=hashing.get("generator"))


class HashedLSTM(_HashedGated, FoldedLSTM):
    """`torch.nn.LSTM` whose weights share buckets: its arguments, then `HashOptions`; see `HashedRNN`."""


class HashedGRU(_HashedGated, FoldedGRU):
    """`torch.nn.GRU` whose weights share buckets: its arguments, then `HashOptions`; see `HashedRNN`."""


def _recurrent_weights(
    op: str, shapes: Mapping[str, tuple[int, int]], hidden_size: int, hashing: HashOptions
) -> dict[str, HashedWeight]:
    std = 1.0 / math.sqrt(3 * hidden_size)
    return {
        name: hashed_weight(f"{op}.{name}", *shape, hashing, std, seed_offset=at)
        for at, (name, shape) in enumerate(shapes.items())
    }
