"""A linear layer whose weights share buckets, computed at chosen outputs of sparse rows."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hashfold import checks, functional
from hashfold.nn.active import ActiveValues
from hashfold.sparse import MAX_IDS, ActiveSet, CsrBatch, Ragged

HASHES = ("identity", "murmur")


class HashedLinear(nn.Module):
    """y[i, o] = b[o] + sum over the nonzeros f of row i of x_if * sign(f, o) * buckets[h(f, o)].

    A weight matrix (in_features, out_features) that is never built: h maps each of its entries to one of
    `num_buckets` stored values (HashedNets: Chen et al., ICML 2015; feature hashing: Weinberger et al., ICML
    2009), looked up only for the nonzeros of a row and the outputs asked for. From input features to labels it
    is the wide part of Wide & Deep (Cheng et al., 2016).

    Args:
        in_features, out_features: the shape of the virtual weight.
        num_buckets: stored values, float32. "identity" needs in_features * out_features of them.
        sizes: None: all outputs share one table. Or (out_features,) integers of sum `num_buckets`: each output
            has a block of so many buckets to itself, in which its features are hashed; 0 leaves it its bias.
        sign: multiply by a hashed sign, so that weights that share a bucket cancel in the mean.
        bias: with a bias (out_features,), starting at 0.
        seed: of the hash, 32 bits. The same seed hashes the same on every platform.
        hash: "murmur"; or "identity", one bucket for each weight, output by output: the dense layer.
        init_std: standard deviation of the normal initial values; default 1 / sqrt(in_features).
        generator: of the initial values; torch's own if None.

    Gradients for buckets and bias, and for x where x is the output of a looked-up layer (`ActiveValues`). The
    gradient of the buckets has their size. The state_dict holds buckets, bias and sizes. Cost: for each pair of
    a row and an output, the nonzeros of the row.
    """

    sizes: Tensor
    offsets: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_buckets: int,
        *,
        sizes: npt.ArrayLike | None = None,
        sign: bool = False,
        bias: bool = True,
        seed: int = 0,
        hash: str = "murmur",
        init_std: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        op = "HashedLinear"
        self.in_features = checks.integer(op, "in_features", in_features, low=1, high=MAX_IDS)
        self.out_features = checks.integer(op, "out_features", out_features, low=1, high=MAX_IDS)
        self.num_buckets = checks.integer(op, "num_buckets", num_buckets, low=1, high=MAX_IDS)
        self.seed = checks.integer(op, "seed", seed, low=0, high=2**32 - 1)
        self.hash = checks.one_of(op, "hash", hash, HASHES)
        self.sign = bool(sign)
        self.shared = sizes is None and hash != "identity"
        self.init_std = 1.0 / math.sqrt(in_features) if init_std is None else init_std
        self.buckets = nn.Parameter(torch.empty(num_buckets))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        self.register_buffer("sizes", self._block_sizes(sizes))
        self.register_buffer("offsets", self._offsets(), persistent=False)
        self.register_load_state_dict_post_hook(_follow_sizes)  # type: ignore[no-untyped-call]
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draws the buckets anew, sets the bias to zero."""
        nn.init.normal_(self.buckets, std=self.init_std, generator=generator)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(
        self, x: CsrBatch | ActiveValues, pairs: Ragged | ActiveSet | None = None
    ) -> Tensor | ActiveValues:
        """The outputs asked for.

        x: (rows, in_features). pairs: `Ragged`, outputs for each row: (pairs,) beside `pairs.ids`; an `ActiveSet`
        per row: `ActiveValues`; one shared by the batch: (rows, active); None: all, (rows, out_features).
        """
        indptr, ids = self._outputs_of(x, pairs)
        csr = functional.csr_tensors(x) if isinstance(x, CsrBatch) else x.csr()
        y = functional.hashed_linear(
            csr,
            (torch.from_numpy(indptr), torch.from_numpy(ids)),
            (self.offsets, self.sizes),
            self.buckets,
            self.bias,
            seed=self.seed,
            sign=self.sign,
            identity=self.hash == "identity",
        )
        if isinstance(pairs, Ragged):
            return y
        if isinstance(pairs, ActiveSet) and not pairs.shared:
            return ActiveValues(pairs, y)
        return y.view(len(indptr) - 1, self.out_features if pairs is None else len(pairs.ids))

    def extra_repr(self) -> str:
        table = "one table" if self.shared else "a block an output"
        shape = f"in_features={self.in_features}, out_features={self.out_features}, num_buckets={self.num_buckets}"
        return f"{shape} ({table}), hash={self.hash}, sign={self.sign}, bias={self.bias is not None}"

    def _outputs_of(
        self, x: CsrBatch | ActiveValues, pairs: Ragged | ActiveSet | None
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

    def _block_sizes(self, sizes: npt.ArrayLike | None) -> Tensor:
        op, weights = "HashedLinear", self.in_features * self.out_features
        if self.hash == "identity":
            if sizes is not None or self.sign:
                checks.fail(op, "hash identity has neither sizes nor sign", "one of them")
            if self.num_buckets != weights:
                checks.fail(op, f"hash identity needs num_buckets {weights}, one a weight", self.num_buckets)
            return torch.full((self.out_features,), self.in_features, dtype=torch.int32)
        if sizes is None:
            return torch.full((self.out_features,), self.num_buckets, dtype=torch.int32)
        given = checks.array(op, "sizes", sizes, np.int64, (self.out_features,))
        if given.min() < 0 or given.sum() != self.num_buckets:
            expected = f"sizes must be at least 0, and of sum num_buckets {self.num_buckets}"
            checks.fail(op, expected, f"a least of {given.min()}, a sum of {given.sum()}")
        return torch.from_numpy(given.astype(np.int32))

    def _offsets(self) -> Tensor:
        if self.shared:
            return torch.zeros(self.out_features, dtype=torch.int64)
        return self.sizes.long().cumsum(0) - self.sizes


def _follow_sizes(layer: nn.Module, _: object) -> None:
    """Loaded sizes must fit the layer; blocks lie where they say."""
    assert isinstance(layer, HashedLinear)
    sizes = layer.sizes
    whole = bool((sizes == layer.num_buckets).all())
    if (
        (layer.shared and not whole)
        or bool((sizes < 0).any())
        or (not layer.shared and int(sizes.long().sum()) != layer.num_buckets)
    ):
        expected = f"loaded sizes must be of {layer.num_buckets} buckets, as this layer's are"
        checks.fail("HashedLinear", expected, "others", "make the layer with the sizes it was saved with")
    layer.offsets.copy_(layer._offsets())
