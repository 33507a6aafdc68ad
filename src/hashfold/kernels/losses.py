"""Losses over an active set shared by the batch, each with its gradient in the same pass.

logits (batch, active); weights (active,), how many neurons a column stands for; label_indptr
(batch + 1,) int64 and label_positions int64: the columns of each row's true labels. Both operators
return the mean loss over rows (a scalar) and grad = d mean / d logits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hashfold.kernels.arrays import out, view
from hashfold.kernels.native import core
from hashfold.kernels.registry import Operator, custom_operator, register

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def _run(name: str, logits: Tensor, weights: Tensor, starts: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    rows, grad = logits.new_empty(logits.shape[0]), torch.empty_like(logits)
    scale = 1.0 / max(1, logits.shape[0])
    getattr(core, name)(view(logits), view(weights), view(starts), view(positions), out(rows), scale, out(grad))
    return rows.sum() * scale, grad


@custom_operator("sampled_softmax")
def sampled_softmax(
    logits: Tensor, weights: Tensor, label_indptr: Tensor, label_positions: Tensor
) -> tuple[Tensor, Tensor]:
    return _run("sampled_softmax", logits, weights, label_indptr, label_positions)


@custom_operator("sampled_sigmoid")
def sampled_sigmoid(
    logits: Tensor, weights: Tensor, label_indptr: Tensor, label_positions: Tensor
) -> tuple[Tensor, Tensor]:
    return _run("sampled_sigmoid", logits, weights, label_indptr, label_positions)


def _fake(logits: Tensor, weights: Tensor, label_indptr: Tensor, label_positions: Tensor) -> tuple[Tensor, Tensor]:
    return logits.new_empty(()), torch.empty_like(logits)


def _setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(output[1])


def _backward(ctx, grad_loss: Tensor, grad_grad: Tensor | None):  # type: ignore[no-untyped-def]
    (grad,) = ctx.saved_tensors
    return grad * grad_loss, None, None, None


for _operator in (sampled_softmax, sampled_sigmoid):
    _operator.register_fake(_fake)
    _operator.register_autograd(_backward, setup_context=_setup)


def _targets(logits: Tensor, label_indptr: Tensor, label_positions: Tensor) -> tuple[Tensor, Tensor]:
    """Where the labels are: rows and columns."""
    rows = torch.repeat_interleave(torch.arange(logits.shape[0]), label_indptr.diff())
    return rows, label_positions


def softmax_reference(
    logits: Tensor, weights: Tensor, label_indptr: Tensor, label_positions: Tensor
) -> tuple[Tensor, Tensor]:
    def mean_loss(z: Tensor) -> Tensor:
        log_p = torch.log_softmax(z + weights.log(), dim=1)
        rows, columns = _targets(z, label_indptr, label_positions)
        share = 1.0 / label_indptr.diff().clamp(min=1).to(z.dtype)
        return -(log_p[rows, columns] * share[rows]).sum() / max(1, len(z))

    return _with_gradient(mean_loss, logits)


def sigmoid_reference(
    logits: Tensor, weights: Tensor, label_indptr: Tensor, label_positions: Tensor
) -> tuple[Tensor, Tensor]:
    def mean_loss(z: Tensor) -> Tensor:
        rows, columns = _targets(z, label_indptr, label_positions)
        target = torch.zeros_like(z).index_put((rows, columns), z.new_ones(()))
        weight = weights.expand_as(z).index_put((rows, columns), z.new_ones(()))
        bce = torch.nn.functional.binary_cross_entropy_with_logits(z, target, weight, reduction="sum")
        return bce / max(1, len(z))

    return _with_gradient(mean_loss, logits)


def _with_gradient(mean_loss: Callable[[Tensor], Tensor], logits: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        free = logits.detach().requires_grad_()
        (grad,) = torch.autograd.grad(mean_loss(free), free)
    return mean_loss(logits), grad


register(Operator("sampled_softmax", sampled_softmax, softmax_reference, constants=(1,)))
register(Operator("sampled_sigmoid", sampled_sigmoid, sigmoid_reference, constants=(1,)))
