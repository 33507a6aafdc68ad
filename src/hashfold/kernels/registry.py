"""Every operator beside its slow twin; the contract tests cover whatever is registered here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Operator:
    """A native operator and the plain-torch function that defines what it computes.

    Both take the same tensors; `op` is a torch custom operator. Where `differentiable`, both can be
    differentiated with respect to their floating-point inputs, but for those at the positions `constants`.
    Of several results only the first can be differentiated. `dtypes`: of the floating-point tensors it takes.
    """

    name: str
    op: Callable[..., Any]
    reference: Callable[..., Any]
    differentiable: bool = True
    constants: tuple[int, ...] = ()
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64)


OPERATORS: dict[str, Operator] = {}


def register(operator: Operator) -> Operator:
    OPERATORS[operator.name] = operator
    return operator
