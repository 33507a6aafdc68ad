"""Every operator beside its slow twin; the contract tests cover whatever is registered here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any

import torch

_LIBRARY: Any = torch.library.Library("hashfold", "FRAGMENT")  # type: ignore[no-untyped-call]
Function = Callable[..., Any]


class CustomOperator:
    """A torch operator made of a function that takes tensors, changes none, and returns new ones.

    What `torch.library.custom_op` makes, but for a wrapper that at the operator's first call imports torch's
    compiler: a second, and 70 MB that stay. Dispatch, autograd, fake tensors and `torch.compile` are the same.
    """

    def __init__(self, name: str, function: Function) -> None:
        schema = torch.library.infer_schema(function, mutates_args=())
        _LIBRARY.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
        _LIBRARY.impl(name, function, "CompositeExplicitAutograd")
        self.overload = getattr(torch.ops.hashfold, name).default
        self._name = f"hashfold::{name}"
        update_wrapper(self, function)

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self.overload(*args, **named)

    def register_fake(self, function: Function) -> Function:
        """Decorates the function that makes results of the right shapes, with nothing in them."""
        torch.library.register_fake(self._name, function, lib=_LIBRARY)
        return function

    def register_autograd(self, backward: Function, setup_context: Function) -> None:
        torch.library.register_autograd(self._name, backward, setup_context=setup_context, lib=_LIBRARY)


def custom_operator(name: str) -> Callable[[Function], CustomOperator]:
    """Decorates a function that becomes the operator `hashfold::name`; its annotations are the schema."""
    return lambda function: CustomOperator(name, function)


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
