"""y = x W for compressed sparse rows x (rows, features) and a feature-major W (features, out)."""

from __future__ import annotations

import torch
from torch import Tensor

from hashfold.kernels.arrays import out, view
from hashfold.kernels.native import core
from hashfold.kernels.registry import Operator, custom_operator, register


@custom_operator("sparse_linear")
def sparse_linear(indptr: Tensor, indices: Tensor, values: Tensor, weight: Tensor) -> Tensor:
    y = weight.new_empty(len(indptr) - 1, weight.shape[1])
    core.sparse_linear(view(indptr), view(indices), view(values), view(weight), out(y))
    return y


@sparse_linear.register_fake
def _(indptr: Tensor, indices: Tensor, values: Tensor, weight: Tensor) -> Tensor:
    return weight.new_empty(indptr.shape[0] - 1, weight.shape[1])


@custom_operator("sparse_linear_grad_values")
def grad_values(indptr: Tensor, indices: Tensor, values: Tensor, weight: Tensor, grad: Tensor) -> Tensor:
    g = torch.empty_like(values)
    core.sparse_linear_grad_values(view(indptr), view(indices), view(values), view(weight), view(grad), out(g))
    return g


@grad_values.register_fake
def _(indptr: Tensor, indices: Tensor, values: Tensor, weight: Tensor, grad: Tensor) -> Tensor:
    return torch.empty_like(values)


@custom_operator("sparse_linear_grad_weight")
def grad_weight(indptr: Tensor, indices: Tensor, values: Tensor, grad: Tensor, num_features: int) -> Tensor:
    g = grad.new_zeros(num_features, grad.shape[1])
    core.sparse_linear_grad_weight(view(indptr), view(indices), view(values), view(grad), out(g))
    return g


@grad_weight.register_fake
def _(indptr: Tensor, indices: Tensor, values: Tensor, grad: Tensor, num_features: int) -> Tensor:
    return grad.new_zeros(num_features, grad.shape[1])


def _setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*inputs)


def _backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
    indptr, indices, values, weight = ctx.saved_tensors
    needs_values, needs_weight = ctx.needs_input_grad[2:]
    return (
        None,
        None,
        grad_values(indptr, indices, values, weight, grad) if needs_values else None,
        grad_weight(indptr, indices, values, grad, weight.shape[0]) if needs_weight else None,
    )


sparse_linear.register_autograd(_backward, setup_context=_setup)


def reference(indptr: Tensor, indices: Tensor, values: Tensor, weight: Tensor) -> Tensor:
    rows = torch.repeat_interleave(torch.arange(len(indptr) - 1), indptr.diff())
    y = weight.new_zeros(len(indptr) - 1, weight.shape[1])
    return y.index_add(0, rows, values[:, None] * weight[indices.long()])


register(Operator("sparse_linear", sparse_linear, reference))
