"""Row-wise optimizers: rows without a gradient are neither read nor written, nor is their state.

They are `torch.optim.Optimizer`s: learning-rate schedulers, parameter groups and `state_dict` work as
usual. A module handed to `fuse` has its weight updated inside the backward pass, each row while its
gradient is in cache; no gradient of the weight's size is ever built. Parameters that are not fused
are updated in `step` from `.grad`, dense or sparse (COO over rows).

A fused backward pass moves the weights at once: call `backward` once a step, and do not clip or
accumulate the gradients of fused weights (they do not exist).
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar, Protocol, overload

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from hashfold import checks
from hashfold.kernels.arrays import on_huge_pages, out, view
from hashfold.kernels.native import core

States = tuple[Tensor | None, Tensor | None]

MOMENTS = ("fp32", "bf16")
_KINDS = {"row_state": False, "first_moment": "fp32"}
"""The settings that say what state there is, and what older states that do not have them mean."""


class Fusable(Protocol):
    """A module whose weight can be updated inside its backward pass."""

    def fuse_with(self, optimizer: RowOptimizer) -> None: ...


class _Optimizer(torch.optim.Optimizer):
    """torch's optimizer without the wrapper of methods that are not to be compiled.

    To say so to its compiler it imports that compiler at their first call: a second, and 70 MB that stay.
    """

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)


class RowOptimizer(_Optimizer, ABC):
    """What the row-wise rules share. float32 parameters on the CPU, one or two dimensions."""

    _rule: ClassVar[int]

    def __init__(self, params: Iterable[Parameter] | Iterable[dict[str, Any]], defaults: dict[str, Any]) -> None:
        super().__init__(params, {**defaults, "step": 0})
        self._group_of = {id(p): group for group in self.param_groups for p in group["params"]}
        for p in self._parameters():
            if p.dtype != torch.float32 or p.dim() not in (1, 2) or not p.is_contiguous():
                kind = f"{p.dtype} of shape {tuple(p.shape)}"
                expected = "parameters must be contiguous float32 of one or two dimensions"
                checks.fail(type(self).__name__, expected, kind, "use a torch.optim optimizer for it")

    def fuse(self, *modules: Fusable) -> None:
        """From now on the modules' weights move inside backward, by this optimizer's rule."""
        for module in modules:
            module.fuse_with(self)

    def owns(self, parameter: Parameter) -> bool:
        return id(parameter) in self._group_of

    def native_rule(self, parameter: Parameter) -> Any:
        """This step's update rule for `parameter`, as the compiled core takes it."""
        group = self._group_of[id(parameter)]
        return self._native(group, _has_row_state(parameter, group), _has_bf16_moment(parameter, group))

    def states(self, parameter: Parameter) -> States:
        """The rule's state tensors, of the parameter's shape or (rows, 1); made of zeros on first use."""
        state, group = self.state[parameter], self._group_of[id(parameter)]
        names = self._state_names(group)
        for name in names:
            if name not in state:
                by_row = name == names[-1] and _has_row_state(parameter, group)
                shape = (len(parameter), 1) if by_row else parameter.shape
                dtype = torch.float32 if by_row or not _has_bf16_moment(parameter, group) else torch.bfloat16
                state[name] = on_huge_pages(torch.empty(shape, dtype=dtype)).zero_()
        return (*(state[name] for name in names), None, None)[:2]

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for p in self._parameters():
            if p.grad is not None:
                self.move(p, p.grad)
        self.count_step()
        return loss

    def count_step(self) -> None:
        """The end of a step whose parameters have all moved: what `step` does beside moving them."""
        for group in self.param_groups:
            group["step"] += 1

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's; raises InputError for the state of an optimizer that keeps another kind of it."""
        groups = state_dict["param_groups"]
        for here, saved in zip(self.param_groups, groups, strict=False):
            for name, usual in _KINDS.items():
                now, before = here.get(name, usual), saved.get(name, usual)
                if now != before:
                    op, expected = f"{type(self).__name__}.load_state_dict", f"{name} must be {before!r} as saved"
                    checks.fail(op, expected, repr(now), "make the optimizer that way, or train anew")
        super().load_state_dict(state_dict)
        self._group_of = {id(p): group for group in self.param_groups for p in group["params"]}
        ids = (i for group in groups for i in group["params"])
        for i, parameter in zip(ids, self._parameters(), strict=True):
            for name, value in state_dict["state"].get(i, {}).items():
                if value.dtype == torch.bfloat16:  # torch gave it the parameter's type
                    self.state[parameter][name] = value

    @torch.no_grad()
    def move(self, parameter: Parameter, grad: Tensor) -> None:
        """Moves one parameter by a gradient of its shape, dense or sparse (COO over rows)."""
        if grad.is_sparse:
            grad = grad.coalesce()
            ids, rows = view(grad.indices()[0].int()), view(grad.values().float())
            rows = rows.reshape(len(ids), -1)
        else:
            # A vector is one row: its entries get no row treatment of their own.
            rows = view(grad).reshape(grad.shape[0] if grad.dim() == 2 else 1, -1)
            ids = np.arange(len(rows), dtype=np.int32)
        num_rows = parameter.shape[0] if parameter.dim() == 2 or grad.is_sparse else 1
        tensors = (parameter, *self.states(parameter))
        memory = [None if t is None else out(t).reshape(num_rows, -1) for t in tensors]
        core.row_update(self.native_rule(parameter), *memory, ids, rows)

    def _parameters(self) -> Iterable[Parameter]:
        return (p for group in self.param_groups for p in group["params"])

    @abstractmethod
    def _native(self, group: dict[str, Any], row_state: bool, bf16_moment: bool) -> Any:
        """The group's rule at its current step, as the compiled core takes it.

        row_state: one number a row; bf16_moment: first moments in bfloat16.
        """

    @abstractmethod
    def _state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        """Names of the rule's state tensors, at most two, in the core's order."""


