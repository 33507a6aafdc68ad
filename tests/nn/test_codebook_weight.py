"""Codebooks of a dense matrix: near it, group by group, zero kept, and what cannot be is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import hashfold.nn
from hashfold.errors import InputError
from hashfold.kernels.kmeans1d import kmeans1d
from hashfold.nn import CodebookConv2d, CodebookLinear, CodebookWeight
from hashfold.nn.folded import FOLDED_LAYERS, FoldedWeight
from hashfold.nn.folded.fitting import TOLERANCE, fit_codebook


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def error(weight: CodebookWeight, dense: Tensor) -> float:
    return float((weight.dense().detach().double() - dense).square().sum())


@pytest.mark.parametrize("bits", range(1, 9))
def test_is_as_near_as_so_many_values_can_be(bits: int) -> None:
    dense = normal(40, 33)
    weight = CodebookWeight.from_dense(dense, bits)
    least = kmeans1d(dense.flatten().numpy(), 2**bits)[1]
    assert error(weight, dense) <= least * (1 + 2 * TOLERANCE) + 1e-9
    assert len(weight.dense().unique()) == 2**bits
    assert weight.nbytes == 40 * -(-33 * bits // 8) + 4 * 2**bits


def test_each_group_has_a_codebook_of_its_own() -> None:
    dense = normal(10, 14)
    weight = CodebookWeight.from_dense(dense, 2, group_rows=4, group_cols=5)
    assert weight.codebook.shape == (3 * 3, 4, 1)
    least = sum(
        kmeans1d(dense[r : r + 4, c : c + 5].flatten().numpy(), 4)[1] for r in (0, 4, 8) for c in (0, 5, 10)
    )
    assert error(weight, dense) == pytest.approx(least, rel=2 * TOLERANCE)


def test_few_distinct_weights_or_vectors_are_kept_exactly() -> None:
    dense = torch.randint(-3, 4, (9, 12), generator=torch.Generator().manual_seed(1)).float()
    assert torch.equal(CodebookWeight.from_dense(dense, 3).dense(), dense)
    rows = dense[:2].repeat(5, 1)
    assert torch.equal(CodebookWeight.from_dense(rows, 4, dim=4).dense(), rows)
    torch.testing.assert_close(CodebookWeight.from_dense(dense.double(), 3).dense(), dense.double())


def test_important_weights_come_nearer() -> None:
    dense = normal(30, 40)
    importance = torch.where(torch.arange(40) < 4, 100.0, 1.0).expand(30, 40)
    plain, weighted = (
        (CodebookWeight.from_dense(dense, 3, importance=given).dense() - dense).square()[:, :4].mean()
        for given in (None, importance)
    )
    assert weighted < 0.7 * plain
    vectors = [
        (CodebookWeight.from_dense(dense, 4, dim=2, importance=given).dense() - dense).square()[:, :4].mean()
        for given in (None, importance)
    ]
    assert vectors[1] < 0.7 * vectors[0]


@pytest.mark.parametrize("dim", [1, 2])
def test_zero_stays_zero_in_training(dim: int) -> None:
    dense = normal(8, 6)
    dense[:, :4] = 0
    weight = CodebookWeight.from_dense(dense, 2, dim=dim, zero=True)
    optimizer = torch.optim.Adam(weight.parameters(), 0.1, weight_decay=0.1)
    before = weight.dense().detach().clone()
    weight.matmul(normal(3, 6)).square().sum().backward()
    optimizer.step()
    after = weight.dense()
    assert not after[:, :4].any()
    assert (after[:, 4:] != before[:, 4:]).all()


def test_a_group_of_zeros_only() -> None:
    dense = torch.cat([torch.zeros(4, 5), normal(4, 5)])
    weight = CodebookWeight.from_dense(dense, 5, group_rows=4, zero=True)
    torch.testing.assert_close(weight.dense(), dense, rtol=0, atol=1e-6)


def test_many_vectors_are_sampled_with_the_same_bits_each_time() -> None:
    dense = normal(600, 256)
    found = [fit_codebook(dense, 4, dim=2, seed=3) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    flat = normal(9, 16)
    whole = CodebookWeight.from_dense(flat, 4, dim=2)
    assert error(whole, flat) < 0.5 * float(flat.square().sum())
    weight = CodebookWeight.from_dense(dense, 4, dim=2)
    assert error(weight, dense) < 0.2 * float(dense.square().sum())  # 0.117 n is the least for normal pairs


LAYERS = [getattr(hashfold.nn, f"Codebook{kind.__name__}") for kind in FOLDED_LAYERS if hasattr(nn, kind.__name__)]


@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
def test_layers_are_made_from_torchs(kind: type) -> None:
    dense_kind = getattr(nn, kind.__name__.removeprefix("Codebook"))
    dense = dense_kind(6, 4) if "Conv" not in kind.__name__ else dense_kind(6, 4, 3)
    layer = kind.from_dense(dense, bits=3, group_rows=2)
    assert type(layer) is kind
    weights = [part for part in layer.children() if isinstance(part, FoldedWeight)]
    assert weights
    assert all(weight.bits == 3 and weight.group_rows == 2 for weight in weights)


def test_a_layer_of_another_type_is_refused() -> None:
    with pytest.raises(InputError, match=r"CodebookConv2d.from_dense: layer must be .* got Linear"):
        CodebookConv2d.from_dense(nn.Linear(3, 3))
    with pytest.raises(InputError, match="LayerNorm"):
        CodebookLinear.from_dense(nn.LayerNorm(3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 9}, "bits must be an integer in"),
        ({"dim": 0}, "dim must be"),
        ({"dim": 2, "group_cols": 3}, "multiple of dim"),
        ({"group_rows": 0}, "group_rows"),
        ({"importance": torch.ones(3)}, "importance must be"),
        ({"importance": -torch.ones(4, 6)}, "weights must be at least 0"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        CodebookWeight.from_dense(normal(4, 6), **options)


def test_bad_weights() -> None:
    for dense in (normal(4, 6) / 0, torch.ones(4), torch.ones(4, 6, dtype=torch.int32), torch.ones(0, 3)):
        with pytest.raises(InputError, match="dense must be"):
            CodebookWeight.from_dense(dense)


def test_bad_specs() -> None:
    good = CodebookWeight.from_dense(normal(4, 6), 2, group_rows=2).spec()
    assert FoldedWeight.from_spec(good).spec() == good
    for name, value in (("bits", 9), ("bits", "2"), ("dim", 0), ("zero", 1), ("group_cols", 0), ("more", 1)):
        with pytest.raises(InputError):
            FoldedWeight.from_spec({**good, name: value})
    with pytest.raises(InputError, match="a codebook weight has"):
        FoldedWeight.from_spec({name: value for name, value in good.items() if name != "bits"})
