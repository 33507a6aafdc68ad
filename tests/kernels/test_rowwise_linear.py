"""Per-row active sets beyond the contracts: a case by hand, and the fused step against its parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hashfold.kernels import native
from hashfold.kernels.rowwise_linear import (
    States,
    csr_reference,
    csr_rowwise_linear,
    fused_step,
    reference,
    rowwise_linear,
)

SGD, ADAGRAD, ADAM = 0, 1, 2
RULES: dict[str, dict[str, Any]] = {
    "sgd": {"rule": SGD},
    "momentum": {"rule": SGD, "beta1": 0.9},
    "adagrad": {"rule": ADAGRAD},
    "adam": {"rule": ADAM, "beta1": 0.9, "beta2": 0.99},
    "adam decay": {"rule": ADAM, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1},
    "adam norm": {"rule": ADAM, "beta1": 0.9, "beta2": 0.99, "row_norm": 2.0},
}


def rule_of(name: str) -> dict[str, Any]:
    settings = {"lr": 0.05, "beta1": 0.0, "beta2": 0.0, "eps": 1e-6, "weight_decay": 0.0, "row_norm": 0.0}
    return settings | RULES[name]


def reference_step(
    o: dict[str, Any],
    w: Tensor,
    states: tuple[Tensor | None, Tensor | None],
    g: Tensor,
    rows: Tensor,
    rescale: bool,
) -> None:
    """The optimizer's formulas, written out, on the given rows."""
    first, second = states
    if o["rule"] == ADAM:
        assert first is not None
        assert second is not None
        first[rows] = o["beta1"] * first[rows] + (1 - o["beta1"]) * g[rows]
        second[rows] = o["beta2"] * second[rows] + (1 - o["beta2"]) * g[rows] ** 2
        move = first[rows] / (second[rows].sqrt() + o["eps"])
    elif o["rule"] == ADAGRAD:
        assert first is not None
        first[rows] += g[rows] ** 2
        move = g[rows] / (first[rows].sqrt() + o["eps"])
    elif first is not None:
        first[rows] = o["beta1"] * first[rows] + g[rows]
        move = first[rows]
    else:
        move = g[rows]
    w[rows] = w[rows] * (1 - o["lr"] * o["weight_decay"]) - o["lr"] * move
    if rescale and o["row_norm"]:
        w[rows] *= o["row_norm"] / w[rows].norm(dim=1, keepdim=True)


def states_for(o: dict[str, Any], like: Tensor) -> States:
    first = torch.rand(like.shape) if o["rule"] != SGD or o["beta1"] else None
    return first, torch.rand(like.shape) if o["rule"] == ADAM else None


def copies(*tensors: Tensor | None) -> list[Tensor | None]:
    return [None if t is None else t.clone() for t in tensors]


# Row 0 has no neurons; neuron 3 is active in three rows; neurons 0 and 2 in none.
INDPTR = torch.tensor([0, 0, 2, 5, 6])
IDS = torch.tensor([3, 1, 4, 3, 5, 3], dtype=torch.int32)
TOUCHED, UNTOUCHED = torch.tensor([1, 3, 4, 5]), torch.tensor([0, 2])


def inputs(sparse: bool, width: int) -> tuple[Any, Any]:
    """x in the asked form, and a function that gives the reference's output from its floating values."""
    torch.manual_seed(width)
    if not sparse:
        return torch.randn(4, width), reference
    counts = [0, min(3, width), 1, width]
    indptr = torch.tensor(np.concatenate([[0], np.cumsum(counts)]))
    ids = torch.cat([torch.randperm(width)[:count] for count in counts]).int()
    return (indptr, ids, torch.randn(len(ids))), csr_reference


