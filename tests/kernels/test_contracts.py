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

from hashfold.kernels import (  # noqa: F401  (they register)
    active_linear,
    codebook_matrix,
    hashed_linear,
    hashed_matrix,
    losses,
    native,
    relu_dropout,
    rowwise_linear,
    sparse_linear,
)
from hashfold.kernels.registry import OPERATORS, Operator

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


def active_linear_samples(random: np.random.Generator, dtype: torch.dtype) -> list[Arguments]:
    samples = []
    shapes = [(5, 9, width) for width in TAILS] + [(0, 4, 8), (1, 2, 8), (3, 700, 40), (37, 130, 300)]
    for rows, neurons, width in shapes:
        x, weight = numbers(random, dtype, rows, width), numbers(random, dtype, neurons, width)
        ids = torch.from_numpy(random.permutation(neurons)[: max(1, neurons - 3)].astype(np.int32))
        bias = numbers(random, dtype, neurons)
        samples += [(x, weight, bias, ids), (x, weight, None, ids), (x, weight, bias, None)]
    return samples


def hashed_linear_samples(random: np.random.Generator, dtype: torch.dtype) -> list[Arguments]:
    """Blocks of all sizes, none, and one table for all; rows without input or without outputs."""
    samples = []
    for rows, features, outputs, block in (
        (7, 90, 9, 40),
        (5, 33, 4, 1),
        (6, 20, 5, 0),
        (0, 4, 3, 8),
        (1, 7, 2, 8),
    ):
        indptr, indices = ragged(random, rows, features, 40)
        out_indptr, out_ids = ragged(random, rows, outputs, 6)
        if rows > 2:
            indices, indptr = indices[: indptr[-2]], torch.cat([indptr[:-1], indptr[-2:-1]])
        sizes = torch.from_numpy(random.integers(0, block + 1, outputs).astype(np.int32))
        x, pairs = (indptr, indices, numbers(random, dtype, len(indices))), (out_indptr, out_ids)
        blocks = (sizes.long().cumsum(0) - sizes, sizes, numbers(random, dtype, int(sizes.sum())))
        samples.append((*x, *pairs, *blocks, numbers(random, dtype, outputs), 3, bool(block % 3), False))
        own = torch.full((outputs,), features, dtype=torch.int32)
        identity = (features * torch.arange(outputs), own, numbers(random, dtype, features * outputs))
        samples.append((*x, *pairs, *identity, None, 0, False, True))
        table = 9001 if block == 40 else 11  # the larger is cut between threads
        shared = (torch.zeros(outputs, dtype=torch.int64), torch.full((outputs,), table, dtype=torch.int32))
        samples.append((*x, *pairs, *shared, numbers(random, dtype, table), None, 2**32 - 1, True, False))
    return samples


def loss_samples(random: np.random.Generator, dtype: torch.dtype) -> list[Arguments]:
    """Rows without labels, logits far below and above zero, weights on labels too."""
    samples = []
    for rows, columns, shift in ((0, 3, 0), (4, 1, 0), (7, 37, -200), (7, 37, 60), (9, 130, 0)):
        indptr, positions = ragged(random, rows, columns, 5)
        logits = numbers(random, dtype, rows, columns) * 5 + shift
        weights = torch.from_numpy(random.uniform(0.5, 8, columns)).to(dtype)
        samples.append((logits, weights, indptr, positions.long()))
    return samples


def relu_dropout_samples(random: np.random.Generator, dtype: torch.dtype) -> list[Arguments]:
    shapes = [(3, width) for width in TAILS] + [(0, 4), (257, 300)]
    return [(numbers(random, dtype, *shape), keep, shape[1]) for shape in shapes for keep in (0.3, 0.7, 1.0)]


def hashed_matrices(random: np.random.Generator) -> list[Arguments]:
    """rows of x, out, in, buckets; seed, sign, tile, blocks, identity. Tiles cut short, one bucket, a table that
    several workers fill, batches for the paths of few rows and of many."""
    cases = [
        (5, 9, width, 100 + width, seed, seed % 3 > 0, tile, 1 + 4 * (tile == 4), False)
        for seed, (tile, width) in enumerate((t, w) for t in (1, 4, 8, 16, 32) for w in (1, 17, 70, 130))
    ]
    return [
        *cases,
        *(
            (rows, 40, 300, 1200, 2**32 - 1, True, 16, blocks, False)
            for rows in (1, 2, 3)
            for blocks in (1, 7, 40)
        ),
        *((rows, 70, 45, 130, 5, True, 1, blocks, False) for rows in (1, 4) for blocks in (1, 3, 70)),
        *((rows, 33, 50, 33 * 50, 1, True, 1, 1, True) for rows in (1, 6)),
        (0, 4, 8, 16, 1, True, 4, 1, False),
        (30, 300, 150, 5, 1, True, 1, 1, False),
        (37, 260, 520, 9001, 1, True, 8, 3, False),
    ]


