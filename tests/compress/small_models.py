"""Small models with folded weights, and the dense ones they came from."""

import os

import torch
from torch import nn

from hashfold.nn.folded import FoldedLinear, HashedWeight, fold_layer


class TiedLanguageModel(nn.Module):
    """An LSTM between an embedding and an output layer of the same weight; a buffer that no file holds."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, width)
        self.lstm = nn.LSTM(width, width, 2, batch_first=True)
        self.norm = nn.BatchNorm1d(width)
        self.output = nn.Linear(width, 50)
        self.output.weight = self.embedding.weight
        self.register_buffer("scale", torch.arange(1.0, 51.0), persistent=False)

    def forward(self, ids):
        hidden = self.lstm(self.embedding(ids))[0].flatten(0, 1)
        return self.output(self.norm(hidden)) * self.scale


def hashed(_: str, matrix: torch.Tensor) -> HashedWeight:
    return HashedWeight(*matrix.shape, num_buckets=max(8, matrix.numel() // 4), seed=3).fit(matrix)


def folded_language_model() -> TiedLanguageModel:
    torch.manual_seed(0)
    model = TiedLanguageModel()
    for layer in ("embedding", "lstm", "output"):
        setattr(model, layer, fold_layer(getattr(model, layer), hashed))
    model.output.weight = model.embedding.weight
    model.norm.running_mean.normal_()
    return model.eval()


def dense_net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 30), nn.ReLU(), nn.Linear(30, 10)
    )


def folded_net() -> nn.Sequential:
    """Two hashed layers that share their buckets, and a dense one."""
    torch.manual_seed(1)
    model = dense_net()
    model[0] = fold_layer(model[0], hashed)
    model[3] = fold_layer(model[3], hashed)
    shared = model[3].weight.buckets
    model[5] = FoldedLinear(30, 10, weight=HashedWeight(10, 30, buckets=shared, seed=4))
    return model


def stored(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


def assert_same(one: nn.Module, other: nn.Module) -> None:
    a, b = stored(one), stored(other)
    assert list(a) == list(b)
    for name in a:
        assert a[name].dtype == b[name].dtype
        assert torch.equal(a[name], b[name]), name
        assert not b[name].is_meta


class Hoarder(nn.Module):
    """Remembers its weight as it was before it was folded: 16 MB in no file."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = fold_layer(nn.Linear(8, 8), hashed)

    def forward(self, x):
        self.hoard = torch.ones(4_000_000)
        return self.layer(x)


class Failing(nn.Linear):
    """Works where it was made, and nowhere else."""

    def __init__(self) -> None:
        super().__init__(4, 3)
        self.home = os.getpid()

    def forward(self, x):
        if os.getpid() != self.home:
            raise RuntimeError("far from home")
        return super().forward(x)
