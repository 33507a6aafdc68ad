"""What compressing costs in accuracy, on the handwritten digits that come with scikit-learn."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from hashfold.compress import (
    DKM,
    CodebookConfig,
    HashConfig,
    PruneConfig,
    Schedule,
    StraightThrough,
    compress,
    convert,
    prepare,
)

EPOCHS = 8


def split() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Rows to train on, and 597 to test."""
    x, y = load_digits(return_X_y=True)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    values, labels = torch.tensor(x / 16, dtype=torch.float32)[order], torch.tensor(y)[order]
    return (values[:1200], labels[:1200]), (values[1200:], labels[1200:])


def train(model: nn.Module, epochs: int, rate: float) -> nn.Module:
    torch.manual_seed(0)
    (x, y), _ = split()
    schedule = Schedule(model)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], rate)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(60):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def accuracy(model: nn.Module) -> float:
    """In percent."""
    _, (x, y) = split()
    with torch.no_grad():
        return 100 * float((model(x).argmax(1) == y).float().mean())


@pytest.fixture(scope="module")
def dense() -> nn.Module:
    torch.manual_seed(0)
    return train(nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)), 20, 5e-3)


def test_four_bits_cost_little(dense: nn.Module) -> None:
    assert accuracy(dense) > 94
    assert accuracy(compress(dense, CodebookConfig(4))) > accuracy(dense) - 1
    assert accuracy(compress(dense, CodebookConfig(3, group_rows=8))) > accuracy(dense) - 2
    assert accuracy(compress(dense, CodebookConfig(8, dim=2))) > accuracy(dense) - 1  # 4 bits a weight, too
    assert accuracy(compress(dense, CodebookConfig(4, prune=PruneConfig(0.2)))) > accuracy(dense) - 4


@pytest.mark.parametrize("tuning", [StraightThrough(), StraightThrough(1), DKM()], ids=repr)
def test_two_bits_are_better_tuned(dense: nn.Module, tuning: StraightThrough | DKM) -> None:
    config = CodebookConfig(2, tuning=tuning)
    prepared = train(prepare(dense, config), EPOCHS, 1e-3)
    made = convert(prepared)
    assert accuracy(made) == accuracy(prepared)
    assert accuracy(made) > accuracy(compress(dense, config)) + 3
    assert accuracy(made) > accuracy(dense) - 2.5


def test_pruned_gradually_four_fifths_are_not_missed(dense: nn.Module) -> None:
    config = PruneConfig(0.8, "global", steps=(0, 100), every=20)
    made = convert(train(prepare(dense, config), EPOCHS, 3e-3))
    zeros = sum(int((layer.weight == 0).sum()) for layer in (made[0], made[2]))
    assert zeros == int(0.8 * (64 * 32 + 32 * 10))
    assert accuracy(made) > accuracy(compress(dense, PruneConfig(0.8, "global"))) + 3
    assert accuracy(made) > accuracy(dense) - 3


def test_hashed_it_is_good_once_it_is_trained(dense: nn.Module) -> None:
    """Folded after training, a bucket is the mean of weights that have nothing in common."""
    folded = compress(dense, HashConfig(4, tile=1))
    before = accuracy(folded)
    assert accuracy(train(folded, EPOCHS, 3e-3)) > max(before, 90)
