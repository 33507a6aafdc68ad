"""The training step of a shared active set against its twin: both precisions, every instruction set."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from hashfold.kernels import active_step, native
from hashfold.kernels.active_step import Moved, Products
from hashfold.optim import RowAdam, RowOptimizer, RowSGD

BF16_EPS = 2.0**-8  # spacing of bfloat16 at 1; rounding an operand moves it by at most half of it, relatively
# batch, active (None: all), neurons, width: tails in every direction, tiles not filled, more than one panel deep
SHAPES = [
    (1, 1, 1, 1),
    (5, 9, 12, 7),
    (37, 130, 140, 300),
    (64, 300, 300, 32),
    (25, 70, 200, 33),
    (300, 40, 50, 8),
    (20, None, 150, 17),
    (13, None, 64, 200),
]
levels = pytest.mark.parametrize("level", native.isa_levels())
precisions = pytest.mark.parametrize("precision", ["fp32", "bf16"])
losses = pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
shapes = pytest.mark.parametrize("shape", SHAPES)


class Case(NamedTuple):
    x: Tensor
    ids: Tensor | None
    weights: Tensor
    label_indptr: Tensor
    label_positions: Tensor
    weight: Tensor
    bias: Tensor

    def double(self) -> Case:
        return Case(*(t.double() if t is not None and t.is_floating_point() else t for t in self))


def case(batch: int, active: int | None, neurons: int, width: int) -> Case:
    random = np.random.default_rng(3)
    ids = None if active is None else torch.from_numpy(random.permutation(neurons)[:active].astype(np.int32))
    active = neurons if active is None else active
    counts = random.integers(0, min(active, 4) + 1, batch)  # some rows have no label
    positions = [random.permutation(active)[:count] for count in counts]
    numbers = [random.standard_normal(s).astype(np.float32) for s in ((batch, width), (neurons, width), neurons)]
    x, weight, bias = map(torch.from_numpy, numbers)
    return Case(
        x,
        ids,
        torch.from_numpy(np.where(random.random(active) < 0.5, 1.0, 3.5).astype(np.float32)),
        torch.from_numpy(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)),
        torch.from_numpy(np.concatenate([*positions, []]).astype(np.int64)),
        weight / width**0.5,
        bias,
    )


def moved(parameter: Tensor, optimizer: RowOptimizer) -> Moved:
    assert isinstance(parameter, Parameter)
    return Moved(parameter, optimizer.native_rule(parameter), optimizer.states(parameter))


def run(
    precision: Products, loss: str, given: Case, with_bias: bool = True
) -> tuple[float, Tensor, Tensor, Tensor]:
    """loss_step under plain gradient descent of rate 1: what the parameters lost is their gradient."""
    weight, bias = Parameter(given.weight.clone()), Parameter(given.bias.clone())
    optimizer = RowSGD([weight, bias], lr=1.0)
    mean, grad_x = active_step.loss_step(
        precision, loss, *given[:5], moved(weight, optimizer), moved(bias, optimizer) if with_bias else None
    )
    return mean, grad_x, given.weight - weight.detach(), given.bias - bias.detach()


def assert_near(ours: Tensor, exact: Tensor, unit: float) -> None:
    assert ours.shape == exact.shape
    if exact.numel():
        bound = unit * (1e-3 + float(exact.abs().max()))
        assert float((ours.double() - exact).abs().max()) <= bound


def scattered(rows: Tensor, ids: Tensor | None, like: Tensor) -> Tensor:
    """Gradients of the active rows as gradients of all: zero where nothing was active."""
    if ids is None:
        return rows
    return torch.zeros_like(like, dtype=rows.dtype).index_copy(0, ids.long(), rows)


@levels
@precisions
@losses
@shapes
def test_one_pass_equals_its_twin(level: str, precision: Products, loss: str, shape: tuple[int, ...]) -> None:
    """The twin rounds the operands itself, so what is left is rounding of fp32: at no level more for bf16.

    For bf16 a gradient that lies within an fp32 rounding of a tie may fall to its other side: half a BF16_EPS of
    one of its terms, of which a sum has several.
    """
    given = case(*shape)
    with native.isa_forced(level):
        mean, *ours = run(precision, loss, given)
    want, grad_x, rows, biases = active_step.reference_gradients(precision, loss, *given.double())
    assert mean == pytest.approx(want, rel=1e-5, abs=1e-6)
    unit = 2e-5 if precision == "fp32" else BF16_EPS / 8
    exact = (grad_x, scattered(rows, given.ids, given.weight), scattered(biases, given.ids, given.bias))
    for mine, yours in zip(ours, exact, strict=True):
        assert_near(mine, yours, unit)


@losses
@shapes
def test_bf16_is_as_near_to_fp32_as_its_rounding_allows(loss: str, shape: tuple[int, ...]) -> None:
    """|sum a b - sum a' b'| <= BF16_EPS sum |a||b| (first order), bounded here by norms; and it is not fp32."""
    given = case(*shape)
    _, grad_x, rows, _ = run("bf16", loss, given)
    _, exact_x, exact_rows, _ = run("fp32", loss, given)
    # Logits move by at most BF16_EPS |x||w|, and the gradient's softmax or sigmoid by at most that, relatively.
    factor = 2 * BF16_EPS * (1 + float(given.x.norm(dim=1).max() * given.weight.norm(dim=1).max()))
    for rounded, exact in ((grad_x, exact_x), (rows, exact_rows)):
        assert float((rounded - exact).norm()) <= factor * (1e-6 + float(exact.norm()))
    if given.x.numel() > 100:
        assert not torch.equal(grad_x, exact_x)


@levels
@precisions
@shapes
def test_forward_and_step_equal_their_twin(level: str, precision: Products, shape: tuple[int, ...]) -> None:
    given = case(*shape)
    x, ids, weight, bias = given.x, given.ids, Parameter(given.weight.clone()), Parameter(given.bias.clone())
    optimizer, operand = (
        RowSGD([weight, bias], lr=1.0),
        active_step.rounded if precision == "bf16" else torch.clone,
    )
    rows, shift = (t if ids is None else t[ids.long()] for t in (given.weight, given.bias))
    with native.isa_forced(level):
        logits = active_step.forward(precision, x, weight, bias, ids)
        grad = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
        grad_x = active_step.step(precision, x, grad, ids, moved(weight, optimizer), moved(bias, optimizer))
    exact = [operand(t).double() for t in (x, rows, grad)]
    assert_near(logits, exact[0] @ exact[1].T + shift, 2e-5)
    assert_near(grad_x, exact[2] @ exact[1], 2e-5)
    assert_near(given.weight - weight.detach(), scattered(exact[2].T @ exact[0], ids, weight), 2e-5)
    assert_near(given.bias - bias.detach(), scattered(grad.sum(0).double(), ids, bias), 2e-5)


@precisions
@losses
def test_one_pass_is_forward_loss_and_step(precision: Products, loss: str) -> None:
    """The fused pass moves a layer as the three operators one after the other, Adam's state included."""
    given = case(37, 130, 140, 40)
    results = []
    for fused in (True, False):
        weight, bias = Parameter(given.weight.clone()), Parameter(given.bias.clone())
        optimizer = RowAdam([weight, bias], lr=0.1)
        parts = moved(weight, optimizer), moved(bias, optimizer)
        if fused:
            mean, grad_x = active_step.loss_step(precision, loss, *given[:5], *parts)
        else:
            logits = active_step.forward(precision, given.x, weight, bias, given.ids)
            take = getattr(active_step, f"sampled_{loss}")
            mean, grad = take(logits, *given[2:5])
            grad_x = active_step.step(precision, given.x, grad, given.ids, *parts)
        results.append([torch.as_tensor(mean), grad_x, *(s for p in parts for s in p.states)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(
            one, other, rtol=1e-2 if precision == "bf16" else 1e-4, atol=1e-4, check_dtype=False
        )


@precisions
@losses
def test_same_bits_at_any_number_of_threads(precision: Products, loss: str) -> None:
    given, before, results = case(70, 1500, 1600, 40), native.num_threads(), []
    try:
        for threads in (1, 3):
            native.set_num_threads(threads)
            results.append(run(precision, loss, given))
    finally:
        native.set_num_threads(before)
    assert results[0][0] == results[1][0]
    assert all(torch.equal(a, b) for a, b in zip(results[0][1:], results[1][1:], strict=True))


@losses
def test_bf16_agrees_between_levels(loss: str) -> None:
    """Emulated or not: the same operands, summed in another order."""
    given, found = case(37, 130, 140, 300), []
    for level in native.isa_levels():
        with native.isa_forced(level):
            found.append(run("bf16", loss, given))
    for other, position in itertools.product(found[1:], (1, 2)):
        assert_near(other[position], found[0][position].double(), BF16_EPS / 8)


@losses
def test_without_a_bias(loss: str) -> None:
    given = case(9, 30, 40, 12)
    plain = given._replace(bias=torch.zeros_like(given.bias))
    mean, grad_x, rows, untouched = run("fp32", loss, given, with_bias=False)
    want, exact_x, exact_rows, _ = run("fp32", loss, plain)
    assert mean == want
    assert torch.equal(grad_x, exact_x)
    assert torch.equal(rows, exact_rows)
    assert not untouched.any()


@losses
@precisions
def test_nothing_to_do(loss: str, precision: Products) -> None:
    for shape in ((0, 5, 9, 8), (3, 0, 9, 8)):
        mean, grad_x, rows, biases = run(precision, loss, case(*shape))
        assert mean == 0.0
        assert not any(t.any() for t in (grad_x, rows, biases))


@losses
def test_not_a_number_comes_through(loss: str) -> None:
    given = case(9, 30, 40, 12)
    given.x[4, 3] = float("nan")
    for precision in ("fp32", "bf16"):
        mean, grad_x, rows, _ = run(precision, loss, given)  # type: ignore[arg-type]
        assert mean != mean
        assert grad_x[4].isnan().all()
        assert rows.isnan().any()


@losses
def test_logits_far_from_zero(loss: str) -> None:
    """The true maximum is subtracted, and the logarithm of a product of sixty-four factors holds."""
    for shift in (-300.0, 80.0):
        given = case(130, 70, 90, 12)
        given.bias[:] = shift
        mean, *_ = run("fp32", loss, given)
        want, *_ = active_step.reference_gradients("fp32", loss, *given.double())
        assert mean == pytest.approx(want, rel=1e-5)


def test_auto_is_what_the_machine_multiplies() -> None:
    for level in native.isa_levels():
        with native.isa_forced(level):
            assert active_step.products_of("auto") == ("bf16" if level == "avx512_bf16" else "fp32")
            assert active_step.products_of("bf16") == "bf16"
            assert active_step.products_of("fp32") == "fp32"
