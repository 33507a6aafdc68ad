"""y = x W^T for a virtual matrix W (out_features, in_features) whose weights lie in shared buckets.

    W[o, f] = sign(o, f) * buckets[start(o) + tile * (h(f // tile, o) * n >> 32) + f % tile]

Outputs are cut into `blocks` runs; block o * blocks // out_features starts at `start(o)` and owns
buckets // blocks of them, n tiles. blocks=1: one table for all; blocks=out_features: one for each output. tile=1
is HashedNets (Chen et al., ICML 2015) and hashes as `kernels.hashed_linear` does; a larger tile (ROBE: Desai et
al., MLSys 2022) hashes once for `tile` consecutive inputs and reads them side by side. In a tile each weight has
a sign bit of its own. identity: W[o, f] = buckets[o * in_features + f], without signs. Hashing is 32-bit integer
arithmetic, the same on every platform, and nothing but the buckets is stored.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hashfold import checks
from hashfold.kernels.arrays import out, view
from hashfold.kernels.hashed_linear import _WORD, _mixed
from hashfold.kernels.native import core
from hashfold.kernels.registry import Operator, custom_operator, register

TILES = (1, 4, 8, 16, 32)
MAX_BUCKETS = 2**31 - 1


def check_layout(
    op: str, buckets: Tensor, shape: tuple[int, int], seed: int, tile: int, blocks: int, identity: bool
) -> None:
    """Raises InputError unless buckets and settings describe a matrix of `shape` (out_features, in_features)."""
    outputs, inputs = (
        checks.integer(op, name, value, low=1, high=MAX_BUCKETS)
        for name, value in zip(("out_features", "in_features"), shape, strict=True)
    )
    checks.integer(op, "seed", seed, low=0, high=2**32 - 1)
    checks.integer(op, "blocks", blocks, low=1, high=outputs)
    if tile not in TILES:
        checks.fail(op, f"tile must be one of {', '.join(map(str, TILES))}", repr(tile))
    if buckets.dim() != 1 or buckets.dtype not in (torch.float32, torch.float64):
        expected = "buckets must be a vector of float32 or float64"
        checks.fail(op, expected, f"{buckets.dtype} of shape {tuple(buckets.shape)}")
    if identity and len(buckets) != outputs * inputs:
        checks.fail(op, f"buckets must be {outputs * inputs}, one a weight, for the identity map", len(buckets))
    if not identity and not blocks * tile <= len(buckets) <= MAX_BUCKETS:
        expected = f"buckets must be from {blocks * tile} (a tile a block) to {MAX_BUCKETS}"
        checks.fail(op, expected, len(buckets), "take more buckets, or fewer blocks or a smaller tile")


@custom_operator("hashed_matmul")
def hashed_matmul(
    x: Tensor, buckets: Tensor, out_features: int, seed: int, sign: bool, tile: int, blocks: int, identity: bool
) -> Tensor:
    y = x.new_empty(x.shape[0], out_features)
    fold = core.HashedFold(out_features, x.shape[1], seed, sign, tile, blocks, identity)
    core.folded_matmul(fold, view(buckets), view(x), out(y))
    return y


@hashed_matmul.register_fake
def _(
    x: Tensor, buckets: Tensor, out_features: int, seed: int, sign: bool, tile: int, blocks: int, identity: bool
) -> Tensor:
    return x.new_empty(x.shape[0], out_features)


@custom_operator("hashed_matmul_grad_x")
def grad_x(
    grad: Tensor, buckets: Tensor, in_features: int, seed: int, sign: bool, tile: int, blocks: int, identity: bool
) -> Tensor:
    g = grad.new_empty(grad.shape[0], in_features)
    fold = core.HashedFold(grad.shape[1], in_features, seed, sign, tile, blocks, identity)
    core.folded_grad_x(fold, view(buckets), view(grad), out(g))
    return g


@grad_x.register_fake
def _(
    grad: Tensor, buckets: Tensor, in_features: int, seed: int, sign: bool, tile: int, blocks: int, identity: bool
) -> Tensor:
    return grad.new_empty(grad.shape[0], in_features)


@custom_operator("hashed_matmul_grad_buckets")
def grad_buckets(
    grad: Tensor, x: Tensor, num_buckets: int, seed: int, sign: bool, tile: int, blocks: int, identity: bool
) -> Tensor:
    g = grad.new_empty(num_buckets)
    fold = core.HashedFold(grad.shape[1], x.shape[1], seed, sign, tile, blocks, identity)
    core.folded_grad_shared(fold, view(grad), view(x), out(g))
    return g


@grad_buckets.register_fake
def _(
    grad: Tensor, x: Tensor, num_buckets: int, seed: int, sign: bool, tile: int, blocks: int, identity: bool
) -> Tensor:
    return grad.new_empty(num_buckets)


def _setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    x, buckets, _, *layout = inputs
    ctx.save_for_backward(x, buckets)
    ctx.layout = layout


def _backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
    x, buckets = ctx.saved_tensors
    needs_x, needs_buckets = ctx.needs_input_grad[:2]
    return (
        grad_x(grad, buckets, x.shape[1], *ctx.layout) if needs_x else None,
        grad_buckets(grad, x, buckets.shape[0], *ctx.layout) if needs_buckets else None,
        *(None, None, None, None, None, None),
    )


hashed_matmul.register_autograd(_backward, setup_context=_setup)


@custom_operator("hashed_rows")
def hashed_rows(
    ids: Tensor,
    buckets: Tensor,
    in_features: int,
    out_features: int,
    seed: int,
    sign: bool,
    tile: int,
    blocks: int,
    identity: bool,
) -> Tensor:
    rows = buckets.new_empty(ids.shape[0], in_features)
    fold = core.HashedFold(out_features, in_features, seed, sign, tile, blocks, identity)
    core.folded_rows(fold, view(buckets), view(ids), out(rows))
    return rows


@hashed_rows.register_fake
def _(
    ids: Tensor,
    buckets: Tensor,
    in_features: int,
    out_features: int,
    seed: int,
    sign: bool,
    tile: int,
    blocks: int,
    identity: bool,
) -> Tensor:
    return buckets.new_empty(ids.shape[0], in_features)


@custom_operator("hashed_rows_grad")
def rows_grad(
    grad: Tensor,
    ids: Tensor,
    num_buckets: int,
    out_features: int,
    seed: int,
    sign: bool,
    tile: int,
    blocks: int,
    identity: bool,
) -> Tensor:
    g = grad.new_empty(num_buckets)
    fold = core.HashedFold(out_features, grad.shape[1], seed, sign, tile, blocks, identity)
    core.folded_rows_grad(fold, view(ids), view(grad), out(g))
    return g


@rows_grad.register_fake
def _(
    grad: Tensor,
    ids: Tensor,
    num_buckets: int,
    out_features: int,
    seed: int,
    sign: bool,
    tile: int,
    blocks: int,
    identity: bool,
) -> Tensor:
    return grad.new_empty(num_buckets)


def _rows_setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ids, buckets, _, *layout = inputs
    ctx.save_for_backward(ids)
    ctx.num_buckets, ctx.layout = buckets.shape[0], layout


def _rows_backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
    (ids,) = ctx.saved_tensors
    return None, rows_grad(grad, ids, ctx.num_buckets, *ctx.layout), *[None] * 7


hashed_rows.register_autograd(_rows_backward, setup_context=_rows_setup)


def _places(
    ids: Tensor, num_buckets: int, shape: tuple[int, int], seed: int, tile: int, blocks: int, identity: bool
) -> tuple[Tensor, Tensor]:
    """The bucket and the sign (+1 or -1) of each weight of the rows `ids`: two (len(ids), in_features)."""
    outputs, inputs = shape
    features, ids = torch.arange(inputs), ids[:, None]
    if identity:
        return ids * inputs + features, torch.ones(1, dtype=torch.int64)
    size = num_buckets // blocks
    h = _mixed(features // tile, 2 * seed + 1) ^ _mixed(ids, 2 * seed + 2)
    h = h * 0x9E3779B1 & _WORD
    places = ids * blocks // outputs * size + (h * (size // tile) >> 32) * tile + features % tile
    if tile == 1:
        return places, 1 - 2 * ((h >> 15 ^ h) & 1)
    bits = (h ^ h >> 15) * 0x85EBCA6B & _WORD
    return places, 1 - 2 * ((bits ^ bits >> 13) >> features % tile & 1)


def rows_reference(
    ids: Tensor,
    buckets: Tensor,
    in_features: int,
    out_features: int,
    seed: int,
    sign: bool,
    tile: int,
    blocks: int,
    identity: bool,
) -> Tensor:
    """W[ids], by its definition."""
    shape = out_features, in_features
    places, signs = _places(ids, buckets.shape[0], shape, seed, tile, blocks, identity)
    return buckets[places] * signs if sign and not identity else buckets[places]


def reference(
    x: Tensor, buckets: Tensor, out_features: int, seed: int, sign: bool, tile: int, blocks: int, identity: bool
) -> Tensor:
    every = torch.arange(out_features)
    return x @ rows_reference(every, buckets, x.shape[1], out_features, seed, sign, tile, blocks, identity).T


register(Operator("hashed_matmul", hashed_matmul, reference))
register(Operator("hashed_rows", hashed_rows, rows_reference))
