"""logits = x W[ids]^T + b[ids], one active set for the whole batch.

x (batch, in), weight (out, in), bias (out,) or None, ids (active,) int32 distinct or None for all
neurons in order; logits (batch, active). Cost: batch * active * in multiply-adds, each active row read once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hashfold.kernels.arrays import out, view
from hashfold.kernels.native import core
from hashfold.kernels.registry import Operator, custom_operator, register


def _view(tensor: Tensor | None) -> Any:
    return None if tensor is None else view(tensor)


def _num_active(weight: Tensor, ids: Tensor | None) -> int:
    return weight.shape[0] if ids is None else ids.shape[0]


@custom_operator("active_linear")
def active_linear(x: Tensor, weight: Tensor, bias: Tensor | None, ids: Tensor | None) -> Tensor:
    logits = x.new_empty(x.shape[0], _num_active(weight, ids))
    core.active_linear(view(x), view(weight), _view(bias), _view(ids), out(logits))
    return logits


@active_linear.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, ids: Tensor | None) -> Tensor:
    return x.new_empty(x.shape[0], _num_active(weight, ids))


@custom_operator("active_linear_grad_x")
def grad_x(grad: Tensor, weight: Tensor, ids: Tensor | None) -> Tensor:
    g = grad.new_empty(grad.shape[0], weight.shape[1])
    core.active_linear_grad_x(view(grad), view(weight), _view(ids), out(g))
    return g


@grad_x.register_fake
def _(grad: Tensor, weight: Tensor, ids: Tensor | None) -> Tensor:
    return grad.new_empty(grad.shape[0], weight.shape[1])


@custom_operator("active_linear_grad_weight")
def grad_weight(grad: Tensor, x: Tensor, ids: Tensor | None, out_features: int) -> tuple[Tensor, Tensor]:
    g, g_bias = grad.new_zeros(out_features, x.shape[1]), grad.new_zeros(out_features)
    core.active_linear_grad_weight(view(grad), view(x), _view(ids), out(g), out(g_bias))
    return g, g_bias


@grad_weight.register_fake
def _(grad: Tensor, x: Tensor, ids: Tensor | None, out_features: int) -> tuple[Tensor, Tensor]:
    return grad.new_zeros(out_features, x.shape[1]), grad.new_zeros(out_features)


def _setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    x, weight, _, ids = inputs
    ctx.save_for_backward(x, weight, ids)


def _backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
    x, weight, ids = ctx.saved_tensors
    needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
    to_weight = to_bias = None
    if needs_weight or needs_bias:
        to_weight, to_bias = grad_weight(grad, x, ids, weight.shape[0])
    return (
        grad_x(grad, weight, ids) if needs_x else None,
        to_weight if needs_weight else None,
        to_bias if needs_bias else None,
        None,
    )


active_linear.register_autograd(_backward, setup_context=_setup)


def reference(x: Tensor, weight: Tensor, bias: Tensor | None, ids: Tensor | None) -> Tensor:
    rows = weight if ids is None else weight[ids.long()]
    shift = bias if bias is None or ids is None else bias[ids.long()]
    return torch.nn.functional.linear(x, rows, shift)


register(Operator("active_linear", active_linear, reference))
