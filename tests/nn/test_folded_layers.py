"""What the contracts do not say: the hashed layers' arguments, memory, tied weights, conversions, bad input."""

from __future__ import annotations

import copy

import pytest
import torch
from nn.folded_cases import CASES
from torch import nn

import hashfold
from hashfold.errors import InputError
from hashfold.nn import folded
from hashfold.nn.folded import (
    FoldedEmbedding,
    FoldedLinear,
    HashedConv2d,
    HashedEmbedding,
    HashedEmbeddingBag,
    HashedGRU,
    HashedLSTM,
    HashedRNN,
    HashedWeight,
    fold_layer,
    folded_weights,
    unfold_layer,
    weight_matrices,
)
from hashfold.nn.folded.weight import check_shape

HASHED = {
    "linear": (hashfold.nn.HashedLinear, nn.Linear, (64, 48), {"bias": False}),
    "conv1d": (folded.HashedConv1d, nn.Conv1d, (16, 24, 5), {"stride": 2, "groups": 2}),
    "conv2d": (HashedConv2d, nn.Conv2d, (16, 24, (3, 5), 2, 1), {"padding_mode": "circular"}),
    "conv3d": (folded.HashedConv3d, nn.Conv3d, (16, 24, 2), {}),
    "embedding": (HashedEmbedding, nn.Embedding, (500, 32, 3), {}),
    "bag": (HashedEmbeddingBag, nn.EmbeddingBag, (500, 32), {"mode": "max"}),
    "rnn": (HashedRNN, nn.RNN, (20, 32, 2, "relu"), {"bidirectional": True}),
    "lstm": (HashedLSTM, nn.LSTM, (20, 32, 2), {"batch_first": True, "bias": False}),
    "gru": (HashedGRU, nn.GRU, (20, 32, 1, True, True), {}),
}
each = pytest.mark.parametrize(("ours", "theirs", "shape", "options"), HASHED.values(), ids=HASHED)


@each
def test_hashed_layers_take_the_arguments_of_torch(ours, theirs, shape, options) -> None:
    """And start with its variances, at a ratio of the parameters; a seed decides all."""
    made = [
        ours(*shape, **options, compression_ratio=4, generator=torch.Generator().manual_seed(3)) for _ in range(2)
    ]
    torch.manual_seed(0)
    dense = theirs(*shape, **options)
    assert all(map(torch.equal, *(layer.parameters() for layer in made)))
    unfolded = unfold_layer(made[0])
    assert repr(unfolded) == repr(dense)
    counts = {"ours": 0, "theirs": 0}
    for name, parameter in dense.named_parameters():
        assert float(unfolded.get_parameter(name).detach().std()) == pytest.approx(
            float(parameter.detach().std()), rel=0.4 if "bias" in name else 0.15
        )
        counts["theirs"] += parameter.numel() if "weight" in name else 0
    counts["ours"] = sum(p.numel() for name, p in made[0].named_parameters() if "bias" not in name)
    assert counts["theirs"] / 4 * 0.97 < counts["ours"] <= counts["theirs"] / 4


@each
def test_a_ratio_must_leave_a_bucket(ours, theirs, shape, options) -> None:
    with pytest.raises(
        InputError, match=rf"{ours.__name__}.*must leave at least 8 buckets .*lower it, or the tile"
    ):
        ours(*shape, **options, compression_ratio=1e5)
    for wrong, message in (
        ({}, "one of compression_ratio and num_buckets .*; got neither"),
        ({"compression_ratio": 2, "num_buckets": 99}, "; got both"),
        ({"compression_ratio": 0.5}, "at least 1.0; got 0.5"),
        ({"compression_ratio": 2, "ratio": 3}, "options are blocks, .*; got ratio"),
        ({"compression_ratio": 2, "tile": 5}, "tile must be one of"),
        ({"compression_ratio": 2, "blocks": 0}, "blocks must be"),
        ({"compression_ratio": 2, "seed": "x"}, "seed must be"),
        ({"compression_ratio": 2, "identity": True}, "identity is a bucket for each weight"),
    ):
        with pytest.raises(InputError, match=message):
            ours(*shape, **options, **wrong)
    assert sum(w.num_buckets for w in folded_weights(ours(*shape, **options, identity=True)).values()) == sum(
        p.numel() for name, p in theirs(*shape, **options).named_parameters() if "weight" in name
    )