@pytest.mark.parametrize("width", [1, 7, 17, 33, 130])
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "csr"])
@pytest.mark.parametrize("rule", sorted(RULES))
@pytest.mark.parametrize("level", native.isa_levels())
def test_fused_step_is_gradient_and_optimizer_step(level: str, rule: str, sparse: bool, width: int) -> None:
    o = rule_of(rule)
    x, twin = inputs(sparse, width)
    weight, bias, grad = torch.randn(6, width), torch.randn(6), torch.randn(6)
    weight_states, bias_states = states_for(o, weight), states_for(o, bias)

    leaf = (x[2] if sparse else x).clone().requires_grad_()
    w, b = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    y = twin(*((*x[:2], leaf) if sparse else (leaf,)), INDPTR, IDS, w, b)
    want_grad_x, grad_w, grad_b = torch.autograd.grad(y, [leaf, w, b], grad)
    want = copies(weight, *weight_states, bias, *bias_states)
    reference_step(o, want[0], (want[1], want[2]), grad_w, TOUCHED, rescale=True)  # type: ignore[arg-type]
    reference_step(o, want[3], (want[4], want[5]), grad_b, TOUCHED, rescale=False)  # type: ignore[arg-type]
    before = copies(weight, *weight_states, bias, *bias_states)

    with native.isa_forced(level):
        native_rule = native.core.RowOptimizer(**o)
        grad_x = fused_step(x, INDPTR, IDS, grad, weight, bias, native_rule, weight_states, bias_states)

    torch.testing.assert_close(grad_x, want_grad_x)
    for ours, theirs, old in zip((weight, *weight_states, bias, *bias_states), want, before, strict=True):
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
            assert torch.equal(ours[UNTOUCHED], old[UNTOUCHED])  # type: ignore[index]


def test_fused_step_without_bias_or_gradient_of_x() -> None:
    weight = torch.ones(6, 3)
    rule = native.core.RowOptimizer(**rule_of("sgd") | {"lr": 1.0})
    grad = torch.tensor([1.0, 0, 0, 10, 0, 100])
    x = torch.tensor([[1.0, 2, 3]] * 4)
    assert fused_step(x, INDPTR, IDS, grad, weight, None, rule, (None, None), needs_grad_x=False) is None
    assert weight[3].tolist() == [1 - 111, 1 - 222, 1 - 333]
    assert (weight[[0, 1, 2, 4, 5]] == 1).all()


def test_by_hand() -> None:
    weight = torch.tensor([[1.0, 10], [2, 20], [3, 30]])
    bias = torch.tensor([0.5, 0.25, 0])
    indptr, ids = torch.tensor([0, 2, 2, 3]), torch.tensor([2, 0, 1], dtype=torch.int32)
    x = torch.tensor([[1.0, 1], [5, 5], [0, 2]])
    assert rowwise_linear(x, indptr, ids, weight, bias).tolist() == [33.0, 11.5, 40.25]
    sparse = torch.tensor([0, 2, 2, 3]), torch.tensor([1, 0, 1], dtype=torch.int32), torch.tensor([1.0, 1, 2])
    assert csr_rowwise_linear(*sparse, indptr, ids, weight, bias).tolist() == [33.0, 11.5, 40.25]


def test_all_neurons_active_is_linear_forward_and_backward() -> None:
    torch.manual_seed(0)
    x, layer, rows = torch.randn(7, 33), torch.nn.Linear(33, 12), 7
    indptr, ids = torch.arange(0, 12 * rows + 1, 12), torch.arange(12, dtype=torch.int32).repeat(rows)
    cotangent = torch.randn(rows, 12)
    x.requires_grad_()
    leaves = [x, layer.weight, layer.bias]
    want = torch.autograd.grad(layer(x), leaves, cotangent)
    y = rowwise_linear(x, indptr, ids, layer.weight, layer.bias).view(rows, 12)
    torch.testing.assert_close(y, layer(x))
    for ours, theirs in zip(torch.autograd.grad(y, leaves, cotangent), want, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_bias_may_follow_a_rule_of_its_own() -> None:
    weight, bias = torch.zeros(6, 2), torch.zeros(6)
    slow, fast = (native.core.RowOptimizer(**rule_of("sgd") | {"lr": lr}) for lr in (1.0, 10.0))
    x, none = torch.ones(4, 2), (None, None)
    fused_step(x, INDPTR, IDS, torch.ones(6), weight, bias, slow, none, bias_rule=fast)
    assert weight[3].tolist() == [-3, -3]
    assert bias.tolist() == [0, -10, 0, -30, -10, -10]
