"""y = dropout(relu(x)): an entry is kept with probability `keep`, and then divided by it.

Whether entry i (counted in memory order) is kept is a pure function of (seed, i), so that no mask is stored and
the same seed drops the same entries on any machine. float32.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from hashfold.kernels.arrays import out, view
from hashfold.kernels.native import core
from hashfold.kernels.registry import Operator, custom_operator, register


@custom_operator("relu_dropout")
def relu_dropout(x: Tensor, keep: float, seed: int) -> Tensor:
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    core.relu_dropout(view(x).reshape(-1), keep, seed, out(y).reshape(-1))
    return y


@relu_dropout.register_fake
def _(x: Tensor, keep: float, seed: int) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@custom_operator("relu_dropout_grad")
def grad_x(grad: Tensor, y: Tensor, keep: float) -> Tensor:
    g = torch.empty_like(y)
    core.relu_dropout_grad(view(grad).reshape(-1), view(y).reshape(-1), keep, out(g).reshape(-1))
    return g


@grad_x.register_fake
def _(grad: Tensor, y: Tensor, keep: float) -> Tensor:
    return torch.empty_like(y)


def _setup(ctx: Any, inputs: Any, output: Tensor) -> None:
    ctx.save_for_backward(output)
    ctx.keep = inputs[1]


def _backward(ctx: Any, grad: Tensor) -> Any:
    (y,) = ctx.saved_tensors
    return grad_x(grad, y, ctx.keep), None, None


relu_dropout.register_autograd(_backward, setup_context=_setup)


def grad_in_place(grad: Tensor, y: Tensor, keep: float) -> Tensor:
    """`grad_x`, written over `grad` (contiguous)."""
    g = out(grad).reshape(-1)
    core.relu_dropout_grad(g, view(y).reshape(-1), keep, g)
    return grad


def reference(x: Tensor, keep: float, seed: int) -> Tensor:
    highest = max(0, math.floor(keep * 2.0**32) - 1)
    kept = _hash(torch.arange(x.numel(), dtype=torch.int64), seed).view(x.shape) <= highest
    return torch.relu(x) * kept / keep


def _hash(position: Tensor, seed: int) -> Tensor:
    """The core's 32-bit hash, in 64-bit integers."""
    keys = _mix64(seed)
    for key in (keys & 0xFFFFFFFF, keys >> 32):
        position = position ^ key
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            position = ((position ^ (position >> shift)) * factor) & 0xFFFFFFFF
        position = position ^ (position >> 16)
    return position


def _mix64(x: int) -> int:
    whole = 2**64 - 1
    x = (x + 0x9E3779B97F4A7C15) & whole
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & whole
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & whole
    return x ^ (x >> 31)


register(Operator("relu_dropout", relu_dropout, reference, dtypes=(torch.float32,)))
