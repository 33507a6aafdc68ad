"""Stateless differentiable operators on the project's own types.

`fused` is the optimizer of a fused weight (see `hashfold.optim`): the weight then gets no gradient but
is moved, row by row, inside the backward pass.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import Parameter

from hashfold import checks
from hashfold.kernels import active_linear as _active
from hashfold.kernels import active_step as _step
from hashfold.kernels import codebook_matrix as _codebook
from hashfold.kernels import hashed_linear as _hashed
from hashfold.kernels import hashed_matrix as _folded
from hashfold.kernels import relu_dropout as _dropout
from hashfold.kernels import rowwise_linear as _rowwise
from hashfold.kernels import sparse_linear as _sparse
from hashfold.kernels.arrays import out, view
from hashfold.kernels.native import core
from hashfold.sparse import ActiveSet, CsrBatch

Csr = tuple[Tensor, Tensor, Tensor]  # indptr int64, ids int32, values


class RowUpdater(Protocol):
    """What an operator needs of the optimizer that moves its weight."""

    def owns(self, parameter: Parameter) -> bool: ...
    def native_rule(self, parameter: Parameter) -> Any: ...
    def states(self, parameter: Parameter) -> tuple[Tensor | None, Tensor | None]: ...
    def move(self, parameter: Parameter, grad: Tensor) -> None: ...


def csr_tensors(x: CsrBatch) -> Csr:
    """indptr, indices, values of `x`, as tensors over the same memory."""
    return torch.from_numpy(x.indptr), torch.from_numpy(x.indices), torch.from_numpy(x.values)


def sparse_linear(
    indptr: Tensor, indices: Tensor, values: Tensor, weight: Tensor, fused: RowUpdater | None = None
) -> Tensor:
    """y = x W for compressed sparse rows x: (rows, features) times (features, out) -> (rows, out).

    Gradients for `values` and `weight`. Cost: nnz * out multiply-adds. indptr int64, indices int32.
    """
    if fused is not None and torch.is_grad_enabled() and weight.requires_grad:
        return _apply(_FusedSparseLinear, indptr, indices, values, weight, fused)
    return _sparse.sparse_linear(indptr, indices, values, weight)


def group_by_feature(x: CsrBatch) -> Any:
    """x's nonzeros sorted by feature, as `sparse_linear_step` takes them. Opaque; cost: a few passes over them."""
    return core.group_by_feature(x.indptr, x.indices, x.values)


