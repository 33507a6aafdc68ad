"""y[j] = b[o] + sum over the nonzeros f of row i of x_if * sign(f, o) * buckets[offset[o] + place(f, o)].

j is a pair (row i, output o); the pairs are compressed sparse rows without values, `out_indptr` int64
(rows + 1,) and `out_ids` int32 (pairs,), as is x with values. `offsets` int64 and `sizes` int32, both
(outputs,), give each output its part of `buckets`: blocks of their own, or one table for all (offset 0). An
output of size 0 is its bias. Hashing is 32-bit integer arithmetic, the same on every platform.

Cost: for each pair, the nonzeros of its row; a gradient of the buckets has their size, and each thread hashes
all pairs for it. Training output by output, and buckets in 8 bits: `hashfold.kernels.hashed_blocks`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hashfold.kernels.arrays import out, view
from hashfold.kernels.native import core
from hashfold.kernels.registry import Operator, custom_operator, register

_WORD = 0xFFFFFFFF
_GOLDEN = 0x9E3779B9


def _layout(offsets: Tensor, sizes: Tensor, seed: int, sign: bool, identity: bool) -> Any:
    return core.HashedLayout(view(offsets), view(sizes), seed, sign, identity)


@custom_operator("hashed_linear")
def hashed_linear(
    indptr: Tensor,
    indices: Tensor,
    values: Tensor,
    out_indptr: Tensor,
    out_ids: Tensor,
    offsets: Tensor,
    sizes: Tensor,
    buckets: Tensor,
    bias: Tensor | None,
    seed: int,
    sign: bool,
    identity: bool,
) -> Tensor:
    y = buckets.new_empty(out_ids.shape[0])
    x = view(indptr), view(indices), view(values)
    layout = _layout(offsets, sizes, seed, sign, identity)
    offset = None if bias is None else view(bias)
    core.hashed_linear(*x, view(out_indptr), view(out_ids), layout, view(buckets), offset, out(y))
    return y


@hashed_linear.register_fake
def _(
    indptr: Tensor,
    indices: Tensor,
    values: Tensor,
    out_indptr: Tensor,
    out_ids: Tensor,
    offsets: Tensor,
    sizes: Tensor,
    buckets: Tensor,
    bias: Tensor | None,
    seed: int,
    sign: bool,
    identity: bool,
) -> Tensor:
    return buckets.new_empty(out_ids.shape[0])


@custom_operator("hashed_linear_grad_values")
def grad_values(
    grad: Tensor,
    indptr: Tensor,
    indices: Tensor,
    values: Tensor,
    out_indptr: Tensor,
    out_ids: Tensor,
    offsets: Tensor,
    sizes: Tensor,
    buckets: Tensor,
    seed: int,
    sign: bool,
    identity: bool,
) -> Tensor:
    g = torch.empty_like(values)
    x = view(indptr), view(indices), view(values)
    layout = _layout(offsets, sizes, seed, sign, identity)
    core.hashed_linear_grad_values(*x, view(out_indptr), view(out_ids), layout, view(buckets), view(grad), out(g))
    return g


@grad_values.register_fake
def _(
    grad: Tensor,
    indptr: Tensor,
    indices: Tensor,
    values: Tensor,
    out_indptr: Tensor,
    out_ids: Tensor,
    offsets: Tensor,
    sizes: Tensor,
    buckets: Tensor,
    seed: int,
    sign: bool,
    identity: bool,
) -> Tensor:
    return torch.empty_like(values)


@custom_operator("hashed_linear_grad_buckets")
def grad_buckets(
    grad: Tensor,
    indptr: Tensor,
    indices: Tensor,
    values: Tensor,
    out_indptr: Tensor,
    out_ids: Tensor,
    offsets: Tensor,
    sizes: Tensor,
    num_buckets: int,
    seed: int,
    sign: bool,
    identity: bool,
) -> Tensor:
    g = grad.new_zeros(num_buckets)
    x = view(indptr), view(indices), view(values)
    layout = _layout(offsets, sizes, seed, sign, identity)
    core.hashed_linear_grad_buckets(*x, view(out_indptr), view(out_ids), layout, view(grad), out(g))
    return g


@grad_buckets.register_fake
def _(
    grad: Tensor,
    indptr: Tensor,
    indices: Tensor,
    values: Tensor,
    out_indptr: Tensor,
    out_ids: Tensor,
    offsets: Tensor,
    sizes: Tensor,
    num_buckets: int,
    seed: int,
    sign: bool,
    identity: bool,
) -> Tensor:
    return grad.new_zeros(num_buckets)


def _setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *tensors, seed, sign, identity = inputs
    ctx.save_for_backward(*tensors)
    ctx.hash = seed, sign, identity


def _backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
    *place, buckets, bias = ctx.saved_tensors
    needs_values, needs_buckets, needs_bias = (ctx.needs_input_grad[k] for k in (2, 7, 8))
    to_bias = None
    if needs_bias:
        to_bias = grad.new_zeros(bias.shape[0]).index_add(0, place[4], grad)
    return (
        *(None, None),
        grad_values(grad, *place, buckets, *ctx.hash) if needs_values else None,
        *(None, None, None, None),
        grad_buckets(grad, *place, buckets.shape[0], *ctx.hash) if needs_buckets else None,
        to_bias,
        *(None, None, None),
    )


hashed_linear.register_autograd(_backward, setup_context=_setup)


def _mixed(ids: Tensor, salt: int) -> Tensor:
    """The finaliser of MurmurHash3 on 32-bit words, held in int64."""
    h = (ids.long() + (salt * _GOLDEN & _WORD)) & _WORD
    h = (h ^ (h >> 16)) * 0x85EBCA6B & _WORD
    h = (h ^ (h >> 13)) * 0xC2B2AE35 & _WORD
    return h ^ (h >> 16)


def places_and_signs(features: Tensor, outputs: Tensor, sizes: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """place(f, o) in [0, size) and sign(f, o), +1 or -1, for pairs of ids: three integer tensors of one shape."""
    h = _mixed(features, 2 * seed + 1) ^ _mixed(outputs, 2 * seed + 2)
    h = h * 0x9E3779B1 & _WORD
    return h * sizes.long() >> 32, 1 - 2 * ((h >> 15 ^ h) & 1)


def reference(
    indptr: Tensor,
    indices: Tensor,
    values: Tensor,
    out_indptr: Tensor,
    out_ids: Tensor,
    offsets: Tensor,
    sizes: Tensor,
    buckets: Tensor,
    bias: Tensor | None,
    seed: int,
    sign: bool,
    identity: bool,
) -> Tensor:
    rows = torch.repeat_interleave(torch.arange(len(out_indptr) - 1), out_indptr.diff())
    counts = torch.where(sizes[out_ids.long()] > 0, indptr.diff()[rows], 0)
    pair = torch.repeat_interleave(torch.arange(len(out_ids)), counts)
    entry = torch.arange(len(pair)) - (counts.cumsum(0) - counts - indptr[rows])[pair]
    features, outputs = indices[entry].long(), out_ids[pair].long()
    places, signs = places_and_signs(features, outputs, sizes[outputs], seed)
    terms = values[entry] * buckets[offsets[outputs] + (features if identity else places)]
    y = values.new_zeros(len(out_ids)).index_add(0, pair, terms * signs if sign else terms)
    return y if bias is None else y + bias[out_ids.long()]


register(Operator("hashed_linear", hashed_linear, reference))
