"""y = x W^T for a virtual matrix W (out_features, in_features) whose weights are entries of codebooks.

    W[o, f] = codebook[group(o, f), codes[o, f // d], f % d]
    group(o, f) = (o // group_rows) * ceil(in_features / group_cols) + f // group_cols

The codebook is (groups, 2^bits, d). d = 1: each weight is one of 2^bits shared values (Deep Compression: Han et
al., ICLR 2016); d > 1: each run of d inputs is one of 2^bits vectors (product quantization: Jegou et al., TPAMI
2011; Stock et al., ICLR 2020). A row's codes lie packed, `bits` each from the lowest bit on, in whole bytes: codes
uint8 (out_features, ceil(ceil(in_features / d) * bits / 8)). Only codes and codebooks are stored.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hashfold import checks
from hashfold.kernels.arrays import out, view
from hashfold.kernels.native import core
from hashfold.kernels.registry import Operator, custom_operator, register


def pack_codes(codes: Tensor, bits: int) -> Tensor:
    """Integers in [0, 2^bits), (rows, count), as packed uint8 (rows, ceil(count * bits / 8)). bits: 1 to 8."""
    op = "pack_codes"
    checks.integer(op, "bits", bits, low=1, high=8)
    if codes.dim() != 2 or codes.is_floating_point():
        checks.fail(op, "codes must be integers (rows, count)", f"{codes.dtype} of shape {tuple(codes.shape)}")
    if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < 2**bits:
        expected = f"codes must lie in [0, {2**bits})"
        checks.fail(op, expected, f"[{int(codes.min())}, {int(codes.max())}]", "take more bits")
    rows, count = codes.shape
    stream = codes.new_zeros(rows, -(-count * bits // 8) * 8, dtype=torch.uint8)
    for bit in range(bits):
        stream[:, bit : count * bits : bits] = (codes >> bit & 1).to(torch.uint8)
    weights = 2 ** torch.arange(8, dtype=torch.uint8)
    return (stream.view(rows, -1, 8) * weights).sum(2, dtype=torch.uint8)


def unpack_codes(packed: Tensor, bits: int, count: int) -> Tensor:
    """What `pack_codes` was given: uint8 (rows, count)."""
    op = "unpack_codes"
    checks.integer(op, "bits", bits, low=1, high=8)
    checks.integer(op, "count", count, low=0)
    if packed.dim() != 2 or packed.dtype != torch.uint8 or packed.shape[1] != -(-count * bits // 8):
        expected = f"packed must be uint8 (rows, {-(-count * bits // 8)}) for {count} codes of {bits} bits"
        checks.fail(op, expected, f"{packed.dtype} of shape {tuple(packed.shape)}")
    stream = (packed[:, :, None] >> torch.arange(8, dtype=torch.uint8) & 1).flatten(1)[:, : count * bits]
    weights = 2 ** torch.arange(bits, dtype=torch.uint8)
    return (stream.view(len(packed), count, bits) * weights).sum(2, dtype=torch.uint8)


def check_layout(
    op: str, codes: Tensor, codebook: Tensor, bits: int, in_features: int, group_rows: int, group_cols: int
) -> None:
    """Raises InputError unless the arguments describe a matrix."""
    checks.integer(op, "bits", bits, low=1, high=8)
    for name, value in (("in_features", in_features), ("group_rows", group_rows), ("group_cols", group_cols)):
        checks.integer(op, name, value, low=1)
    if codebook.dim() != 3 or codebook.dtype not in (torch.float32, torch.float64) or not codebook.shape[2]:
        expected = "codebook must be float32 or float64 (groups, 2^bits, d)"
        checks.fail(op, expected, f"{codebook.dtype} of shape {tuple(codebook.shape)}")
    dim = codebook.shape[2]
    if group_cols % dim:
        checks.fail(
            op, f"group_cols must be a multiple of {dim}, the length of the codebook's vectors", group_cols
        )
    count = -(-in_features // dim)
    stride = -(-count * bits // 8)
    if codes.dim() != 2 or codes.dtype != torch.uint8 or codes.shape[1] != stride:
        expected = f"codes must be uint8 (out_features, {stride}) for {in_features} inputs and {bits} bits"
        checks.fail(op, expected, f"{codes.dtype} of shape {tuple(codes.shape)}")
    groups = -(-codes.shape[0] // group_rows) * -(-in_features // group_cols)
    if codebook.shape[:2] != (groups, 2**bits):
        expected = f"codebook must be ({groups}, {2**bits}, d) for these groups and bits"
        checks.fail(op, expected, tuple(codebook.shape))


@custom_operator("codebook_matmul")
def codebook_matmul(
    x: Tensor, codes: Tensor, codebook: Tensor, bits: int, in_features: int, group_rows: int, group_cols: int
) -> Tensor:
    y = x.new_empty(x.shape[0], codes.shape[0])
    fold = core.CodebookFold(view(codes), in_features, bits, codebook.shape[2], group_rows, group_cols)
    core.folded_matmul(fold, view(codebook.flatten()), view(x), out(y))
    return y


@codebook_matmul.register_fake
def _(
    x: Tensor, codes: Tensor, codebook: Tensor, bits: int, in_features: int, group_rows: int, group_cols: int
) -> Tensor:
    return x.new_empty(x.shape[0], codes.shape[0])


@custom_operator("codebook_matmul_grad_x")
def grad_x(
    grad: Tensor, codes: Tensor, codebook: Tensor, bits: int, in_features: int, group_rows: int, group_cols: int
) -> Tensor:
    g = grad.new_empty(grad.shape[0], in_features)
    fold = core.CodebookFold(view(codes), in_features, bits, codebook.shape[2], group_rows, group_cols)
    core.folded_grad_x(fold, view(codebook.flatten()), view(grad), out(g))
    return g


@grad_x.register_fake
def _(
    grad: Tensor, codes: Tensor, codebook: Tensor, bits: int, in_features: int, group_rows: int, group_cols: int
) -> Tensor:
    return grad.new_empty(grad.shape[0], in_features)


@custom_operator("codebook_matmul_grad_codebook")
def grad_codebook(
    grad: Tensor,
    x: Tensor,
    codes: Tensor,
    groups: int,
    dim: int,
    bits: int,
    in_features: int,
    group_rows: int,
    group_cols: int,
) -> Tensor:
    g = grad.new_empty(groups, 2**bits, dim)
    fold = core.CodebookFold(view(codes), in_features, bits, dim, group_rows, group_cols)
    core.folded_grad_shared(fold, view(grad), view(x), out(g.flatten()))
    return g


@grad_codebook.register_fake
def _(
    grad: Tensor,
    x: Tensor,
    codes: Tensor,
    groups: int,
    dim: int,
    bits: int,
    in_features: int,
    group_rows: int,
    group_cols: int,
) -> Tensor:
    return grad.new_empty(groups, 2**bits, dim)


def _setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    x, codes, codebook, *layout = inputs
    ctx.save_for_backward(x, codes, codebook)
    ctx.layout = layout


def _backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
    x, codes, codebook = ctx.saved_tensors
    needs_x, _, needs_codebook = ctx.needs_input_grad[:3]
    groups, _, dim = codebook.shape
    return (
        grad_x(grad, codes, codebook, *ctx.layout) if needs_x else None,
        None,
        grad_codebook(grad, x, codes, groups, dim, *ctx.layout) if needs_codebook else None,
        *(None, None, None, None),
    )


codebook_matmul.register_autograd(_backward, setup_context=_setup)


@custom_operator("codebook_rows")
def codebook_rows(
    ids: Tensor, codes: Tensor, codebook: Tensor, bits: int, in_features: int, group_rows: int, group_cols: int
) -> Tensor:
    rows = codebook.new_empty(ids.shape[0], in_features)
    fold = core.CodebookFold(view(codes), in_features, bits, codebook.shape[2], group_rows, group_cols)
    core.folded_rows(fold, view(codebook.flatten()), view(ids), out(rows))
    return rows


@codebook_rows.register_fake
def _(
    ids: Tensor, codes: Tensor, codebook: Tensor, bits: int, in_features: int, group_rows: int, group_cols: int
) -> Tensor:
    return codebook.new_empty(ids.shape[0], in_features)


@custom_operator("codebook_rows_grad")
def rows_grad(
    grad: Tensor,
    ids: Tensor,
    codes: Tensor,
    groups: int,
    dim: int,
    bits: int,
    in_features: int,
    group_rows: int,
    group_cols: int,
) -> Tensor:
    g = grad.new_empty(groups, 2**bits, dim)
    fold = core.CodebookFold(view(codes), in_features, bits, dim, group_rows, group_cols)
    core.folded_rows_grad(fold, view(ids), view(grad), out(g.flatten()))
    return g


@rows_grad.register_fake
def _(
    grad: Tensor,
    ids: Tensor,
    codes: Tensor,
    groups: int,
    dim: int,
    bits: int,
    in_features: int,
    group_rows: int,
    group_cols: int,
) -> Tensor:
    return grad.new_empty(groups, 2**bits, dim)


def _rows_setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ids, codes, codebook, *layout = inputs
    ctx.save_for_backward(ids, codes)
    ctx.groups, _, ctx.dim = codebook.shape
    ctx.layout = layout


def _rows_backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
    ids, codes = ctx.saved_tensors
    return None, None, rows_grad(grad, ids, codes, ctx.groups, ctx.dim, *ctx.layout), *[None] * 4


codebook_rows.register_autograd(_rows_backward, setup_context=_rows_setup)


def _places(
    ids: Tensor, codes: Tensor, dim: int, bits: int, in_features: int, group_rows: int, group_cols: int
) -> Tensor:
    """Where in the codebook, seen as a vector, each weight of the rows `ids` lies: (len(ids), in_features)."""
    features = torch.arange(in_features)
    own = unpack_codes(codes[ids], bits, -(-in_features // dim)).long()[:, features // dim]
    groups = ids[:, None] // group_rows * -(-in_features // group_cols) + features // group_cols
    return (groups * 2**bits + own) * dim + features % dim


def rows_reference(
    ids: Tensor, codes: Tensor, codebook: Tensor, bits: int, in_features: int, group_rows: int, group_cols: int
) -> Tensor:
    """W[ids], by its definition."""
    layout = bits, in_features, group_rows, group_cols
    return codebook.flatten()[_places(ids, codes, codebook.shape[2], *layout)]


def reference(
    x: Tensor, codes: Tensor, codebook: Tensor, bits: int, in_features: int, group_rows: int, group_cols: int
) -> Tensor:
    every = torch.arange(codes.shape[0])
    return x @ rows_reference(every, codes, codebook, bits, in_features, group_rows, group_cols).T


register(Operator("codebook_matmul", codebook_matmul, reference))
register(Operator("codebook_rows", codebook_rows, rows_reference))
