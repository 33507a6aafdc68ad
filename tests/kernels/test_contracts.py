"""What every registered operator owes: the reference's values and gradients, at each instruction set.

An operator without samples fails here. To add one: write a function `(random, dtype) -> [arguments]`
and name it in SAMPLES; cover empty rows, empty batches and widths that leave a tail in each vector.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hashfold.kernels import native, rowwise_linear, sparse_linear  # noqa: F401  (they register)
from hashfold.kernels.registry import OPERATORS

Arguments = tuple[Any, ...]
TAILS = (1, 7, 17, 33, 128, 130)


def ragged(random: np.random.Generator, rows: int, num_ids: int, most: int) -> tuple[Tensor, Tensor]:
    """indptr and distinct ids per row, in random order; the first row is empty."""
    counts = random.integers(0, min(most, num_ids) + 1, rows)
    counts[:1] = 0
    ids = [random.permutation(num_ids)[:count] for count in counts]
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return torch.from_numpy(indptr), torch.from_numpy(np.concatenate([*ids, []]).astype(np.int32))


def numbers(random: np.random.Generator, dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.from_numpy(random.standard_normal(shape)).to(dtype)


def sparse_linear_samples(random: np.random.Generator, dtype: torch.dtype) -> list[Arguments]:
    samples = []
    for rows, features, width in [(5, 9, width) for width in TAILS] + [(0, 4, 8), (1, 2, 8)]:
        indptr, indices = ragged(random, rows, features, 6)
        samples.append(
            (indptr, indices, numbers(random, dtype, len(indices)), numbers(random, dtype, features, width))
        )
    return samples


def rowwise_linear_samples(random: np.random.Generator, dtype: torch.dtype) -> list[Arguments]:
    samples = []
    for rows, neurons, width in [(5, 9, width) for width in TAILS] + [
        (0, 4, 8),
        (1, 2, 8),
        (20, 40, 8),
        (20, 2, 8),
    ]:
        indptr, ids = ragged(random, rows, neurons, 6)
        bias = numbers(random, dtype, neurons) if width % 2 else None
        x, weight = numbers(random, dtype, rows, width), numbers(random, dtype, neurons, width)
        samples.append((x, indptr, ids, weight, bias))
    return samples


def csr_rowwise_linear_samples(random: np.random.Generator, dtype: torch.dtype) -> list[Arguments]:
    samples = []
    for _, indptr, ids, weight, bias in rowwise_linear_samples(random, dtype):
        in_indptr, in_ids = ragged(random, len(indptr) - 1, weight.shape[1], 40)
        # a row that has neurons to compute and no input: row 0 is the opposite case
        if len(indptr) > 2:
            in_ids, in_indptr = in_ids[: in_indptr[-2]], torch.cat([in_indptr[:-1], in_indptr[-2:-1]])
        samples.append((in_indptr, in_ids, numbers(random, dtype, len(in_ids)), indptr, ids, weight, bias))
    return samples


SAMPLES: dict[str, Callable[[np.random.Generator, torch.dtype], list[Arguments]]] = {
    "sparse_linear": sparse_linear_samples,
    "rowwise_linear": rowwise_linear_samples,
    "csr_rowwise_linear": csr_rowwise_linear_samples,
}


def samples_of(name: str, dtype: torch.dtype) -> list[Arguments]:
    assert name in SAMPLES, f"operator {name!r} has no samples here; add them to SAMPLES"
    return SAMPLES[name](np.random.default_rng(7), dtype)


def with_gradients(arguments: Arguments) -> Arguments:
    return tuple(
        a.clone().requires_grad_() if isinstance(a, Tensor) and a.is_floating_point() else a for a in arguments
    )


def run(function: Callable[..., Tensor], arguments: Arguments, differentiable: bool) -> list[Tensor]:
    """The result, and its gradients under fixed, uneven cotangents."""
    if not differentiable:
        return [function(*arguments)]
    arguments = with_gradients(arguments)
    y = function(*arguments)
    wanted = [a for a in arguments if isinstance(a, Tensor) and a.requires_grad]
    cotangent = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y)
    return [y.detach(), *torch.autograd.grad(y, wanted, cotangent)]


operators = pytest.mark.parametrize("name", sorted(OPERATORS))


@operators
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("level", native.isa_levels())
def test_equals_its_reference_forward_and_backward(name: str, dtype: torch.dtype, level: str) -> None:
    operator = OPERATORS[name]
    with native.isa_forced(level):
        for arguments in samples_of(name, dtype):
            ours = run(operator.op, arguments, operator.differentiable)
            theirs = run(operator.reference, arguments, operator.differentiable)
            for mine, yours in zip(ours, theirs, strict=True):
                torch.testing.assert_close(mine, yours)


@operators
def test_same_bits_at_any_number_of_threads(name: str) -> None:
    operator, before = OPERATORS[name], native.num_threads()
    samples = samples_of(name, torch.float32)
    try:
        native.set_num_threads(1)
        alone = [run(operator.op, arguments, operator.differentiable) for arguments in samples]
        native.set_num_threads(3)
        team = [run(operator.op, arguments, operator.differentiable) for arguments in samples]
    finally:
        native.set_num_threads(before)
    for one, three in zip(alone, team, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, three, strict=True))


@operators
def test_gradcheck(name: str) -> None:
    operator = OPERATORS[name]
    if not operator.differentiable:
        pytest.skip("not differentiable")
    for arguments in samples_of(name, torch.float64):
        if operator.reference(*arguments).numel():
            assert torch.autograd.gradcheck(operator.op, with_gradients(arguments), fast_mode=True)


@operators
def test_opcheck(name: str) -> None:
    """Schema, fake tensor, autograd registration and tracing, as PyTorch defines them."""
    for arguments in samples_of(name, torch.float32)[-3:]:
        torch.library.opcheck(OPERATORS[name].op, with_gradients(arguments))
