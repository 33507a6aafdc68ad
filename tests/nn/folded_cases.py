"""Every layer that has a folded form, with an input, and every kind of folded weight: for the contracts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hashfold.nn import ActiveValues, LSHLinear, SparseLinear
from hashfold.nn.folded import CodebookWeight, FoldedWeight, HashedWeight, StackedWeight
from hashfold.sparse import ActiveSet, CsrBatch, RaggedIds

Weigh = Callable[[Tensor, int], FoldedWeight]


def identity(matrix: Tensor, seed: int) -> FoldedWeight:
    return HashedWeight(*matrix.shape, matrix.numel(), identity=True).fit(matrix)


def hashed(**settings: Any) -> Weigh:
    def weigh(matrix: Tensor, seed: int) -> FoldedWeight:
        generator = torch.Generator().manual_seed(seed)
        return HashedWeight(*matrix.shape, seed=seed, generator=generator, **settings)

    return weigh


def sharing(matrix: Tensor, seed: int) -> FoldedWeight:
    """Buckets that were made for something else."""
    buckets = nn.Parameter(torch.linspace(-3, 3, 37))
    return HashedWeight(*matrix.shape, buckets=buckets, seed=seed, tile=4)


def codebook(bits: int, pruned: float = 0.0, **settings: Any) -> Weigh:
    def weigh(matrix: Tensor, seed: int) -> FoldedWeight:
        kept = matrix.abs() > matrix.abs().quantile(pruned) if pruned else torch.ones_like(matrix)
        return CodebookWeight.from_dense(matrix * kept, bits, seed=seed, **settings)

    return weigh


def stacked(matrix: Tensor, seed: int) -> FoldedWeight:
    """A first output of its own, some that share, and the rest in one bucket."""
    first, some, rest = matrix.split([1, 2, len(matrix) - 3])
    parts = [
        identity(first, 0),
        hashed(num_buckets=11, tile=4)(some, seed),
        hashed(num_buckets=1, tile=1)(rest, seed),
    ]
    return StackedWeight(parts)


WEIGHTS: dict[str, Weigh] = {
    "identity": identity,
    "element-wise": hashed(num_buckets=13, tile=1),
    "without signs": hashed(num_buckets=29, tile=4, sign=False),
    "tiles": hashed(num_buckets=40, tile=8),
    "blocks": hashed(num_buckets=50, tile=1, blocks=3),
    "shared": sharing,
    "shared values": codebook(3),
    "shared values of groups": codebook(2, group_rows=3, group_cols=4),
    "shared values and zero": codebook(2, pruned=0.6, zero=True, group_rows=4),
    "stacked": stacked,
    "vectors": codebook(4, dim=3),
    "vectors of groups": codebook(4, dim=2, group_rows=5, group_cols=4),
}
"""Weights of the shape of a matrix, from a seed; every kind in `KINDS` has one."""


@dataclass(frozen=True)
class Case:
    """A torch layer and what it is called with; `x`: positions of the arguments that can have a gradient."""

    make: Callable[[], nn.Module]
    arguments: Callable[[], tuple[Any, ...]]
    differentiable: tuple[int, ...] = (0,)
    keywords: dict[str, Any] = field(default_factory=dict)

    def call(self, layer: nn.Module, arguments: tuple[Any, ...]) -> tuple[Tensor, ...]:
        """What it gives, as one flat tuple of tensors."""
        return flat(layer(*arguments, **self.keywords))

    def inputs(self, dtype: torch.dtype = torch.float32) -> tuple[Any, ...]:
        """The arguments of a fixed seed, of this dtype, with gradients where there can be some."""
        torch.manual_seed(11)
        made = list(self.arguments())
        for at, value in enumerate(made):
            made[at] = _of(value, dtype)
        for at in self.differentiable:
            made[at].requires_grad_()
        return tuple(made)


def flat(result: Any) -> tuple[Tensor, ...]:
    if isinstance(result, Tensor):
        return (result,)
    if isinstance(result, nn.utils.rnn.PackedSequence):
        return (result.data,)
    if isinstance(result, ActiveValues):
        return (result.values,)
    return tuple(tensor for part in result for tensor in flat(part))


def _of(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, tuple) and not isinstance(value, nn.utils.rnn.PackedSequence):
        return tuple(_of(part, dtype) for part in value)
    if isinstance(value, (CsrBatch, ActiveSet)) or (isinstance(value, Tensor) and not value.is_floating_point()):
        return value
    return value.to(dtype) if value is not None else None


def ids(*shape: int, high: int = 11) -> Tensor:
    return torch.randint(high, shape)


def packed(width: int) -> nn.utils.rnn.PackedSequence:
    """Four sequences, not in the order of their lengths."""
    sequences = [torch.randn(length, width) for length in (2, 5, 1, 4)]
    return nn.utils.rnn.pack_sequence(sequences, enforce_sorted=False)


def sparse(rows: int, width: int) -> CsrBatch:
    """Rows with features in common; the last has none."""
    dense = torch.randn(rows, width) * (torch.rand(rows, width) < 0.4)
    dense[-1] = 0.0
    indptr = np.append(0, np.cumsum((dense != 0).sum(1).numpy()))
    return CsrBatch(indptr, dense.nonzero()[:, 1].int().numpy(), dense[dense != 0].numpy(), width)


def active(neurons: int, *, shared: bool) -> ActiveSet:
    """What four rows ask for, among it what is true of them."""
    labels = RaggedIds.from_lists([[1], [4, 0], [], [2]], neurons)
    layer, x = LSHLinear(3, neurons, index="exact"), torch.randn(4, 3)
    if shared:
        return layer.lookup_shared(x, labels, hard_negatives=1, uniform=2, seed=1)
    return layer.lookup(x, 3, labels)


def normal(*shape: int) -> Callable[[], tuple[Tensor]]:
    return lambda: (torch.randn(shape),)


CASES: dict[str, Case] = {
    "linear": Case(lambda: nn.Linear(10, 7), normal(4, 10)),
    "linear, no bias, more dimensions": Case(lambda: nn.Linear(10, 7, bias=False), normal(2, 3, 10)),
    "conv1d": Case(lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1), normal(2, 4, 9)),
    "conv1d, unbatched": Case(lambda: nn.Conv1d(4, 6, 3, padding_mode="circular", padding=2), normal(4, 9)),
    "conv2d": Case(lambda: nn.Conv2d(3, 5, (3, 2), padding="same", dilation=2), normal(2, 3, 6, 7)),
    "conv2d, groups": Case(lambda: nn.Conv2d(6, 9, 3, groups=3, bias=False), normal(2, 6, 5, 4)),
    "conv2d, reflect": Case(
        lambda: nn.Conv2d(2, 4, 3, padding=(1, 2), padding_mode="reflect"), normal(1, 2, 5, 5)
    ),
    "conv3d": Case(lambda: nn.Conv3d(2, 4, 2, padding="same", padding_mode="replicate"), normal(1, 2, 3, 4, 3)),
    "embedding": Case(lambda: nn.Embedding(11, 6), lambda: (ids(3, 4),), ()),
    "embedding, padding": Case(
        lambda: nn.Embedding(11, 6, padding_idx=-2, scale_grad_by_freq=True), lambda: (ids(30),), ()
    ),
    "bag, mean": Case(
        lambda: nn.EmbeddingBag(11, 6, padding_idx=3),
        lambda: (torch.tensor([1, 3, 3, 5, 1, 9]), torch.tensor([0, 2, 2, 3])),
        (),
    ),
    "bag, sum": Case(
        lambda: nn.EmbeddingBag(11, 6, mode="sum"), lambda: (ids(3, 4), None, torch.randn(3, 4)), (2,)
    ),
    "bag, max": Case(
        lambda: nn.EmbeddingBag(11, 6, mode="max", include_last_offset=True),
        lambda: (ids(7), torch.tensor([0, 3, 3, 7])),
        (),
    ),
    "rnn": Case(lambda: nn.RNN(5, 4, nonlinearity="relu"), normal(3, 2, 5)),
    "rnn, unbatched, no bias": Case(
        lambda: nn.RNN(5, 4, 2, bias=False, bidirectional=True),
        lambda: (torch.randn(3, 5), torch.randn(4, 4)),
        (0, 1),
    ),
    "lstm": Case(lambda: nn.LSTM(5, 4, 2, batch_first=True, bidirectional=True), normal(3, 4, 5)),
    "lstm, packed": Case(
        lambda: nn.LSTM(5, 4, 2, bidirectional=True),
        lambda: (packed(5), (torch.randn(4, 4, 4), torch.randn(4, 4, 4))),
        (),
    ),
    "gru": Case(lambda: nn.GRU(5, 4, 2), lambda: (torch.randn(3, 2, 5), torch.randn(2, 2, 4)), (0, 1)),
    "sparse linear": Case(lambda: SparseLinear(11, 6), lambda: (sparse(4, 11),), ()),
    "sparse linear, no bias": Case(lambda: SparseLinear(11, 6, bias=False), lambda: (sparse(2, 11),), ()),
    "lsh linear, all": Case(lambda: LSHLinear(10, 7), normal(4, 10)),
    "lsh linear, shared": Case(
        lambda: LSHLinear(10, 7, index="clustered"), lambda: (torch.randn(4, 10), active(7, shared=True))
    ),
    "lsh linear, by row": Case(
        lambda: LSHLinear(10, 7, bias=False, index="exact"),
        lambda: (torch.randn(4, 10), active(7, shared=False)),
    ),
    "gru, packed": Case(lambda: nn.GRU(5, 4, bidirectional=True), lambda: (packed(5),), ()),
}
