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
from hashfold.kernels import sparse_linear as _sparse
from hashfold.kernels.arrays import out, view
from hashfold.kernels.native import core
from hashfold.sparse import ActiveSet, CsrBatch


class RowUpdater(Protocol):
    """What an operator needs of the optimizer that moves its weight."""

    def native_rule(self, parameter: Parameter) -> Any: ...
    def states(self, parameter: Parameter) -> tuple[Tensor | None, Tensor | None]: ...


def csr_tensors(x: CsrBatch) -> tuple[Tensor, Tensor, Tensor]:
    """indptr, indices, values of `x`, as tensors over the same memory."""
    return torch.from_numpy(x.indptr), torch.from_numpy(x.indices), torch.from_numpy(x.values)


def sparse_linear(
    indptr: Tensor, indices: Tensor, values: Tensor, weight: Tensor, fused: RowUpdater | None = None
) -> Tensor:
    """y = x W for compressed sparse rows x: (rows, features) times (features, out) -> (rows, out).

    Gradients for `values` and `weight`. Cost: nnz * out multiply-adds. indptr int64, indices int32.
    """
    if fused is not None and torch.is_grad_enabled() and weight.requires_grad:
        return _FusedSparseLinear.apply(indptr, indices, values, weight, fused)  # type: ignore[no-any-return]
    return _sparse.sparse_linear(indptr, indices, values, weight)


def active_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, active: ActiveSet | None, fused: RowUpdater | None = None
) -> Tensor:
    """x W[ids]^T + b[ids] at the neurons that a batch shares: (rows, in) -> (rows, active).

    `active` None or covering all neurons: all of them, in order. Gradients for x, weight and bias.
    """
    _check_active_linear(x, weight, active)
    ids = None if active is None or active.covers_all else torch.from_numpy(active.ids)
    if fused is not None and torch.is_grad_enabled() and weight.requires_grad:
        return _FusedActiveLinear.apply(x, weight, bias, ids, fused)  # type: ignore[no-any-return]
    return _active.active_linear(x, weight, bias, ids)


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
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        indptr, indices, values = ctx.saved_tensors
        weight, fused = ctx.weight, ctx.fused
        to_values = None
        if ctx.needs_input_grad[2]:
            to_values = _sparse.grad_values(indptr, indices, values, weight, grad)
        states = [None if s is None else out(s) for s in fused.states(weight)]
        core.sparse_linear_update(
            view(indptr), view(indices), view(values), view(grad), fused.native_rule(weight), out(weight), *states
        )
        return None, None, to_values, None, None


class _FusedActiveLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, ids: Tensor | None, fused: RowUpdater
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.weight, ctx.bias, ctx.ids, ctx.fused = weight, bias, ids, fused
        return _active.active_linear(x, weight, bias, ids)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        weight, bias, fused = ctx.weight, ctx.bias, ctx.fused
        rule = fused.native_rule(weight)
        grad_x = _active.fused_step(
            x,
            grad,
            weight,
            bias,
            ctx.ids,
            rule,
            fused.states(weight),
            rule if bias is None else fused.native_rule(bias),
            (None, None) if bias is None else fused.states(bias),
        )
        return grad_x, None, None, None, None
