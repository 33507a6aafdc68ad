"""The training step of a layer whose active set the whole batch shares; float32 tensors.

Products in `precision` "fp32", or "bf16": their operands rounded to bfloat16, sums, weights and optimizer state in
float32. On instruction sets without bfloat16 dot products "bf16" gives the same results (but for the order of
summation) at the speed of "fp32".

x (batch, in), weight (out, in), bias (out,) or None, ids (active,) int32 distinct or None for all neurons in
order.
A `Moved` is a parameter with its rule (`core.RowOptimizer`) and its states, of the parameter's shape.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from hashfold.kernels import native
from hashfold.kernels.arrays import out, view
from hashfold.kernels.losses import sampled_sigmoid, sampled_softmax
from hashfold.kernels.native import core

Products: TypeAlias = Literal["fp32", "bf16"]
PRECISIONS = ("auto", "fp32", "bf16")
LOSSES = ("softmax", "sigmoid")


class Moved(NamedTuple):
    """A parameter that the step moves."""

    parameter: Tensor
    rule: Any
    states: tuple[Tensor | None, Tensor | None]


def products_of(precision: str) -> Products:
    """What a precision setting means here and now: "auto" is "bf16" where the machine multiplies it natively."""
    if precision == "auto":
        return "bf16" if native.multiplies_bf16() else "fp32"
    return "bf16" if precision == "bf16" else "fp32"


def forward(precision: Products, x: Tensor, weight: Tensor, bias: Tensor | None, ids: Tensor | None) -> Tensor:
    """logits (batch, active) = x W[ids]^T + b[ids]."""
    logits = x.new_empty(x.shape[0], weight.shape[0] if ids is None else ids.shape[0])
    biases = None if bias is None else view(bias)
    core.active_forward(_native(precision), view(x), view(weight), biases, _ids(ids), out(logits))
    return logits


def step(
    precision: Products, x: Tensor, grad: Tensor, ids: Tensor | None, weight: Moved, bias: Moved | None
) -> Tensor:
    """grad_x = grad W[ids], and every active row of weight and bias moved by its gradient, in place.

    grad (batch, active). grad_x is taken from the rows before they move. No gradient of weight's size is built.
    """
    grad_x = torch.empty_like(x)
    core.active_step(
        _native(precision),
        view(grad),
        view(x),
        _ids(ids),
        *_matrices(weight),
        *_columns(weight, bias),
        out(grad_x),
    )
    return grad_x


def loss_step(
    precision: Products,
    loss: str,
    x: Tensor,
    ids: Tensor | None,
    weights: Tensor,
    label_indptr: Tensor,
    label_positions: Tensor,
    weight: Moved,
    bias: Moved | None,
) -> tuple[float, Tensor]:
    """The mean loss over rows (see `hashfold.kernels.losses`) and grad_x; weight and bias moved, in place.

    loss: "softmax" or "sigmoid". weights (active,), label_indptr and label_positions as in `losses`. Logits and
    their gradients exist only in the kernels' cache, or for softmax once in their scratch.
    """
    grad_x = torch.empty_like(x)
    mean = core.active_loss_step(
        _native(precision),
        getattr(core.SampledLoss, loss),
        view(x),
        _ids(ids),
        view(weights),
        view(label_indptr),
        view(label_positions),
        *_matrices(weight),
        *_columns(weight, bias),
        out(grad_x),
    )
    return float(mean), grad_x


def rounded(x: Tensor) -> Tensor:
    """What "bf16" multiplies: the nearest bfloat16, ties to even."""
    return x.to(torch.bfloat16).to(x.dtype)


def reference_gradients(
    precision: Products,
    loss: str,
    x: Tensor,
    ids: Tensor | None,
    weights: Tensor,
    label_indptr: Tensor,
    label_positions: Tensor,
    weight: Tensor,
    bias: Tensor | None,
) -> tuple[float, Tensor, Tensor, Tensor]:
    """The twin of `loss_step`, up to the optimizer's rule: mean loss, grad_x, gradients of rows and of biases."""
    operand = rounded if precision == "bf16" else Tensor.clone
    rows = weight if ids is None else weight[ids.long()]
    logits = operand(x) @ operand(rows).T
    if bias is not None:
        logits += bias if ids is None else bias[ids.long()]
    take = sampled_softmax if loss == "softmax" else sampled_sigmoid
    mean, grad = take(logits, weights, label_indptr, label_positions)
    return float(mean), operand(grad) @ operand(rows), operand(grad).T @ operand(x), grad.sum(0)


def _native(precision: Products) -> Any:
    return getattr(core.Precision, precision)


def _ids(ids: Tensor | None) -> Any:
    return None if ids is None else view(ids)


def _matrices(moved: Moved) -> list[Any]:
    return [moved.rule, out(moved.parameter), *(None if s is None else out(s) for s in moved.states)]


def _columns(weight: Moved, bias: Moved | None) -> list[Any]:
    """The bias as a matrix of one column; a rule must be given even where there is none."""
    if bias is None:
        return [weight.rule, None, None, None]
    arrays = (None if a is None else out(a).reshape(-1, 1) for a in (bias.parameter, *bias.states))
    return [bias.rule, *arrays]
