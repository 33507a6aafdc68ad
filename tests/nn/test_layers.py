"""The layers against the dense ones they stand for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hashfold.errors import InputError
from hashfold.nn import ActiveValues, LSHLinear, SampledSigmoidLoss, SampledSoftmaxLoss, SparseLinear
from hashfold.sparse import ActiveSet, CsrBatch, RaggedIds

BATCH, WIDTH, NEURONS = 6, 24, 50


def sparse_rows(rows: int = BATCH, width: int = WIDTH) -> CsrBatch:
    random = np.random.default_rng(5)
    dense = random.standard_normal((rows, width)) * (random.random((rows, width)) < 0.3)
    return CsrBatch.from_scipy(dense.astype(np.float32))


def twins(index: str = "lsh") -> tuple[LSHLinear, nn.Linear]:
    ours, theirs = LSHLinear(WIDTH, NEURONS, index=index), nn.Linear(WIDTH, NEURONS)
    with torch.no_grad():
        ours.bias.normal_()
        theirs.weight.copy_(ours.weight)
        theirs.bias.copy_(ours.bias)
    return ours, theirs


def every_neuron(kind: str, layer: LSHLinear, x: Tensor) -> ActiveSet | None:
    if kind == "none":
        return None
    if kind == "all":
        return layer.all_active(None, len(x))
    if kind == "shared":
        return layer.lookup_shared(x, None, hard_negatives=3, uniform=NEURONS, seed=1)
    return layer.lookup(x, NEURONS, minimum=NEURONS)


def in_order(y: Tensor | ActiveValues, active: ActiveSet | None) -> Tensor:
    if isinstance(y, ActiveValues):
        return y.to_dense()
    return y if active is None else y[:, torch.from_numpy(np.argsort(active.ids))]


@pytest.mark.parametrize("kind", ["none", "all", "shared", "per row"])
def test_master_all_neurons_active_equals_linear(kind: str) -> None:
    """Forward and backward, whichever way all neurons came to be active."""
    ours, theirs = twins()
    x = torch.randn(BATCH, WIDTH)
    mine, yours = x.clone().requires_grad_(), x.clone().requires_grad_()
    active = every_neuron(kind, ours, x)
    y, z = in_order(ours(mine, active), active), theirs(yours)
    torch.testing.assert_close(y, z)
    cotangent = torch.randn_like(z)
    y.backward(cotangent)
    z.backward(cotangent)
    torch.testing.assert_close(mine.grad, yours.grad)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
    torch.testing.assert_close(ours.bias.grad, theirs.bias.grad)


def test_sparse_linear_equals_linear() -> None:
    x, layer = sparse_rows(), SparseLinear(WIDTH, 7)
    dense = torch.from_numpy(x.to_scipy().toarray())
    weight = layer.weight.detach().T.clone().requires_grad_()
    y, z = layer(x), nn.functional.linear(dense, weight, layer.bias)
    torch.testing.assert_close(y, z)
    y.square().sum().backward()
    nn.functional.linear(dense, weight).add(layer.bias.detach()).square().sum().backward()
    torch.testing.assert_close(layer.weight.grad, weight.grad.T)


def test_state_dict_is_ordinary() -> None:
    ours, theirs = twins()
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in theirs.state_dict().items()
    }
    theirs.load_state_dict(ours.state_dict())


def test_hashed_layers_chain() -> None:
    """H1 -> H2: the active set of one is the sparse input of the next; gradients as of masked dense layers."""
    first, second = LSHLinear(WIDTH, 40), LSHLinear(40, NEURONS)
    x = sparse_rows()
    hidden = first(x, first.lookup(x, 8, minimum=8)).relu()
    active = second.lookup(hidden, 12, minimum=5)
    y = second(hidden, active)
    mask1 = torch.zeros(BATCH, 40).index_put((hidden.rows, hidden.ids.long()), torch.ones(()))
    mask2 = torch.zeros(BATCH, NEURONS).index_put((y.rows, y.ids.long()), torch.ones(()))
    assert 0 < mask1.mean() < 1
    dense = torch.from_numpy(x.to_scipy().toarray())
    weights = [p.detach().clone().requires_grad_() for layer in (first, second) for p in layer.parameters()]
    h = torch.relu(nn.functional.linear(dense, *weights[:2])) * mask1
    z = nn.functional.linear(h, *weights[2:]) * mask2
    torch.testing.assert_close(y.to_dense(), z)
    y.values.square().sum().backward()
    z.square().sum().backward()
    ours = [p.grad for layer in (first, second) for p in layer.parameters()]
    for mine, yours in zip(ours, weights, strict=True):
        torch.testing.assert_close(mine, yours.grad)


def test_chain_into_a_dense_layer() -> None:
    first, second = LSHLinear(WIDTH, 40), SparseLinear(40, 5)
    x = torch.randn(BATCH, WIDTH)
    hidden = first(x, first.lookup(x, 9, minimum=9)).relu(drop_zeros=True)
    torch.testing.assert_close(second(hidden), hidden.to_dense() @ second.weight + second.bias)
    second(hidden).sum().backward()
    assert first.weight.grad is not None
    assert first.weight.grad.any()


def test_lookup_finds_what_scores_highest() -> None:
    layer = LSHLinear(WIDTH, NEURONS, index="exact")
    x = torch.randn(BATCH, WIDTH)
    active = layer.lookup(x, 5, fill="none")
    best = torch.topk(layer(x), 5).indices.numpy()
    assert (np.sort(active.ids.reshape(BATCH, 5)) == np.sort(best)).all()


def test_rebuild_is_the_only_thing_that_moves_the_tables() -> None:
    layer = LSHLinear(WIDTH, NEURONS, bias=False, index="lsh")
    x = torch.randn(BATCH, WIDTH)
    before = layer.candidates(x, NEURONS)
    with torch.no_grad():
        layer.weight.neg_()
    assert np.array_equal(layer.candidates(x, NEURONS).ids, before.ids)
    layer.rebuild()
    rebuilt = layer.candidates(x, NEURONS)
    assert not np.array_equal(rebuilt.ids, before.ids)
    with torch.no_grad():
        layer.weight.neg_()
    layer.reinsert(np.arange(NEURONS, dtype=np.int32))
    assert np.array_equal(np.sort(layer.candidates(x, NEURONS).ids), np.sort(before.ids))


def test_loaded_weights_are_looked_up_anew() -> None:
    layer, other = LSHLinear(WIDTH, NEURONS, bias=False), LSHLinear(WIDTH, NEURONS, bias=False)
    x = torch.randn(BATCH, WIDTH)
    expected = other.candidates(x, NEURONS)
    assert not np.array_equal(layer.candidates(x, NEURONS).ids, expected.ids)
    layer.load_state_dict(other.state_dict())
    assert np.array_equal(layer.candidates(x, NEURONS).ids, expected.ids)


@pytest.mark.parametrize("loss", [SampledSoftmaxLoss(), SampledSigmoidLoss()])
def test_losses_shared_and_per_row_agree_with_dense(loss: SampledSoftmaxLoss | SampledSigmoidLoss) -> None:
    layer, _ = twins()
    x, y = torch.randn(BATCH, WIDTH) * 9, RaggedIds.from_lists([[1], [2, 7], [], [0], [49], [3, 4, 5]], NEURONS)
    active = layer.all_active(y, BATCH)
    shared = loss(layer(x, active), active)
    per_row = loss(layer(x, layer.lookup(x, NEURONS, y, minimum=NEURONS)))
    logits, target = layer(x).detach(), torch.from_numpy(y.to_scipy().toarray())
    if isinstance(loss, SampledSigmoidLoss):
        dense = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="sum") / BATCH
    else:
        share = target / target.sum(1, keepdim=True).clamp(min=1)
        dense = -(share * torch.log_softmax(logits, 1)).sum() / BATCH
    torch.testing.assert_close(shared, dense)
    torch.testing.assert_close(per_row, dense)


def test_sampled_losses_are_unbiased_where_they_promise() -> None:
    """The sigmoid loss over sampled negatives has the dense loss as its mean."""
    layer, _ = twins()
    x, y = torch.randn(BATCH, WIDTH), RaggedIds.from_lists([[i] for i in range(BATCH)], NEURONS)
    loss, everything = SampledSigmoidLoss(), layer.all_active(y, BATCH)
    dense = loss(layer(x, everything), everything).item()
    drawn = []
    for seed in range(400):
        active = layer.lookup_shared(x, y, hard_negatives=0, uniform=11, seed=seed)
        drawn.append(loss(layer(x, active), active).item())
    error = np.std(drawn) / np.sqrt(len(drawn))
    assert abs(np.mean(drawn) - dense) < 4 * error


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda layer: layer(torch.zeros(2, 3)), "x must be"),
        (lambda layer: layer(torch.zeros(2, WIDTH), layer.all_active(None, 3)), "for 2 rows"),
        (lambda layer: layer(torch.zeros(2, WIDTH), LSHLinear(3, 4).all_active(None, 2)), "of 50 neurons"),
        (lambda _: LSHLinear(0, 4), "in_features"),
        (lambda _: LSHLinear(4, 4, index="forest"), "forest"),
        (lambda _: SparseLinear(9, 2)(sparse_rows()), "9 columns"),
        (
            lambda layer: SampledSoftmaxLoss()(layer(torch.zeros(2, WIDTH)), layer.all_active(None, 2)),
            "true labels",
        ),
    ],
)
def test_bad_input_is_one_clear_line(call: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        call(LSHLinear(WIDTH, NEURONS))  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_only_the_first_neurons_take_part() -> None:
    """As in a layer that had no others: the same neurons, weights, loss and gradients; the rest stays as it is."""
    layer, x = LSHLinear(WIDTH, NEURONS, index="exact"), torch.randn(BATCH, WIDTH)
    labels = RaggedIds.from_lists([[3], [1, 7, 44], [], [49], [20, 30, 31], [0]], NEURONS)
    kept = labels.below(30)
    assert [row.tolist() for row in np.split(kept.ids, kept.indptr[1:-1])] == [[3], [1, 7], [], [], [20], [0]]
    small = LSHLinear(WIDTH, 30, index="exact")
    small.load_state_dict({name: value[:30] for name, value in layer.state_dict().items()})
    active = layer.lookup_shared(x, labels, hard_negatives=0, uniform=9, seed=2, among=30)
    alone = small.lookup_shared(x, kept, hard_negatives=0, uniform=9, seed=2)
    assert (active.num_items, alone.num_items) == (NEURONS, 30)
    np.testing.assert_array_equal(active.ids, alone.ids)
    np.testing.assert_array_equal(active.weights, alone.weights)
    losses = [SampledSoftmaxLoss()(one(x, of), of) for one, of in ((layer, active), (small, alone))]
    for loss in losses:
        loss.backward()
    assert torch.equal(*losses)
    torch.testing.assert_close(layer.weight.grad[:30], small.weight.grad)
    assert not layer.weight.grad[30:].any()
    every = layer.lookup_shared(x, labels, hard_negatives=0, uniform=99, seed=2, among=30)
    assert sorted(every.ids.tolist()) == list(range(30))
    with pytest.raises(InputError, match="lookup_shared: hard_negatives must be 0 with `among`; got 2"):
        layer.lookup_shared(x, labels, hard_negatives=2, uniform=9, seed=2, among=30)
    with pytest.raises(InputError, match=r"among must be an integer in \[1, 50\]; got 51"):
        layer.lookup_shared(x, labels, hard_negatives=0, uniform=9, seed=2, among=51)