def test_the_weights_of_a_network_differ_in_their_seeds() -> None:
    layer = HashedLSTM(8, 8, 2, compression_ratio=2, seed=5)
    assert [weight.seed for weight in folded_weights(layer).values()] == [5, 6, 7, 8]
    array = nn.Parameter(torch.randn(64))
    shared = HashedGRU(8, 8, bidirectional=True, bias=False, buckets=array)
    assert [p is array for p in shared.parameters()] == [True]
    x = torch.randn(3, 2, 8)
    shared(x)[0].sum().backward()
    assert bool(array.grad.any())


def test_dropout_lies_between_the_layers() -> None:
    layer = fold_layer(nn.LSTM(5, 6, 3, dropout=0.5), lambda _, m: HashedWeight(*m.shape, 24, seed=1))
    dense, x = unfold_layer(layer), torch.randn(7, 2, 5)
    results = []
    for net in (layer, dense):
        torch.manual_seed(8)
        results.append(net(x)[0])
    torch.testing.assert_close(*results)
    assert not torch.equal(layer(x)[0], layer(x)[0])
    layer.eval()
    assert torch.equal(layer(x)[0], layer(x)[0])


def test_large_filters_are_built_a_few_at_a_time(monkeypatch) -> None:
    """Parts of a group, whole groups, some groups: the same bits of each output channel; no row is left out."""
    for name in ("conv1d", "conv2d, groups", "conv3d"):
        layer = fold_layer(CASES[name].make(), lambda _, m: HashedWeight(*m.shape, 24, seed=1))
        inputs = CASES[name].inputs()
        (whole,) = CASES[name].call(layer, inputs)
        for weights in (1, 2 * layer.weight.in_features, 4 * layer.weight.in_features):
            monkeypatch.setattr("hashfold.nn.folded.conv.ROW_BLOCK_WEIGHTS", weights)
            assert sum(len(rows) for rows, _ in layer._parts()) == layer.out_channels
            torch.testing.assert_close(CASES[name].call(layer, inputs)[0], whole)
        grad = torch.autograd.grad(CASES[name].call(layer, inputs)[0].sum(), layer.weight.buckets)[0]
        assert bool(grad.any())
        monkeypatch.undo()


def test_no_filter_is_kept_for_the_backward_pass() -> None:
    layer, kept = HashedConv2d(32, 64, 3, padding=1, compression_ratio=16), []
    x = torch.randn(1, 32, 5, 5, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        y = layer(x)
    assert sum(kept) < layer.weight.in_features * layer.out_channels / 4
    y.sum().backward()
    assert bool(layer.weight.buckets.grad.any())


def test_an_embedding_and_an_output_layer_hold_one_weight() -> None:
    weight = HashedWeight(50, 16, 200)
    model = nn.Sequential(FoldedEmbedding(50, 16, weight=weight), FoldedLinear(16, 50, weight=weight))
    assert folded_weights(model) == {"0.weight": weight}
    assert sum(p.numel() for p in model.parameters()) == 250
    ids = torch.tensor([3, 4, 3])
    model(ids).square().sum().backward()
    dense = weight.dense()
    grads = torch.autograd.grad(
        nn.functional.linear(dense[ids], dense, model[1].bias).square().sum(), weight.buckets
    )
    torch.testing.assert_close(weight.buckets.grad, grads[0])
    copied = copy.deepcopy(model)
    assert copied[0].weight is copied[1].weight


def test_the_padding_vector_stands_apart() -> None:
    layer = HashedEmbedding(10, 16, padding_idx=-1, num_buckets=8)
    assert not layer(torch.tensor([9, 9])).any()
    assert sorted(layer.state_dict()) == ["padding", "weight.buckets"]
    layer(torch.tensor([9, 9])).sum().backward()
    assert not layer.weight.buckets.grad.any()
    dense = nn.Embedding.from_pretrained(torch.randn(10, 16), padding_idx=4)
    kept = fold_layer(dense, lambda _, m: HashedWeight(*m.shape, 8).fit(m))
    assert torch.equal(kept(torch.tensor([4]))[0], dense.weight[4])
    assert sorted(HashedEmbedding(10, 16, num_buckets=8).state_dict()) == ["weight.buckets"]


def test_a_folded_layer_keeps_what_it_was() -> None:
    dense = nn.Linear(6, 4).double().eval()
    dense.bias.requires_grad_(False)
    before = copy.deepcopy(dense.state_dict())
    layer = fold_layer(dense, lambda _, m: HashedWeight(*m.shape, 24, identity=True).double().fit(m))
    assert not layer.training
    assert not layer.bias.requires_grad
    x = torch.randn(2, 6).double()
    torch.testing.assert_close(layer(x), dense(x))
    layer.bias.add_(1.0)
    assert all(torch.equal(dense.state_dict()[name], value) for name, value in before.items())
    assert weight_matrices(nn.Conv2d(4, 6, 3, groups=2))["weight"].shape == (6, 18)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.ReLU(), "layer must be one of Linear, Conv1d, .*; got ReLU; leave it out"),
        (nn.ConvTranspose2d(3, 4, 2), "got ConvTranspose2d"),
        (nn.Bilinear(3, 4, 2), "got Bilinear"),
        (nn.Embedding(3, 4, max_norm=1.0), "no max_norm; got 1.0"),
        (nn.Embedding(3, 4, sparse=True), "sparse=False"),
        (nn.LSTM(3, 4, proj_size=2), "no proj_size; got 2"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), "must be its own parameter|got Parametrized"),
    ],
)
def test_layers_that_cannot_be_folded(layer, message) -> None:
    with pytest.raises(InputError, match=message):
        fold_layer(layer, lambda _, m: HashedWeight(*m.shape, 24))
    with pytest.raises(InputError, match="layer must be a folded one"):
        unfold_layer(layer)


