"""Every folded layer over every kind of folded weight is the torch layer of its virtual weight."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from nn.folded_cases import CASES, WEIGHTS, Case, Weigh
from torch import Tensor, nn

from hashfold.nn.folded import (
    FOLDED_LAYERS,
    FoldedEmbedding,
    FoldedWeight,
    fold_layer,
    folded_weights,
    unfold_layer,
)
from hashfold.nn.folded.weight import KINDS

each_layer = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
each_weight = pytest.mark.parametrize("weigh", WEIGHTS.values(), ids=WEIGHTS)
PAIRS = {f"{name}, tiles": (case, WEIGHTS["tiles"]) for name, case in CASES.items()}
PAIRS |= {f"linear, {name}": (CASES["linear"], weigh) for name, weigh in WEIGHTS.items()}
each_of_both = pytest.mark.parametrize(("case", "weigh"), PAIRS.values(), ids=PAIRS)
"""Every layer and every weight once, where what is promised is of the one or the other."""


def folded(case: Case, weigh: Weigh, seed: int = 5) -> nn.Module:
    seeds = iter(range(seed, seed + 99))
    torch.manual_seed(seed)
    return fold_layer(case.make(), lambda _, matrix: weigh(matrix, next(seeds)))


def virtual(layer: nn.Module) -> dict[str, Tensor]:
    """The parameters of its torch layer, as functions of what is stored."""
    dense = unfold_layer(layer)
    values = dict(layer.named_parameters(recurse=False))
    for name, weight in folded_weights(layer).items():
        values[name] = weight.dense().view(dense.get_parameter(name).shape)
    if isinstance(layer, FoldedEmbedding) and layer.padding is not None:
        row = torch.arange(layer.num_embeddings)[:, None] == layer.padding_idx
        values["weight"] = torch.where(row, layer.padding, values["weight"])
    return values


def gradients(outputs, leaves) -> list[Tensor | None]:
    torch.manual_seed(3)
    cotangents = [torch.randn_like(y) for y in outputs]
    return list(torch.autograd.grad(outputs, leaves, cotangents, allow_unused=True))


def test_every_layer_and_every_kind_of_weight_is_here() -> None:
    assert {type(case.make()) for case in CASES.values()} == set(FOLDED_LAYERS)
    assert {weigh(torch.randn(9, 8), 0).kind for weigh in WEIGHTS.values()} == set(KINDS)


@each_weight
@each_layer
def test_equals_the_layer_of_its_virtual_weight(case: Case, weigh: Weigh) -> None:
    """Forward, and the gradients of the input, of what is stored, and of biases."""
    layer = folded(case, weigh)
    inputs = case.inputs()
    leaves = [*(inputs[at] for at in case.differentiable), *layer.parameters()]
    ours = case.call(layer, inputs)
    dense = unfold_layer(layer)
    theirs = flat_call(dense, virtual(layer), inputs, case)
    assert len(ours) == len(theirs)
    for mine, yours, copied in zip(ours, theirs, case.call(dense, inputs), strict=True):
        assert mine.shape == yours.shape
        torch.testing.assert_close(mine, yours)
        torch.testing.assert_close(mine, copied)
    for mine, yours in zip(gradients(ours, leaves), gradients(theirs, leaves), strict=True):
        assert mine is not None
        torch.testing.assert_close(mine, yours)


def flat_call(dense: nn.Module, parameters: dict[str, Tensor], inputs, case: Case) -> tuple[Tensor, ...]:
    class Called(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = dense

        def forward(self) -> tuple[Tensor, ...]:
            return case.call(self.dense, inputs)

    named = {f"dense.{name}": value for name, value in parameters.items()}
    return torch.func.functional_call(Called(), named, ())


@each_layer
def test_with_a_value_for_each_weight_it_is_the_dense_layer(case: Case) -> None:
    torch.manual_seed(1)
    dense = case.make()
    layer = fold_layer(dense, lambda _, matrix: WEIGHTS["identity"](matrix, 0))
    for (name, mine), yours in zip(unfold_layer(layer).named_parameters(), dense.parameters(), strict=True):
        assert torch.equal(mine, yours), name
    inputs = case.inputs()
    for mine, yours in zip(case.call(layer, inputs), case.call(dense, inputs), strict=True):
        torch.testing.assert_close(mine, yours)


@pytest.mark.parametrize("name", ["linear", "conv2d, groups", "embedding", "rnn", "lstm", "gru"])
def test_takes_what_autocast_hands_on(name: str) -> None:
    """Outputs of other layers, in bfloat16, which is as exact as the results are to be."""
    case = CASES[name]
    layer, inputs = folded(case, WEIGHTS["tiles"]), case.inputs()
    exact = case.call(layer, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        first = inputs[0].bfloat16() if 0 in case.differentiable else inputs[0]
        ours = case.call(layer, (first, *inputs[1:]))
    for mine, yours in zip(ours, exact, strict=True):
        torch.testing.assert_close(mine.float(), yours, rtol=0.03, atol=0.03)
    leaves = list(layer.parameters())
    assert all(g is not None and g.dtype == torch.float32 for g in gradients(ours, leaves))


@each_weight
@pytest.mark.parametrize("name", ["linear", "conv2d, groups", "embedding", "bag, sum", "gru"])
def test_gradcheck(name: str, weigh: Weigh) -> None:
    case = CASES[name]
    layer = folded(case, weigh).double()
    inputs = case.inputs(torch.float64)
    leaves = [*(inputs[at] for at in case.differentiable), *layer.parameters()]
    assert torch.autograd.gradcheck(lambda *_: case.call(layer, inputs), leaves, nondet_tol=0.0, fast_mode=True)


@each_of_both
def test_the_state_dict_and_the_specs_make_an_equal_layer(case: Case, weigh: Weigh) -> None:
    layer = folded(case, weigh)
    specs = {name: json.loads(json.dumps(weight.spec())) for name, weight in folded_weights(layer).items()}
    empty = fold_layer(case.make(), lambda name, _: FoldedWeight.from_spec(specs[name]))
    assert {name: t.shape for name, t in empty.state_dict().items()} == {
        name: t.shape for name, t in layer.state_dict().items()
    }
    empty.load_state_dict(copy.deepcopy(layer.state_dict()))
    inputs = case.inputs()
    for mine, yours in zip(case.call(empty, inputs), case.call(layer, inputs), strict=True):
        assert torch.equal(mine, yours)


@each_of_both
def test_a_deep_copy_is_a_layer_of_its_own(case: Case, weigh: Weigh) -> None:
    layer = folded(case, weigh)
    copied = copy.deepcopy(layer)
    inputs = case.inputs()
    before = case.call(layer, inputs)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.add_(1.0)
    assert all(map(torch.equal, case.call(layer, inputs), before))
    assert not all(map(torch.equal, case.call(copied, inputs), before))


@each_of_both
def test_the_same_seed_gives_the_same_bits(case: Case, weigh: Weigh) -> None:
    layers = [folded(case, weigh) for _ in range(2)]
    assert all(map(torch.equal, *(layer.parameters() for layer in layers)))
    inputs = case.inputs()
    results = [case.call(layer, inputs) for layer in layers]
    assert all(map(torch.equal, *results))
    made = [gradients(y, list(layer.parameters())) for y, layer in zip(results, layers, strict=True)]
    assert all(map(torch.equal, *made))


@each_weight
def test_what_is_stored_is_counted(weigh: Weigh) -> None:
    weight = weigh(torch.randn(9, 8), 0)
    stored = [*weight.parameters(), *weight.buffers()]
    assert weight.nbytes == sum(len(t.detach().numpy().tobytes()) for t in stored)
    assert weight.dense().shape == (9, 8)
    every = torch.tensor([3, 0, 3])
    assert torch.equal(weight.rows(every), weight.dense()[every])
    assert weight.rows(every[:0]).shape == (0, 8)
    assert weight.matmul(torch.zeros(0, 8)).shape == (0, 9)
    assert weight(torch.ones(8)).shape == (9,)