class RowAdam(RowOptimizer):
    """Adam (Kingma and Ba 2015) on the rows that have a gradient, with the global step's bias correction.

    With a gradient in every row each step it equals `torch.optim.Adam` (with `weight_decay`, decoupled:
    `AdamW`). `row_norm` above 0 rescales every row that moves to that Euclidean norm. State: 8 bytes a weight;
    with `row_state` 4 and 4 a row: one second moment a row, of the mean of its squared gradients, as in Adam-mini
    (Zhang et al. 2024); with `first_moment` "bf16" besides 2 and 4 a row: first moments are rounded to the nearest
    bfloat16 after each update, which the unrounded ones make. Vectors keep two float32 a number.
    """

    _rule = 2

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        row_norm: float = 0.0,
        row_state: bool = False,
        first_moment: str = "fp32",
    ) -> None:
        checks.one_of("RowAdam", "first_moment", first_moment, MOMENTS)
        if first_moment == "bf16" and not row_state:
            checks.fail("RowAdam", "first_moment bf16 needs row_state=True", "row_state=False", "set both")
        for name, value in (("betas[0]", betas[0]), ("betas[1]", betas[1])):
            checks.number("RowAdam", name, value, low=0.0, high=1.0 - 1e-9)
        _check_common("RowAdam", lr, weight_decay, row_norm, eps)
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "row_norm": row_norm}
        super().__init__(params, {**defaults, "row_state": row_state, "first_moment": first_moment})

    def _native(self, group: dict[str, Any], row_state: bool, bf16_moment: bool) -> Any:
        (beta1, beta2), t = group["betas"], group["step"] + 1
        root = math.sqrt(1.0 - beta2**t)
        lr = group["lr"] * root / (1.0 - beta1**t)
        # Decoupled decay takes the plain rate; the core multiplies by the corrected one.
        decay = group["weight_decay"] * group["lr"] / lr if lr else 0.0
        return core.RowOptimizer(
            self._rule, lr, beta1, beta2, group["eps"] * root, decay, group["row_norm"], row_state, bf16_moment
        )

    def _state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return "exp_avg", "exp_avg_sq"


class RowAdagrad(RowOptimizer):
    """Adagrad (Duchi, Hazan, Singer 2011). State: 4 bytes a weight; with `row_state` 4 bytes a row (Naumov et al.
    2019): the sum over steps of the mean of its squared gradients; vectors keep one a number.
    """

    _rule = 1

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[dict[str, Any]],
        lr: float = 1e-2,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
        row_norm: float = 0.0,
        row_state: bool = False,
    ) -> None:
        _check_common("RowAdagrad", lr, weight_decay, row_norm, eps)
        defaults = {"lr": lr, "eps": eps, "weight_decay": weight_decay, "row_norm": row_norm}
        super().__init__(params, {**defaults, "row_state": row_state})

    def _native(self, group: dict[str, Any], row_state: bool, bf16_moment: bool) -> Any:
        return core.RowOptimizer(
            self._rule, group["lr"], 0.0, 0.0, group["eps"], group["weight_decay"], group["row_norm"], row_state
        )

    def _state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("sum",)


class RowSGD(RowOptimizer):
    """Stochastic gradient descent, with heavy-ball momentum if asked. State: 4 bytes a weight, or none."""

    _rule = 0

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[dict[str, Any]],
        lr: float = 1e-2,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        row_norm: float = 0.0,
    ) -> None:
        checks.number("RowSGD", "momentum", momentum, low=0.0, high=1.0 - 1e-9)
        _check_common("RowSGD", lr, weight_decay, row_norm, 0.0)
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "row_norm": row_norm}
        )

    def _native(self, group: dict[str, Any], row_state: bool, bf16_moment: bool) -> Any:
        return core.RowOptimizer(
            self._rule, group["lr"], group["momentum"], 0.0, 0.0, group["weight_decay"], group["row_norm"]
        )

    def _state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["momentum"] else ()


OPTIMIZERS: dict[str, Callable[..., RowOptimizer]] = {
    "adam": RowAdam,
    "rowwise_adam": partial(RowAdam, row_state=True),
    "compact_adam": partial(RowAdam, row_state=True, first_moment="bf16"),
    "rowwise_adagrad": partial(RowAdagrad, row_state=True),
}
"""Rules by name, of 8, 4, 2 and 0 bytes of state a weight; all but the first have 4 a row besides."""


def _has_row_state(parameter: Tensor, group: dict[str, Any]) -> bool:
    """It was asked for (older checkpoints do not say), and the parameter has rows."""
    return bool(group.get("row_state")) and parameter.dim() == 2


def _has_bf16_moment(parameter: Tensor, group: dict[str, Any]) -> bool:
    """Of a parameter with rows, as `_has_row_state`."""
    return group.get("first_moment") == "bf16" and parameter.dim() == 2


def _check_common(op: str, lr: float, weight_decay: float, row_norm: float, eps: float) -> None:
    values = (("lr", lr), ("weight_decay", weight_decay), ("row_norm", row_norm), ("eps", eps))
    for name, value in values:
        checks.number(op, name, value, low=0.0)