@torch.no_grad()
def sparse_linear_sums(x: CsrBatch, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W + b, (rows, out), without autograd."""
    y = weight.new_empty(len(x), weight.shape[1])
    core.sparse_linear(x.indptr, x.indices, x.values, view(weight), out(y))
    return y if bias is None else y.add_(bias)


@torch.no_grad()
def sparse_linear_step(
    groups: Any, grad: Tensor, weight: Parameter, bias: Parameter | None, fused: RowUpdater
) -> None:
    """What backward does for a fused `sparse_linear` and its bias: both moved by `grad` (rows, out) of the sums.

    groups: of the batch, from `group_by_feature`.
    """
    states = [None if s is None else out(s) for s in fused.states(weight)]
    core.sparse_linear_update(groups, view(grad), fused.native_rule(weight), out(weight), *states)
    if bias is not None:
        fused.move(bias, grad.sum(0))


def active_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    active: ActiveSet | None,
    fused: RowUpdater | None = None,
    precision: str = "fp32",
) -> Tensor:
    """x W[ids]^T + b[ids] at the neurons that a batch shares: (rows, in) -> (rows, active).

    `active` None or covering all neurons: all of them, in order. Gradients for x, weight and bias.
    precision: of the products of a fused weight, "fp32", "bf16" or "auto"; all others are fp32.
    """
    _check_active_linear(x, weight, active)
    if fused is not None and torch.is_grad_enabled() and weight.requires_grad:
        return _apply(_FusedActiveLinear, x, weight, bias, _ids(active), fused, _step.products_of(precision))
    ids = _ids(active)
    return _active.active_linear(x, weight, bias, ids)


def relu_dropout(x: Tensor, dropout: float, seed: int) -> Tensor:
    """max(0, x), of which a share `dropout` is set to zero and the rest divided by 1 - dropout.

    Which entries, `seed` (non-negative) decides, the same on any machine. float32. Gradient for x.
    """
    checks.number("relu_dropout", "dropout", dropout, low=0.0, high=0.999)
    checks.integer("relu_dropout", "seed", seed, low=0)
    y: Tensor = _dropout.relu_dropout(x, 1.0 - dropout, seed & (2**63 - 1))
    return y


def rowwise_linear(
    x: Tensor | Csr, weight: Tensor, bias: Tensor | None, active: ActiveSet, fused: RowUpdater | None = None
) -> Tensor:
    """<x_i, W[a]> + b[a] at row i's own neurons: values (pairs,) in the order of `active.ids`.

    x is dense (rows, in) or sparse (indptr, ids, values): the values of the layer before it, of which only
    the nonzeros are multiplied. Gradients for x (its values), weight and bias. Cost: pairs * in
    multiply-adds for a dense x, pairs * (nonzeros of the row) for a sparse one.
    """
    assert active.indptr is not None, "rowwise_linear takes sets per row"
    if active.num_items != weight.shape[0]:
        checks.fail("rowwise_linear", f"active must be a set of {weight.shape[0]} neurons", active.num_items)
    rows = len(x[0]) - 1 if isinstance(x, tuple) else len(x)
    if active.num_rows != rows:
        checks.fail("rowwise_linear", f"active must be for {rows} rows", active.num_rows)
    indptr, ids = torch.from_numpy(active.indptr), torch.from_numpy(active.ids)
    if fused is not None and torch.is_grad_enabled() and weight.requires_grad:
        values = x[2] if isinstance(x, tuple) else x
        layout = x[:2] if isinstance(x, tuple) else None
        return _apply(_FusedRowwiseLinear, values, layout, indptr, ids, weight, bias, fused)
    if isinstance(x, tuple):
        return _rowwise.csr_rowwise_linear(*x, indptr, ids, weight, bias)
    return _rowwise.rowwise_linear(x, indptr, ids, weight, bias)


def hashed_linear(
    x: Csr,
    pairs: tuple[Tensor, Tensor],
    blocks: tuple[Tensor, Tensor],
    buckets: Tensor,
    bias: Tensor | None,
    *,
    seed: int = 0,
    sign: bool = False,
    identity: bool = False,
) -> Tensor:
    """b[o] + sum over a row's nonzeros f of x_f * sign(f, o) * buckets[offset[o] + hash(f, o) mod size[o]].

    pairs: indptr int64 (rows + 1,) and outputs int32; the result lies beside the outputs. blocks: offsets int64
    and sizes int32, (outputs,) each; every block lies inside `buckets`. See `hashfold.nn.HashedLinear`.
    Gradients for the values of x, buckets and bias.
    """
    return _hashed.hashed_linear(*x, *pairs, *blocks, buckets, bias, seed, sign, identity)


def hashed_matmul(
    x: Tensor,
    buckets: Tensor,
    out_features: int,
    *,
    seed: int = 0,
    sign: bool = True,
    tile: int = 1,
    blocks: int = 1,
    identity: bool = False,
) -> Tensor:
    """x W^T for a virtual W (out_features, in) of weights that share `buckets` (B,): (n, in) -> (n, out_features).

    W[o, f] = sign(o, f) * buckets[start + tile * h(f // tile, o) + f % tile], see `kernels.hashed_matrix`.
    float32 or float64. Gradients for x and buckets. Cost: n * in * out_features multiply-adds, and one hash for
    each `tile` weights, whatever n; W is never built.
    """
    op = "hashed_matmul"
    if x.dim() != 2 or x.dtype != buckets.dtype:
        checks.fail(op, f"x must be (n, in) of {buckets.dtype}", f"{x.dtype} of shape {tuple(x.shape)}")
    _folded.check_layout(op, buckets, (out_features, x.shape[1]), seed, tile, blocks, identity)
    return _folded.hashed_matmul(x, buckets, out_features, seed, sign, tile, blocks, identity)


def hashed_rows(
    ids: Tensor,
    buckets: Tensor,
    in_features: int,
    out_features: int,
    *,
    seed: int = 0,
    sign: bool = True,
    tile: int = 1,
    blocks: int = 1,
    identity: bool = False,
) -> Tensor:
    """W[ids] of the matrix of `hashed_matmul`: int64 (m,) -> (m, in_features). Gradient for buckets."""
    _folded.check_layout("hashed_rows", buckets, (out_features, in_features), seed, tile, blocks, identity)
    _check_row_ids("hashed_rows", ids, out_features)
    return _folded.hashed_rows(ids, buckets, in_features, out_features, seed, sign, tile, blocks, identity)


def codebook_matmul(
    x: Tensor,
    codes: Tensor,
    codebook: Tensor,
    bits: int,
    in_features: int,
    *,
    group_rows: int | None = None,
    group_cols: int | None = None,
) -> Tensor:
    """x W^T for a virtual W (out, in_features) of packed codes and codebooks: (n, in_features) -> (n, out).

    W[o, f] = codebook[group of (o, f), code of (o, f // d), f % d], see `kernels.codebook_matrix`. codes: uint8
    from `pack_codes`. codebook: (groups, 2^bits, d), float32 or float64. A group is group_rows x group_cols
    weights; default: all rows, all inputs. Gradients for x and codebook. Cost: n * in * out multiply-adds and one
    decoding of W, piece by piece.
    """
    op = "codebook_matmul"
    layout = _codebook_layout(op, codes, codebook, bits, in_features, group_rows, group_cols)
    if x.dim() != 2 or x.shape[1] != in_features or x.dtype != codebook.dtype:
        expected = f"x must be (n, {in_features}) of {codebook.dtype}"
        checks.fail(op, expected, f"{x.dtype} of shape {tuple(x.shape)}")
    return _codebook.codebook_matmul(x, codes, codebook, *layout)


def codebook_rows(
    ids: Tensor,
    codes: Tensor,
    codebook: Tensor,
    bits: int,
    in_features: int,
    *,
    group_rows: int | None = None,
    group_cols: int | None = None,
) -> Tensor:
    """W[ids] of the matrix of `codebook_matmul`: int64 (m,) -> (m, in_features). Gradient for codebook."""
    layout = _codebook_layout("codebook_rows", codes, codebook, bits, in_features, group_rows, group_cols)
    _check_row_ids("codebook_rows", ids, codes.shape[0])
    return _codebook.codebook_rows(ids, codes, codebook, *layout)


def _codebook_layout(
    op: str,
    codes: Tensor,
    codebook: Tensor,
    bits: int,
    in_features: int,
    group_rows: int | None,
    group_cols: int | None,
) -> tuple[int, int, int, int]:
    dim = codebook.shape[2] if codebook.dim() == 3 else 1
    rows = max(1, codes.shape[0]) if group_rows is None else group_rows
    cols = -(-in_features // max(1, dim)) * dim if group_cols is None else group_cols
    _codebook.check_layout(op, codes, codebook, bits, in_features, rows, cols)
    return bits, in_features, rows, cols


def _check_row_ids(op: str, ids: Tensor, rows: int) -> None:
    if ids.dim() != 1 or ids.dtype != torch.int64:
        checks.fail(op, "ids must be int64 (m,)", f"{ids.dtype} of shape {tuple(ids.shape)}")
    checks.ids_in_range(op, "ids", view(ids), rows)


def _apply(function: type[torch.autograd.Function], *arguments: Any) -> Tensor:
    y: Tensor = function.apply(*arguments)  # type: ignore[no-untyped-call]
    return y


def active_loss_step(
    x: Tensor,
    weight: Parameter,
    bias: Parameter | None,
    active: ActiveSet,
    loss: str,
    fused: RowUpdater,
    precision: str = "fp32",
) -> tuple[float, Tensor]:
    """Logits, loss and backward of an output layer in one pass: the mean loss over rows, and its gradient for x.

    The same as `active_linear` of a fused weight, then a loss of `hashfold.nn.losses` ("softmax" or "sigmoid"),
    then `backward` to x, but logits and their gradients never leave the kernels. weight and bias are moved.
    """
    _check_active_linear(x, weight, active)
    if active.label_indptr is None or active.label_positions is None:
        checks.fail(
            "active_loss_step", "active must hold the true labels", "a set without", "pass labels to lookup"
        )
    checks.one_of("active_loss_step", "loss", loss, _step.LOSSES)
    return _step.loss_step(
        _step.products_of(precision),
        loss,
        x.detach(),
        _ids(active),
        torch.from_numpy(active.weights),
        torch.from_numpy(active.label_indptr),
        torch.from_numpy(active.label_positions),
        _moved(weight, fused),
        None if bias is None else _moved(bias, fused),
    )


def _ids(active: ActiveSet | None) -> Tensor | None:
    return None if active is None or active.covers_all else torch.from_numpy(active.ids)


def _moved(parameter: Parameter, fused: RowUpdater) -> _step.Moved:
    return _step.Moved(parameter, fused.native_rule(parameter), fused.states(parameter))


def _check_active_linear(x: Tensor, weight: Tensor, active: ActiveSet | None) -> None:
    op = "active_linear"
    if x.dim() != 2 or x.shape[1] != weight.shape[1]:
        expected = f"x must be (batch, {weight.shape[1]}) to match weight {tuple(weight.shape)}"
        checks.fail(op, expected, tuple(x.shape))
    if active is not None and active.num_items != weight.shape[0]:
        checks.fail(op, f"active must be a set of {weight.shape[0]} neurons", f"one of {active.num_items}")
    if active is not None and active.num_rows != len(x):
        checks.fail(op, f"active must be for {len(x)} rows", active.num_rows)


class _FusedSparseLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, indptr: Tensor, indices: Tensor, values: Tensor, weight: Tensor, fused: RowUpdater
    ) -> Tensor:
        ctx.save_for_backward(indptr, indices, values)
        ctx.weight, ctx.fused = weight, fused
        return _sparse.sparse_linear(indptr, indices, values, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        indptr, indices, values = ctx.saved_tensors
        weight, fused = ctx.weight, ctx.fused
        to_values = None
        if ctx.needs_input_grad[2]:
            to_values = _sparse.grad_values(indptr, indices, values, weight, grad)
        groups = core.group_by_feature(view(indptr), view(indices), view(values))
        sparse_linear_step(groups, grad, weight, None, fused)
        return None, None, to_values, None, None


class _FusedActiveLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Parameter,
        bias: Parameter | None,
        ids: Tensor | None,
        fused: RowUpdater,
        products: _step.Products,
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.parameters, ctx.ids, ctx.fused, ctx.products = (weight, bias), ids, fused, products
        return _step.forward(products, x, weight, bias, ids)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        weight, bias = ctx.parameters
        moved_bias = None if bias is None else _moved(bias, ctx.fused)
        grad_x = _step.step(ctx.products, x, grad, ctx.ids, _moved(weight, ctx.fused), moved_bias)
        return grad_x, None, None, None, None, None


class _FusedRowwiseLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        layout: tuple[Tensor, Tensor] | None,
        indptr: Tensor,
        ids: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        fused: RowUpdater,
    ) -> Tensor:
        ctx.save_for_backward(values)
        ctx.layout, ctx.pairs, ctx.parameters, ctx.fused = layout, (indptr, ids), (weight, bias), fused
        if layout is None:
            return _rowwise.rowwise_linear(values, indptr, ids, weight, bias)
        return _rowwise.csr_rowwise_linear(*layout, values, indptr, ids, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (values,) = ctx.saved_tensors
        weight, bias = ctx.parameters
        x = values if ctx.layout is None else (*ctx.layout, values)
        indptr, ids = ctx.pairs
        grad_x = _rowwise.fused_step(
            x,
            indptr,
            ids,
            grad,
            weight,
            bias,
            ctx.fused.native_rule(weight),
            ctx.fused.states(weight),
            (None, None) if bias is None else ctx.fused.states(bias),
            bias_rule=None if bias is None else ctx.fused.native_rule(bias),
            needs_grad_x=ctx.needs_input_grad[0],
        )
        return grad_x, None, None, None, None, None, None
