"""y[j] = <x_i, W[a]> + b[a] for the j-th pair (row i, neuron a): each row computes neurons of its own.

The pairs are compressed sparse rows without values: `out_indptr` int64 (rows + 1,), `out_ids` int32
(pairs,), distinct within a row, in any order. weight is (neurons, in), bias (neurons,) or None.

- `rowwise_linear`: x dense (rows, in). Cost: pairs * in multiplications.
- `csr_rowwise_linear`: x sparse (`in_indptr`, `in_ids`, `in_values`), as the layer before it leaves
  it; only its nonzeros are multiplied.
- `fused_step`: backward pass and optimizer step in one, without a gradient of the weight's size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hashfold.kernels.arrays import out, view
from hashfold.kernels.native import core
from hashfold.kernels.registry import Operator, custom_operator, register

Csr = tuple[Tensor, Tensor, Tensor]  # indptr int64, ids int32, values
States = tuple[Tensor | None, Tensor | None]  # the first and second state of a rule, None where it has none


def _view(tensor: Tensor | None) -> Any:
    return None if tensor is None else view(tensor)


@custom_operator("rowwise_linear")
def rowwise_linear(x: Tensor, out_indptr: Tensor, out_ids: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y = weight.new_empty(out_ids.shape[0])
    core.rowwise_linear(view(x), view(out_indptr), view(out_ids), view(weight), _view(bias), out(y))
    return y


@rowwise_linear.register_fake
def _(x: Tensor, out_indptr: Tensor, out_ids: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return weight.new_empty(out_ids.shape[0])


@custom_operator("rowwise_linear_grad_x")
def grad_x(grad: Tensor, out_indptr: Tensor, out_ids: Tensor, weight: Tensor) -> Tensor:
    g = weight.new_empty(out_indptr.shape[0] - 1, weight.shape[1])
    core.rowwise_linear_grad_x(view(grad), view(out_indptr), view(out_ids), view(weight), out(g))
    return g


@grad_x.register_fake
def _(grad: Tensor, out_indptr: Tensor, out_ids: Tensor, weight: Tensor) -> Tensor:
    return weight.new_empty(out_indptr.shape[0] - 1, weight.shape[1])


@custom_operator("rowwise_linear_grad_weight")
def grad_weight(grad: Tensor, x: Tensor, out_indptr: Tensor, out_ids: Tensor, num_neurons: int) -> Tensor:
    g = x.new_zeros(num_neurons, x.shape[1])
    core.rowwise_linear_grad_weight(view(grad), view(x), view(out_indptr), view(out_ids), out(g))
    return g


@grad_weight.register_fake
def _(grad: Tensor, x: Tensor, out_indptr: Tensor, out_ids: Tensor, num_neurons: int) -> Tensor:
    return x.new_zeros(num_neurons, x.shape[1])


def _grad_bias(grad: Tensor, out_ids: Tensor, num_neurons: int) -> Tensor:
    return grad.new_zeros(num_neurons).index_add(0, out_ids, grad)


def _setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*inputs)


def _backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
    x, indptr, ids, weight, _ = ctx.saved_tensors
    needs_x, _, _, needs_weight, needs_bias = ctx.needs_input_grad
    return (
        grad_x(grad, indptr, ids, weight) if needs_x else None,
        None,
        None,
        grad_weight(grad, x, indptr, ids, weight.shape[0]) if needs_weight else None,
        _grad_bias(grad, ids, weight.shape[0]) if needs_bias else None,
    )


rowwise_linear.register_autograd(_backward, setup_context=_setup)


@custom_operator("csr_rowwise_linear")
def csr_rowwise_linear(
    in_indptr: Tensor,
    in_ids: Tensor,
    in_values: Tensor,
    out_indptr: Tensor,
    out_ids: Tensor,
    weight: Tensor,
    bias: Tensor | None,
) -> Tensor:
    y = weight.new_empty(out_ids.shape[0])
    x = view(in_indptr), view(in_ids), view(in_values)
    core.csr_rowwise_linear(*x, view(out_indptr), view(out_ids), view(weight), _view(bias), out(y))
    return y


@csr_rowwise_linear.register_fake
def _(
    in_indptr: Tensor,
    in_ids: Tensor,
    in_values: Tensor,
    out_indptr: Tensor,
    out_ids: Tensor,
    weight: Tensor,
    bias: Tensor | None,
) -> Tensor:
    return weight.new_empty(out_ids.shape[0])


@custom_operator("csr_rowwise_linear_grad_x")
def csr_grad_x(
    grad: Tensor, in_indptr: Tensor, in_ids: Tensor, out_indptr: Tensor, out_ids: Tensor, weight: Tensor
) -> Tensor:
    g = weight.new_empty(in_ids.shape[0])
    pairs = view(out_indptr), view(out_ids)
    core.csr_rowwise_linear_grad_x(view(grad), view(in_indptr), view(in_ids), *pairs, view(weight), out(g))
    return g


@csr_grad_x.register_fake
def _(
    grad: Tensor, in_indptr: Tensor, in_ids: Tensor, out_indptr: Tensor, out_ids: Tensor, weight: Tensor
) -> Tensor:
    return weight.new_empty(in_ids.shape[0])


@custom_operator("csr_rowwise_linear_grad_weight")
def csr_grad_weight(
    grad: Tensor,
    in_indptr: Tensor,
    in_ids: Tensor,
    in_values: Tensor,
    out_indptr: Tensor,
    out_ids: Tensor,
    num_neurons: int,
    in_features: int,
) -> Tensor:
    g = in_values.new_zeros(num_neurons, in_features)
    x = view(in_indptr), view(in_ids), view(in_values)
    core.csr_rowwise_linear_grad_weight(view(grad), *x, view(out_indptr), view(out_ids), out(g))
    return g


@csr_grad_weight.register_fake
def _(
    grad: Tensor,
    in_indptr: Tensor,
    in_ids: Tensor,
    in_values: Tensor,
    out_indptr: Tensor,
    out_ids: Tensor,
    num_neurons: int,
    in_features: int,
) -> Tensor:
    return in_values.new_zeros(num_neurons, in_features)


def _csr_backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
    in_indptr, in_ids, in_values, indptr, ids, weight, _ = ctx.saved_tensors
    needs_values, needs_weight, needs_bias = (ctx.needs_input_grad[k] for k in (2, 5, 6))
    x = in_indptr, in_ids, in_values
    return (
        None,
        None,
        csr_grad_x(grad, in_indptr, in_ids, indptr, ids, weight) if needs_values else None,
        None,
        None,
        csr_grad_weight(grad, *x, indptr, ids, *weight.shape) if needs_weight else None,
        _grad_bias(grad, ids, weight.shape[0]) if needs_bias else None,
    )


csr_rowwise_linear.register_autograd(_csr_backward, setup_context=_setup)


def fused_step(
    x: Tensor | Csr,
    out_indptr: Tensor,
    out_ids: Tensor,
    grad_values: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rule: Any,
    weight_states: States,
    bias_states: States = (None, None),
    bias_rule: Any = None,
    needs_grad_x: bool = True,
) -> Tensor | None:
    """Backward pass and optimizer step of either form at once, float32.

    Moves the rows of `weight`, entries of `bias` and their states, in place, for the neurons of
    `out_ids` and no other, by `rule` (the native `core.RowOptimizer`). A neuron active in many rows moves
    once, by the sum of its gradients; only one row's gradient exists at a time. A bias follows
    `bias_rule` (None: `rule`) but is never rescaled to `row_norm`; its states have its shape (neurons,).

    Returns the gradient of x under the weights before the step: (rows, in) for a dense x, one entry per
    value for a sparse one, or None if not needed. Results do not depend on the number of threads.
    """
    sparse = isinstance(x, tuple)
    inputs = tuple(view(part) for part in x) if isinstance(x, tuple) else (view(x),)
    values = x[2] if isinstance(x, tuple) else x
    grad_x = torch.empty_like(values, memory_format=torch.contiguous_format) if needs_grad_x else None
    update = core.csr_rowwise_linear_update if sparse else core.rowwise_linear_update
    update(
        *inputs,
        view(out_indptr),
        view(out_ids),
        view(grad_values),
        rule,
        out(weight),
        *(_out(state) for state in weight_states),
        rule if bias_rule is None else bias_rule,
        *(_out(column) for column in map(_column, (bias, *bias_states))),
        _out(grad_x),
    )
    return grad_x


def _column(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().view(-1, 1)


def _out(tensor: Tensor | None) -> Any:
    return None if tensor is None else out(tensor)


def _pair_rows(indptr: Tensor) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(indptr) - 1), indptr.diff())


def reference(
    x: Tensor, out_indptr: Tensor, out_ids: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    y = (x[_pair_rows(out_indptr)] * weight[out_ids.long()]).sum(1)
    return y if bias is None else y + bias[out_ids.long()]


def csr_reference(
    in_indptr: Tensor,
    in_ids: Tensor,
    in_values: Tensor,
    out_indptr: Tensor,
    out_ids: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    dense = in_values.new_zeros(len(in_indptr) - 1, weight.shape[1])
    dense = dense.index_put((_pair_rows(in_indptr), in_ids.long()), in_values, accumulate=True)
    return reference(dense, out_indptr, out_ids, weight, bias)


register(Operator("rowwise_linear", rowwise_linear, reference))
register(Operator("csr_rowwise_linear", csr_rowwise_linear, csr_reference))