def test_bad_input_is_refused() -> None:
    conv = HashedConv2d(4, 6, 3, compression_ratio=2)
    with pytest.raises(InputError, match=r"HashedConv2d: x must be \(batch, 4, \*, \*\); got \(2, 3, 5, 5\)"):
        conv(torch.zeros(2, 3, 5, 5))
    lstm = HashedLSTM(4, 6, compression_ratio=2)
    with pytest.raises(InputError, match=r"x must be \(steps, batch, 4\).*; got \(2, 3, 5\)"):
        lstm(torch.zeros(2, 3, 5))
    with pytest.raises(InputError, match="must have steps and rows"):
        lstm(torch.zeros(0, 3, 4))
    with pytest.raises(InputError, match=r"first states must be \(1, 3, 6\); got \(1, 2, 6\)"):
        lstm(torch.zeros(2, 3, 4), (torch.zeros(1, 3, 6), torch.zeros(1, 2, 6)))
    with pytest.raises(InputError, match=r"first states must be \(h, c\)"):
        lstm(torch.zeros(2, 3, 4), (torch.zeros(1, 3, 6),))
    embedding = HashedEmbedding(9, 8, num_buckets=8)
    with pytest.raises(InputError, match=r"ids must lie in \[0, 9\); got 9"):
        embedding(torch.tensor([[0, 9]]))
    with pytest.raises(InputError, match="ids must be integers"):
        embedding(torch.zeros(3))
    for wrong, message in (
        ({"kernel_size": (3, 3, 3)}, "kernel_size must be an integer or 2 of them"),
        ({"groups": 4}, "groups must divide the channels 4 and 6"),
        ({"padding": "full"}, "padding must be sizes, same or valid"),
        ({"padding": "same", "stride": 2}, "padding same needs stride 1"),
        ({"padding_mode": "mirror"}, "padding_mode must be one of"),
        ({"dilation": 0}, "dilation must be an integer, at least 1"),
    ):
        with pytest.raises(InputError, match=message):
            HashedConv2d(**{"in_channels": 4, "out_channels": 6, "kernel_size": 3, "compression_ratio": 2} | wrong)
    for kind, arguments, message in (
        (HashedEmbedding, {"padding_idx": 9}, r"padding_idx must be an integer in \[-9, 8\]"),
        (HashedEmbeddingBag, {"mode": "median"}, "mode must be one of"),
    ):
        with pytest.raises(InputError, match=message):
            kind(9, 8, num_buckets=8, **arguments)
    for wrong, message in (
        ({"num_layers": 0}, "num_layers"),
        ({"dropout": 1.5}, "dropout"),
        ({"nonlinearity": "gelu"}, "nonlinearity must be one of relu, tanh"),
    ):
        with pytest.raises(InputError, match=message):
            HashedRNN(4, 6, compression_ratio=2, **wrong)
    with pytest.raises(InputError, match="weights must be weight_ih_l0, weight_hh_l0; got weight_ih_l0"):
        folded.FoldedGRU(4, 6, weights={"weight_ih_l0": HashedWeight(18, 4, 72, identity=True)})
    with pytest.raises(InputError, match="weight must be"):
        check_shape("layer", HashedWeight(3, 4, 8), 4, 3)
