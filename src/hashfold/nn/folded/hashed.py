"""A weight whose entries share few stored values by hashing."""

from __future__ import annotations

import math
from typing import Any, ClassVar, TypedDict

import torch
from torch import Tensor, nn

from hashfold import checks
from hashfold.kernels.hashed_matrix import TILES, hashed_matmul, hashed_rows
from hashfold.nn.folded.weight import FoldedWeight
from hashfold.sparse import MAX_IDS

DEFAULT_TILE = 8
LARGE_TILE = 16
LARGE_BLOCK = 1 << 15
"""Buckets of a block, 128 KiB, that stay in a core's second-level cache; a tile of 16 is a cache line."""
SETTINGS = ("num_buckets", "sign", "tile", "blocks", "seed", "identity", "scale")


class HashedWeight(FoldedWeight):
    """W[o, f] = scale * sign(o, f) * buckets[block of o, h(o, f // tile), f % tile]: few values, hashed to places.

    With tile 1, each weight has a bucket of its own choice (HashedNets: Chen et al., ICML 2015); with larger
    tiles, as many consecutive inputs read consecutive buckets (ROBE: Desai et al., MLSys 2022), which is faster.
    Hashes are computed, never stored, and are 32-bit integer arithmetic: the same on every platform.

    Args:
        out_features, in_features: the shape of the virtual matrix.
        num_buckets: stored values; None where `buckets` are given.
        sign: multiply by a hashed sign, so that weights that share a bucket cancel in the mean.
        tile: 1, 4, 8, 16 or 32.
        blocks: outputs, in order, are shared out over so many blocks of floor(num_buckets / blocks) buckets, and
            each hashes within its own. 1: all share one table. out_features: each output has its own.
        seed: of the hash, 32 bits. Weights that share buckets need different ones.
        identity: no hash, a bucket for each weight, row by row: the dense matrix.
        init_std: standard deviation of the initial virtual weights, which are normal; default 1 / sqrt(3
            in_features), that of `nn.Linear`.
        buckets: a parameter (num_buckets,) to share with other weights. It is left as it is, and `scale` set to
            give the virtual weights `init_std`; without, scale is 1.
        generator: of the initial values; torch's own if None.

    Gradients for buckets, of their size. Memory: the buckets.
    """

    kind: ClassVar[str] = "hashed"
    buckets: nn.Parameter

    def __init__(
        self,
        out_features: int,
        in_features: int,
        num_buckets: int | None = None,
        *,
        sign: bool = True,
        tile: int = DEFAULT_TILE,
        blocks: int = 1,
        seed: int = 0,
        identity: bool = False,
        init_std: float | None = None,
        buckets: nn.Parameter | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(out_features, in_features)
        op = "HashedWeight"
        self.tile, self.identity = check_tile(op, tile), bool(identity)
        self.sign = bool(sign) and not identity
        self.blocks = checks.integer(op, "blocks", blocks, low=1, high=out_features)
        self.seed = checks.integer(op, "seed", seed, low=0, high=2**32 - 1)
        std = 1.0 / math.sqrt(3 * in_features) if init_std is None else init_std
        self.init_std = checks.number(op, "init_std", std, low=0.0)
        self.scale = 1.0
        self.num_buckets = self._checked_size(num_buckets, buckets)
        self.buckets = nn.Parameter(torch.empty(self.num_buckets)) if buckets is None else buckets
        if buckets is None:
            self.reset_parameters(generator)
        else:
            rms = float(buckets.detach().double().square().mean().sqrt())
            self.scale = self.init_std / rms if rms > 0 else 1.0

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draws the buckets anew; where they are shared, for all."""
        nn.init.normal_(self.buckets, std=self.init_std / self.scale, generator=generator)

    @torch.no_grad()
    def fit(self, dense: Tensor) -> HashedWeight:
        """Sets the buckets so that W comes nearest to `dense` (out_features, in_features) in least squares.

        Each bucket becomes the mean of the weights that share it, signs taken off; one that none chose, zero.
        """
        shape = (self.out_features, self.in_features)
        if dense.shape != shape:
            checks.fail("HashedWeight.fit", f"dense must be {shape}", tuple(dense.shape))
        sums, counts = torch.zeros_like(self.buckets), torch.zeros_like(self.buckets)
        for block in self.row_blocks():
            ids = torch.arange(block.start, block.stop)
            part = dense[block.start : block.stop].to(self.dtype)
            sums += self._bucket_sums(ids, part, self.sign)
            counts += self._bucket_sums(ids, torch.ones_like(part), sign=False)
        self.buckets.copy_(sums / counts.clamp(min=1) / self.scale)
        return self

    def _bucket_sums(self, ids: Tensor, weights: Tensor, sign: bool) -> Tensor:
        """Of the entries of each bucket: the gradient of `hashed_rows`."""
        with torch.enable_grad():
            buckets = self.buckets.detach().requires_grad_()
            rows = hashed_rows(ids, buckets, *self._row_layout(sign))
            return torch.autograd.grad(rows, buckets, weights.contiguous())[0]

    def _row_layout(self, sign: bool) -> tuple[int, int, int, bool, int, int, bool]:
        sizes = (self.in_features, self.out_features)
        return (*sizes, self.seed, sign, self.tile, self.blocks, self.identity)

    def _matmul(self, x: Tensor) -> Tensor:
        layout = (self.out_features, self.seed, self.sign, self.tile, self.blocks, self.identity)
        y: Tensor = hashed_matmul(x, self.buckets, *layout)
        return y if self.scale == 1.0 else y * self.scale

    def _rows(self, ids: Tensor) -> Tensor:
        rows: Tensor = hashed_rows(ids, self.buckets, *self._row_layout(self.sign))
        return rows if self.scale == 1.0 else rows * self.scale

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in SETTINGS}

    @classmethod
    def _from_settings(cls, settings: dict[str, Any]) -> HashedWeight:
        op = "HashedWeight.from_spec"
        names = {"out_features", "in_features", *SETTINGS}
        if set(settings) != names:
            checks.fail(op, f"a hashed weight has {', '.join(sorted(names))}", ", ".join(sorted(settings)))
        scale = checks.number(op, "scale", settings.pop("scale"), above=0.0)
        weight = cls(**settings, init_std=0.0)
        weight.scale = scale
        return weight

    def _checked_size(self, num_buckets: int | None, buckets: nn.Parameter | None) -> int:
        op = "HashedWeight"
        if buckets is not None:
            if not isinstance(buckets, nn.Parameter) or buckets.dim() != 1:
                checks.fail(op, "buckets must be a parameter (num_buckets,)", type(buckets).__name__)
            if num_buckets not in (None, len(buckets)):
                checks.fail(op, f"num_buckets must be that of the buckets, {len(buckets)}", num_buckets)
            num_buckets = len(buckets)
        if num_buckets is None:
            checks.fail(op, "num_buckets or buckets must be given", "neither")
        size = checks.integer(op, "num_buckets", num_buckets, low=1, high=MAX_IDS)
        weights = self.out_features * self.in_features
        if self.identity and size != weights:
            checks.fail(op, f"identity needs num_buckets {weights}, one a weight", size)
        if not self.identity and size < self.blocks * self.tile:
            expected = f"num_buckets must be at least {self.blocks * self.tile}, a tile for each block"
            checks.fail(op, expected, size, "take a smaller tile or fewer blocks")
        return size


class HashOptions(TypedDict, total=False):
    """What the hashed layers take beside their torch layer's arguments.

    compression_ratio (virtual weights to stored values) or num_buckets, one of the two, for each weight of the
    layer; the others as of `HashedWeight`. Where neither tile nor blocks are given, `default_layout` chooses them
    by the number of buckets.
    """

    compression_ratio: float
    num_buckets: int
    sign: bool
    tile: int
    blocks: int
    seed: int
    identity: bool
    init_std: float
    buckets: nn.Parameter
    generator: torch.Generator


def default_layout(num_buckets: int, out_features: int) -> tuple[int, int]:
    """The tile and the blocks of a weight with so many buckets, where nothing else is asked.

    Up to `LARGE_BLOCK` buckets: tiles of 8 in one table, whose place in cache is certain anyway. More: tiles of 16
    in blocks of at most so many (no more blocks than outputs): 1/16 of 4096 x 4096 is multiplied at batch 1 in two
    thirds of the time of one table. Smaller tiles are for accuracy where sharing is hardest (MNIST at 1/64).
    """
    if num_buckets <= LARGE_BLOCK:
        return DEFAULT_TILE, 1
    return LARGE_TILE, min(out_features, -(-num_buckets // LARGE_BLOCK))


def hashed_weight(
    op: str, out_features: int, in_features: int, hashing: HashOptions, init_std: float, seed_offset: int = 0
) -> HashedWeight:
    """The weight that `HashOptions` describe, for the layer named `op`; `init_std` where they have none."""
    known = HashOptions.__annotations__
    if unknown := sorted(set(hashing) - set(known)):
        checks.fail(op, f"options are {', '.join(sorted(known))}", ", ".join(unknown))
    settings: dict[str, Any] = {"init_std": init_std, **hashing}
    seed = checks.integer(op, "seed", settings.get("seed", 0), low=0, high=2**32 - 1)
    settings["seed"] = (seed + seed_offset) % 2**32
    ratio = settings.pop("compression_ratio", None)
    sized = settings.get("num_buckets") is not None or settings.get("buckets") is not None
    if ratio is None and settings.get("identity") and not sized:
        ratio = 1.0
    if (ratio is not None) == sized:
        came = "both" if sized else "neither"
        checks.fail(op, "one of compression_ratio and num_buckets (or buckets) must be given", came)
    _choose_layout(op, out_features, in_features, ratio, settings)
    if ratio is not None:
        settings["num_buckets"] = _size_of(op, out_features * in_features, ratio, settings)
    return HashedWeight(out_features, in_features, **settings)


def _choose_layout(
    op: str, out_features: int, in_features: int, ratio: float | None, settings: dict[str, Any]
) -> None:
    """Tile and blocks, if they are open: those of buckets that were made for something else stay one table."""
    if {"tile", "blocks", "buckets"} & set(settings) or settings.get("identity"):
        return
    if ratio is None:
        size = checks.integer(op, "num_buckets", settings["num_buckets"], low=1)
    else:
        size = int(out_features * in_features / checks.number(op, "compression_ratio", ratio, low=1.0))
    settings["tile"], settings["blocks"] = default_layout(size, out_features)


def _size_of(op: str, weights: int, ratio: float, settings: dict[str, Any]) -> int:
    """Buckets for so many weights, whole tiles in every block, at most weights / ratio."""
    ratio = checks.number(op, "compression_ratio", ratio, low=1.0)
    if settings.get("identity"):
        if ratio != 1.0:
            checks.fail(op, "identity is a bucket for each weight: compression_ratio 1", ratio)
        return weights
    blocks = checks.integer(op, "blocks", settings.get("blocks", 1), low=1)
    unit = blocks * check_tile(op, settings.get("tile", DEFAULT_TILE))
    buckets = int(weights / ratio) // unit * unit
    if buckets < 1:
        expected = f"compression_ratio must leave at least {unit} buckets (blocks * tile) of {weights} weights"
        checks.fail(op, expected, f"{ratio:g}, which leaves {int(weights / ratio)}", "lower it, or the tile")
    return buckets


def check_tile(op: str, tile: int) -> int:
    if isinstance(tile, bool) or tile not in TILES:
        checks.fail(op, f"tile must be one of {', '.join(map(str, TILES))}", repr(tile))
    return int(tile)
