"""The layer whose neurons are looked up, over folded weights: against the one over rows, and the dense one."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hashfold.errors import InputError
from hashfold.index import INDEXES, virtual
from hashfold.nn import (
    ActiveValues,
    FoldedLSHLinear,
    HashedLSHLinear,
    HashedWeight,
    LSHLinear,
    SampledSigmoidLoss,
    SampledSoftmaxLoss,
)
from hashfold.optim import RowAdam, RowSGD
from hashfold.sparse import ActiveSet, CsrBatch, RaggedIds

BATCH, WIDTH, NEURONS = 6, 24, 50
LABELS = RaggedIds.from_lists([[3], [1, 7], [], [49], [3, 4, 5], [0]], NEURONS)

WEIGHTS = {
    "identity": {"identity": True},
    "tiles": {"num_buckets": 96},
    "blocks": {"num_buckets": 200, "tile": 1, "blocks": NEURONS},
}
each_weight = pytest.mark.parametrize("hashing", WEIGHTS.values(), ids=WEIGHTS)


def made(**hashing) -> HashedLSHLinear:
    layer = HashedLSHLinear(WIDTH, NEURONS, **hashing)
    nn.init.normal_(layer.bias)
    return layer


def twin(layer: FoldedLSHLinear) -> LSHLinear:
    dense = LSHLinear(WIDTH, NEURONS, index=layer.index.name)
    with torch.no_grad():
        dense.weight.copy_(layer.weight.dense())
        dense.bias.copy_(layer.bias)
    return dense


def actives(layer: LSHLinear, x: Tensor) -> dict[str, ActiveSet | None]:
    return {
        "none": None,
        "all": layer.all_active(LABELS, len(x)),
        "shared": layer.lookup_shared(x, LABELS, hard_negatives=2, uniform=9, seed=1),
        "per row": layer.lookup(x, 9, LABELS, minimum=4),
    }


def values(y: Tensor | ActiveValues) -> Tensor:
    return y.values if isinstance(y, ActiveValues) else y


def through(layer: FoldedLSHLinear, dense: LSHLinear) -> tuple[Tensor, ...]:
    """The gradients of a twin, taken on to what the folded layer stores."""
    buckets = torch.autograd.grad(layer.weight.dense(), layer.weight.buckets, dense.weight.grad)[0]
    return buckets, dense.bias.grad


@each_weight
@pytest.mark.parametrize("kind", ["none", "all", "shared", "per row"])
def test_equals_the_layer_over_its_virtual_rows(kind: str, hashing) -> None:
    """Forward and backward, at the same neurons."""
    layer = made(**hashing)
    dense, x = twin(layer), torch.randn(BATCH, WIDTH)
    active = actives(dense, x)[kind]
    mine, yours = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, z = values(layer(mine, active)), values(dense(yours, active))
    torch.testing.assert_close(y, z)
    cotangent = torch.randn_like(z)
    torch.autograd.backward([y, z], [cotangent, cotangent])
    torch.testing.assert_close(mine.grad, yours.grad)
    for ours, theirs in zip((layer.weight.buckets.grad, layer.bias.grad), through(layer, dense), strict=True):
        torch.testing.assert_close(ours, theirs)


@each_weight
def test_sparse_rows_and_active_values_are_inputs(hashing) -> None:
    layer = made(**hashing)
    dense, random = twin(layer), np.random.default_rng(5)
    x = random.standard_normal((BATCH, WIDTH)) * (random.random((BATCH, WIDTH)) < 0.4)
    rows = CsrBatch.from_scipy(x.astype(np.float32))
    for active in actives(dense, torch.randn(BATCH, WIDTH)).values():
        torch.testing.assert_close(values(layer(rows, active)), values(dense(rows, active)))
    hidden = LSHLinear(WIDTH, WIDTH)
    sparse = hidden(rows, hidden.lookup(rows, 8)).relu()
    for active in actives(dense, torch.randn(BATCH, WIDTH)).values():
        torch.testing.assert_close(values(layer(sparse, active)), values(dense(sparse, active)))


@pytest.mark.parametrize("name", [name for name, index in INDEXES.items() if index.takes_virtual])
def test_looks_up_what_the_rows_would(name: str, monkeypatch) -> None:
    """From tables built of a few rows at a time; after the weights moved; after a checkpoint."""
    monkeypatch.setattr(virtual, "BLOCK_BYTES", 7 * 4 * WIDTH)
    layer = HashedLSHLinear(WIDTH, NEURONS, num_buckets=96, index=name)
    dense, x = twin(layer), torch.randn(BATCH, WIDTH)
    same_candidates(layer, dense, x)
    with torch.no_grad():
        layer.weight.buckets.neg_()
        dense.weight.neg_()
    moved = np.arange(0, NEURONS, 2, dtype=np.int32)
    for one in (layer, dense):
        one.reinsert(moved)
    same_candidates(layer, dense, x)
    copied = HashedLSHLinear(WIDTH, NEURONS, num_buckets=96, index=name)
    copied.load_state_dict(layer.state_dict())
    copied.load_index_state(copy.deepcopy(layer.index_state()))
    same_candidates(copied, dense, x)
    copied.load_state_dict(layer.state_dict())
    assert copied.index_state() is None
    layer.rebuild()
    same_candidates(copied, layer, x)


def same_candidates(ours: FoldedLSHLinear, theirs: LSHLinear | FoldedLSHLinear, x: Tensor) -> None:
    found, wanted = ours.candidates(x, 9), theirs.candidates(x, 9)
    np.testing.assert_array_equal(found.ids, wanted.ids)
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-5, atol=1e-5)


@each_weight
@pytest.mark.parametrize(
    ("loss", "module"), [("softmax", SampledSoftmaxLoss()), ("sigmoid", SampledSigmoidLoss())]
)
def test_the_loss_step_is_forward_loss_and_backward(loss, module, hashing) -> None:
    layer = made(**hashing)
    x = torch.randn(BATCH, WIDTH)
    active = actives(twin(layer), x)["shared"]
    value, grad = layer.loss_step(x, active, loss)
    ours = [layer.weight.buckets.grad, layer.bias.grad, grad]
    layer.zero_grad()
    x.requires_grad_()
    expected = module(layer(x, active), active)
    expected.backward()
    assert value == pytest.approx(float(expected.detach()))
    for mine, yours in zip(ours, [layer.weight.buckets.grad, layer.bias.grad, x.grad], strict=True):
        torch.testing.assert_close(mine, yours)


def test_with_a_value_for_each_weight_it_trains_as_the_layer_over_rows() -> None:
    """Five steps with all neurons and plain descent: the same weights."""
    layer = made(identity=True)
    dense = twin(layer)
    optimizers = [RowSGD(layer.parameters(), lr=0.1), RowSGD(dense.parameters(), lr=0.1)]
    optimizers[1].fuse(dense)
    for step in range(5):
        x = torch.randn(BATCH, WIDTH)
        active = dense.lookup_shared(x, LABELS, hard_negatives=0, uniform=7, seed=step)
        for optimizer, one in zip(optimizers, (layer, dense), strict=True):
            one.loss_step(x, active, "softmax")
            optimizer.step()
            optimizer.zero_grad()
    torch.testing.assert_close(layer.weight.dense(), dense.weight)
    torch.testing.assert_close(layer.bias, dense.bias)


def test_parameters_gradient_and_optimizer_state_are_as_few_as_buckets() -> None:
    layer = HashedLSHLinear(64, 4000, bias=False, compression_ratio=16, index="exact")
    assert float(layer.weight.rows(torch.arange(500)).detach().std()) == pytest.approx(1 / 8, rel=0.05)
    (buckets,) = layer.parameters()
    assert buckets.numel() == 64 * 4000 // 16
    optimizer = RowAdam(layer.parameters())
    x = torch.randn(8, 64)
    layer(x, layer.lookup_shared(x, None, hard_negatives=0, uniform=100, seed=0)).sum().backward()
    assert buckets.grad.shape == buckets.shape
    optimizer.step()
    state = [value for value in optimizer.state[buckets].values() if isinstance(value, Tensor)]
    assert sum(value.numel() for value in state) == 2 * buckets.numel()
    assert sorted(layer.state_dict()) == ["weight.buckets"]


def test_only_the_learned_have_weights() -> None:
    """All buckets of the ratio are theirs; the others score their biases, whatever is trained."""
    layer = HashedLSHLinear(64, 4000, compression_ratio=16, learned=1000, index="exact")
    trained = [p for p in layer.weight.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == 64 * 4000 // 16
    assert float(layer.weight.rows(torch.arange(500)).detach().std()) == pytest.approx(1 / 8, rel=0.05)
    nn.init.normal_(layer.bias)
    optimizer, labels = RowAdam(layer.parameters()), RaggedIds.from_lists([[3], [999, 1000], [3999]], 4000)
    x, before = torch.randn(3, 64), layer.bias.detach().clone()
    for seed in range(3):
        active = layer.lookup_shared(x, labels, hard_negatives=0, uniform=100, seed=seed, among=1000)
        layer.loss_step(x, active, "softmax")
        optimizer.step()
        optimizer.zero_grad()
    assert torch.equal(layer(x)[:, 1000:], before[1000:].expand(3, -1))
    assert not torch.equal(layer(x)[:, :1000], before[:1000].expand(3, -1))
    copied = HashedLSHLinear(64, 4000, compression_ratio=16, learned=1000, index="exact")
    copied.load_state_dict(layer.state_dict())
    assert torch.equal(copied(x), layer(x))
    same_candidates(copied, layer, x)
    with pytest.raises(InputError, match="ratio must be at least 4, a bucket a learned weight; got 3"):
        HashedLSHLinear(64, 4000, compression_ratio=3, learned=1000)
    with pytest.raises(InputError, match=r"learned must be an integer in \[1, 3999\]; got 4000"):
        HashedLSHLinear(64, 4000, compression_ratio=16, learned=4000)


def test_tied_to_another_layer() -> None:
    weight = HashedWeight(NEURONS, WIDTH, 96)
    layers = [FoldedLSHLinear(WIDTH, NEURONS, bias=False, weight=weight) for _ in range(2)]
    x = torch.randn(2, WIDTH)
    assert torch.equal(layers[0](x), layers[1](x))


def test_bad_input_is_refused() -> None:
    layer, x = made(num_buckets=96), torch.randn(BATCH, WIDTH)
    with pytest.raises(InputError, match=r"shared values move once a step.*call optimizer\.step"):
        RowAdam(layer.parameters()).fuse(layer)
    with pytest.raises(InputError, match="active must be a set of 50 neurons; got 51"):
        layer(x, LSHLinear(WIDTH, NEURONS + 1).lookup(x, 3))
    with pytest.raises(InputError, match="active must be shared by the batch"):
        layer.loss_step(x, layer.lookup(x, 3, LABELS), "softmax")
    with pytest.raises(InputError, match="loss must be one of"):
        layer.loss_step(x, layer.lookup(x, 3, LABELS), "hinge")
    with pytest.raises(InputError, match=r"weight must be \(50, 24\)"):
        FoldedLSHLinear(WIDTH, NEURONS, weight=HashedWeight(WIDTH, NEURONS, 96))
    with pytest.raises(InputError, match="precision int8 keeps a copy of every row"):
        made(num_buckets=96, index="exact", index_options={"precision": "int8"}).rebuild()
    with torch.no_grad():
        layer.weight.buckets[3] = float("nan")
    with pytest.raises(InputError, match="vectors must be finite"):
        layer.rebuild()