def hashed_matmul_samples(random: np.random.Generator, dtype: torch.dtype) -> list[Arguments]:
    return [
        (numbers(random, dtype, rows, inputs), numbers(random, dtype, buckets), outputs, *layout)
        for rows, outputs, inputs, buckets, *layout in hashed_matrices(random)
    ]


def hashed_rows_samples(random: np.random.Generator, dtype: torch.dtype) -> list[Arguments]:
    return [
        (
            torch.from_numpy(random.integers(0, outputs, 3 * rows)),
            numbers(random, dtype, buckets),
            *(inputs, outputs, *layout),
        )
        for rows, outputs, inputs, buckets, *layout in hashed_matrices(random)
    ]


def codebook_matrices(random: np.random.Generator) -> list[Arguments]:
    """rows of x, out, in; bits, d, group_rows, group_cols: every number of bits, groups that cut rows anywhere,
    vectors that do not divide the inputs."""
    scalars = [(5, 9, width, bits, 1, 9, width) for bits in range(1, 9) for width in (1, 17, 131, 300)]
    return [
        *scalars,
        *((rows, 40, 555, bits, 1, 7, 256) for rows in (1, 2, 3, 4, 13) for bits in (1, 2, 3, 4, 8)),
        *((3, 13, 100, bits, 1, 1, cols) for bits in (3, 4) for cols in (3, 32)),
        *((rows, 20, 90, bits, dim, 6, cols * dim) for rows in (1, 9) for bits, dim, cols in VECTORS),
        (0, 4, 8, 4, 1, 4, 8),
        (30, 260, 150, 4, 1, 260, 150),
        (30, 130, 520, 2, 1, 64, 128),
    ]


VECTORS = [(4, 2, 45), (8, 3, 1), (8, 4, 99), (4, 8, 3), (8, 16, 2), (5, 7, 4)]


