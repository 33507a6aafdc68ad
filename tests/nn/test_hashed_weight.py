"""Weights that share buckets by hashing: what they store, how they start, how they are told and refused."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from hashfold.compress import HashConfig, compress
from hashfold.errors import InputError
from hashfold.nn import HashedLinear
from hashfold.nn.folded import FoldedWeight, HashedWeight, StackedWeight, folded_weights
from hashfold.nn.folded.weight import check_shape

PLACES = ((0, 0), (0, 1), (1, 0), (17, 8), (17, 9), (999, 499), (500, 250), (501, 256))


@pytest.mark.parametrize(
    ("tile", "blocks", "num_buckets", "expected"),
    [
        (1, 1, 64, [44, 59, 23, 5, 31, 31, 21, 35]),
        (8, 1, 64, [41, -42, -17, -49, -50, 12, 35, -33]),
        (32, 2, 64, [1, -2, -1, -9, 10, 52, -59, -33]),
        (4, 1000, 16000, [9, -10, -21, 285, 286, 15996, -8003, 8021]),
    ],
)
def test_the_same_places_on_every_platform(tile, blocks, num_buckets, expected) -> None:
    """Bucket j holds j + 1: a weight tells the bucket it reads, and its sign."""
    weight = HashedWeight(1000, 500, num_buckets, tile=tile, blocks=blocks, seed=7)
    with torch.no_grad():
        weight.buckets.copy_(torch.arange(1, num_buckets + 1))
    ids = torch.tensor([o for o, _ in PLACES])
    rows = weight.rows(ids)
    assert [int(rows[i, f]) for i, (_, f) in enumerate(PLACES)] == expected
    products = weight.matmul(torch.eye(500)[[f for _, f in PLACES]])
    assert [int(products[i, o]) for i, (o, _) in enumerate(PLACES)] == expected


def test_identity_reads_row_by_row() -> None:
    weight = HashedWeight(3, 5, 15, identity=True)
    assert torch.equal(weight.dense(), weight.buckets.view(3, 5))
    assert not weight.sign


@pytest.mark.parametrize("options", [{"tile": 1}, {"tile": 8, "sign": False}, {"tile": 16, "blocks": 4}])
def test_virtual_weights_start_with_the_variance_of_torch(options) -> None:
    weight = HashedWeight(400, 300, 8192, generator=torch.Generator().manual_seed(0), **options)
    dense = weight.dense().detach()
    assert float(dense.std()) == pytest.approx(float(nn.Linear(300, 400).weight.detach().std()), rel=0.05)
    assert abs(float(dense.mean())) < 0.1 * float(dense.std())
    wide = HashedWeight(400, 300, 8192, init_std=2.0, **options)
    assert float(wide.dense().detach().std()) == pytest.approx(2.0, rel=0.05)


def test_one_array_for_several_weights() -> None:
    """Each virtual weight has the spread of its own layer; gradients add up; one parameter is counted once."""
    first = HashedWeight(60, 50, 512, seed=1)
    second = HashedWeight(70, 200, buckets=first.buckets, seed=2)
    assert second.scale == pytest.approx(math.sqrt(50 / 200), rel=0.2)
    assert float(second.dense().detach().std()) == pytest.approx(1 / math.sqrt(600), rel=0.1)
    model = nn.ModuleList([first, second])
    assert sum(p.numel() for p in model.parameters()) == 512
    assert list(folded_weights(model)) == ["0", "1"]
    x, y = torch.randn(3, 50), torch.randn(3, 200)
    ours = torch.autograd.grad(first(x).sum() + second(y).sum(), first.buckets)[0]
    parts = [torch.autograd.grad(w(v).sum(), first.buckets)[0] for w, v in ((first, x), (second, y))]
    torch.testing.assert_close(ours, sum(parts))
    copied = copy.deepcopy(model)
    assert copied[0].buckets is copied[1].buckets
    assert copied[0].buckets is not first.buckets
    assert FoldedWeight.from_spec(second.spec()).scale == second.scale


def test_tied_weights_are_listed_once() -> None:
    weight = HashedWeight(60, 50, 512)
    model = nn.ModuleDict({"a": nn.ModuleDict({"weight": weight}), "b": nn.ModuleDict({"weight": weight})})
    assert folded_weights(model) == {"a.weight": weight}


@pytest.mark.parametrize("options", [{"tile": 1}, {"tile": 8, "sign": False}, {"tile": 4, "blocks": 5}])
def test_fit_is_least_squares(options) -> None:
    """No small change of the buckets comes nearer; a matrix that can be folded exactly is."""
    weight, dense = HashedWeight(20, 50, 120, seed=3, **options), torch.randn(20, 50)
    weight.scale = 0.5
    assert weight.fit(dense) is weight
    (weight.dense() - dense).square().sum().backward()
    torch.testing.assert_close(weight.buckets.grad, torch.zeros(120), atol=1e-4, rtol=0)
    exact = weight.dense().detach()
    other = copy.deepcopy(weight)
    other.reset_parameters()
    torch.testing.assert_close(other.fit(exact).dense(), exact)
    with pytest.raises(InputError, match=r"dense must be \(20, 50\); got \(50, 20\)"):
        weight.fit(dense.T)


def test_more_rows_than_a_block(monkeypatch) -> None:
    monkeypatch.setattr("hashfold.nn.folded.weight.ROW_BLOCK_WEIGHTS", 101)
    weight = HashedWeight(21, 50, 1050, identity=True)
    assert [len(block) for block in weight.row_blocks()] == [2] * 10 + [1]
    dense = torch.randn(21, 50)
    assert torch.equal(weight.fit(dense).dense(), dense)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_buckets": None}, "num_buckets or buckets must be given"),
        ({"num_buckets": 7}, "at least 8, a tile for each block; got 7; take a smaller tile or fewer blocks"),
        ({"num_buckets": 79, "blocks": 10}, "at least 80"),
        ({"tile": 3}, "tile must be one of 1, 4, 8, 16, 32; got 3"),
        ({"blocks": 16}, r"blocks must be an integer in \[1, 15\]; got 16"),
        ({"blocks": 0}, "blocks"),
        ({"seed": -1}, "seed"),
        ({"identity": True}, "identity needs num_buckets 360, one a weight; got 100"),
        ({"init_std": -1.0}, "init_std"),
        ({"buckets": torch.zeros(100)}, "buckets must be a parameter"),
        ({"buckets": nn.Parameter(torch.zeros(99))}, "that of the buckets, 99; got 100"),
        ({"out_features": 0}, "out_features"),
        ({"in_features": 2.5}, "in_features"),
    ],
)
def test_bad_settings_are_refused(options, message) -> None:
    with pytest.raises(InputError, match=message):
        HashedWeight(**({"out_features": 15, "in_features": 24, "num_buckets": 100} | options))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "md5"}, "kind must be one of .*hashed"),
        ({"kind": None}, "kind must be one of"),
        ({"offset": 3}, "a hashed weight has blocks, "),
        ({"tile": "8"}, "tile"),
        ({"num_buckets": 1 << 40}, "num_buckets"),
        ({"scale": 0.0}, "scale"),
        ({"scale": float("nan")}, "scale"),
    ],
)
def test_what_is_no_spec_is_refused(change, message) -> None:
    spec = HashedWeight(15, 24, 100).spec()
    assert isinstance(FoldedWeight.from_spec(spec), HashedWeight)
    with pytest.raises(InputError, match=message):
        FoldedWeight.from_spec(spec | change)


def test_bad_input_is_refused() -> None:
    weight = HashedWeight(15, 24, 100)
    with pytest.raises(InputError, match=r"x must be \(\.\.\., 24\); got \(3, 25\)"):
        weight(torch.zeros(3, 25))
    with pytest.raises(InputError, match=r"x must be of torch.float32.*; got torch.float64"):
        weight(torch.zeros(3, 24).double())
    with pytest.raises(InputError, match=r"ids must lie in \[0, 15\); got 15"):
        weight.rows(torch.tensor([3, 15]))
    with pytest.raises(InputError, match=r"ids must be integers \(m,\)"):
        weight.rows(torch.zeros(2))
    with pytest.raises(InputError, match=r"weight must be \(24, 15\) \(out, in\); got \(15, 24\)"):
        check_shape("layer", weight, 24, 15)
    with pytest.raises(InputError, match="weight must be a FoldedWeight; got Tensor"):
        check_shape("layer", weight.dense(), 15, 24)


def test_rows_stacked_on_each_other() -> None:
    parts = [HashedWeight(5, 16, 80, identity=True), HashedWeight(9, 16, 32), HashedWeight(3, 16, 8)]
    weight = StackedWeight(parts)
    assert torch.equal(weight.dense(), torch.cat([part.dense() for part in parts]))
    ids = torch.tensor([16, 0, 5, 13, 14, 4, 0])
    assert torch.equal(weight.rows(ids), weight.dense()[ids])
    assert weight.nbytes == 4 * 120
    assert list(folded_weights(nn.ModuleDict({"a": weight, "b": parts[1]}))) == ["a"]
    spec = weight.spec()
    for change, message in (
        ({"parts": []}, "at least one folded weight"),
        ({"parts": None}, "has in_features, out_features, parts"),
        ({"out_features": 18}, r"its parts make \(17, 16\); got \(18, 16\)"),
        ({"parts": [*spec["parts"], HashedWeight(2, 15, 8).spec()]}, r"equal in_features; got \[15, 16\]"),
    ):
        with pytest.raises(InputError, match=message):
            FoldedWeight.from_spec(spec | change)


@pytest.mark.parametrize(
    ("shape", "options", "layout"),
    [
        ((64, 4096), {"compression_ratio": 8}, (8, 1)),  # 2^15 buckets, the most of a small layer
        ((64, 4096), {"num_buckets": 1 << 15}, (8, 1)),
        ((65, 4096), {"compression_ratio": 8}, (16, 2)),
        ((256, 2048), {"num_buckets": 100_000}, (16, 4)),
        ((2, 1 << 17), {"compression_ratio": 2}, (16, 2)),  # no more blocks than outputs
        ((65, 4096), {"compression_ratio": 8, "tile": 1}, (1, 1)),
        ((65, 4096), {"compression_ratio": 8, "blocks": 65}, (8, 65)),
        ((65, 4096), {"buckets": nn.Parameter(torch.ones(1 << 16))}, (8, 1)),
        ((65, 4096), {"identity": True}, (8, 1)),
    ],
)
def test_what_is_not_asked_is_chosen_by_size(shape, options, layout) -> None:
    """Large layers for speed; what is given, and buckets of others, are left as they are."""
    out, inputs = shape
    weight = HashedLinear(inputs, out, **options).weight
    assert (weight.tile, weight.blocks) == layout
    assert weight.num_buckets // weight.blocks <= 1 << 15 or layout[1] in (1, out)
    ratio = options.get("compression_ratio")
    if ratio is not None:
        assert 0.99 * out * inputs / ratio <= weight.num_buckets <= out * inputs / ratio
        settings = {name: value for name, value in options.items() if name != "compression_ratio"}
        folded = compress(nn.Linear(inputs, out), HashConfig(ratio, **settings)).weight
        assert (folded.tile, folded.blocks, folded.num_buckets) == (*layout, weight.num_buckets)