def codebook_matmul_samples(random: np.random.Generator, dtype: torch.dtype) -> list[Arguments]:
    samples = []
    for rows, outputs, inputs, bits, dim, group_rows, group_cols in codebook_matrices(random):
        codes = random.integers(0, 2**bits, (outputs, -(-inputs // dim)))
        groups = -(-outputs // group_rows) * -(-inputs // group_cols)
        codebook = numbers(random, dtype, groups, 2**bits, dim)
        packed = codebook_matrix.pack_codes(torch.from_numpy(codes), bits)
        layout = bits, inputs, group_rows, group_cols
        samples.append((numbers(random, dtype, rows, inputs), packed, codebook, *layout))
    return samples


def codebook_rows_samples(random: np.random.Generator, dtype: torch.dtype) -> list[Arguments]:
    return [
        (torch.from_numpy(random.integers(0, len(rest[0]), 3 * len(x))), *rest)
        for x, *rest in codebook_matmul_samples(random, dtype)
    ]


SAMPLES: dict[str, Callable[[np.random.Generator, torch.dtype], list[Arguments]]] = {
    "active_linear": active_linear_samples,
    "relu_dropout": relu_dropout_samples,
    "codebook_matmul": codebook_matmul_samples,
    "codebook_rows": codebook_rows_samples,
    "hashed_linear": hashed_linear_samples,
    "hashed_matmul": hashed_matmul_samples,
    "hashed_rows": hashed_rows_samples,
    "sampled_sigmoid": loss_samples,
    "sampled_softmax": loss_samples,
    "sparse_linear": sparse_linear_samples,
    "rowwise_linear": rowwise_linear_samples,
    "csr_rowwise_linear": csr_rowwise_linear_samples,
}


def samples_of(name: str, dtype: torch.dtype) -> list[Arguments]:
    assert name in SAMPLES, f"operator {name!r} has no samples here; add them to SAMPLES"
    return SAMPLES[name](np.random.default_rng(7), dtype)


def with_gradients(operator: Operator, arguments: Arguments) -> Arguments:
    def differentiated(position: int, a: Any) -> bool:
        return isinstance(a, Tensor) and a.is_floating_point() and position not in operator.constants

    return tuple(a.clone().requires_grad_() if differentiated(i, a) else a for i, a in enumerate(arguments))


def run(operator: Operator, function: Callable[..., Any], arguments: Arguments) -> list[Tensor]:
    """The results, and the first one's gradients under fixed, uneven cotangents."""
    arguments = with_gradients(operator, arguments) if operator.differentiable else arguments
    results = function(*arguments)
    results = list(results) if isinstance(results, tuple) else [results]
    if not operator.differentiable:
        return results
    y = results[0]
    wanted = [a for a in arguments if isinstance(a, Tensor) and a.requires_grad]
    cotangent = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y)
    return [*(r.detach() for r in results), *torch.autograd.grad(y, wanted, cotangent)]


def first(function: Callable[..., Any]) -> Callable[..., Tensor]:
    def only(*arguments: Any) -> Tensor:
        results = function(*arguments)
        return results[0] if isinstance(results, tuple) else results

    return only


def in_double(argument: Any) -> Any:
    return argument.double() if isinstance(argument, Tensor) and argument.is_floating_point() else argument


def assert_rounded(ours: Tensor, exact: Tensor) -> None:
    """Equal but for rounding: sums of at most a few hundred terms, none larger than the largest result."""
    assert ours.shape == exact.shape
    if exact.numel():
        bound = 64 * torch.finfo(ours.dtype).eps * (1 + float(exact.abs().max()))
        assert float((ours.double() - exact).abs().max()) <= bound


operators = pytest.mark.parametrize("name", sorted(OPERATORS))


@operators
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("level", native.isa_levels())
def test_equals_its_reference_forward_and_backward(name: str, dtype: torch.dtype, level: str) -> None:
    operator = OPERATORS[name]
    if dtype not in operator.dtypes:
        pytest.skip(f"takes no {dtype}")
    with native.isa_forced(level):
        for arguments in samples_of(name, dtype):
            ours = run(operator, operator.op, arguments)
            exact = run(operator, operator.reference, tuple(map(in_double, arguments)))
            for mine, yours in zip(ours, exact, strict=True):
                assert_rounded(mine, yours)


@operators
def test_same_bits_at_any_number_of_threads(name: str) -> None:
    operator, before = OPERATORS[name], native.num_threads()
    samples = samples_of(name, torch.float32)
    try:
        native.set_num_threads(1)
        alone = [run(operator, operator.op, arguments) for arguments in samples]
        native.set_num_threads(3)
        team = [run(operator, operator.op, arguments) for arguments in samples]
    finally:
        native.set_num_threads(before)
    for one, three in zip(alone, team, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, three, strict=True))


@operators
def test_gradcheck(name: str) -> None:
    operator = OPERATORS[name]
    if not operator.differentiable or torch.float64 not in operator.dtypes:
        pytest.skip("not differentiable, or not precise enough")
    for arguments in samples_of(name, torch.float64):
        if first(operator.reference)(*arguments).numel():
            inputs = with_gradients(operator, arguments)
            assert torch.autograd.gradcheck(first(operator.op), inputs, fast_mode=True)


@operators
def test_opcheck(name: str) -> None:
    """Schema, fake tensor, autograd registration and tracing, as PyTorch defines them."""
    for arguments in samples_of(name, torch.float32)[-3:]:
        torch.library.opcheck(OPERATORS[name].op.overload, with_gradients(OPERATORS[name], arguments))


def test_dropout_keeps_the_share_it_promises_and_its_scale() -> None:
    x = torch.ones(400, 500)
    for keep in (0.2, 0.5, 0.9):
        y = relu_dropout.relu_dropout(x, keep, 3)
        error = (keep * (1 - keep) / x.numel()) ** 0.5
        assert abs(float((y > 0).float().mean()) - keep) < 5 * error
        assert set(y.unique().tolist()) == {0.0, float(torch.tensor(1.0 / keep))}
    other = relu_dropout.relu_dropout(x, 0.5, 4)  # neighbouring seeds, as training gives them
    together = float(((relu_dropout.relu_dropout(x, 0.5, 5) > 0) & (other > 0)).float().mean())
    assert abs(together - 0.25) < 0.005


def test_dropout_lets_nan_through() -> None:
    x = torch.full((40,), float("nan"))
    assert relu_dropout.relu_dropout(x, 0.5, 1).isnan().all()
