"""Importance is what it says, and codebooks that heed it lose less."""

from __future__ import annotations

import copy

import pytest
import torch
from compress.small_models import assert_same
from torch import Tensor, nn

from hashfold.compress import CodebookConfig, compress
from hashfold.compress.importance import FLOOR, importances, mean_squares
from hashfold.compress.plan import make_plan
from hashfold.errors import InputError

FISHER, ACTIVATION = CodebookConfig(2, weighting="fisher"), CodebookConfig(2, weighting="activation")


def cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def data(count: int = 6, width: int = 8) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    scale = torch.where(torch.arange(width) < 2, 5.0, 0.5)
    return [(torch.randn(10, width) * scale, torch.randint(4, (10,))) for _ in range(count)]


def net(width: int = 8) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(width, 32), nn.BatchNorm1d(32), nn.Dropout(0.5), nn.Tanh(), nn.Linear(32, 4))


def measured(model: nn.Module, config: CodebookConfig, batches, loss=None) -> dict[str, Tensor]:
    return importances("compress", model, make_plan("compress", model, config), batches, loss)


def test_fisher_is_the_mean_squared_gradient_in_eval_mode() -> None:
    model, batches = net(), data()
    before = copy.deepcopy(model)
    found = measured(model, FISHER, batches, cross_entropy)
    assert_same(model, before)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    squares = torch.zeros(32, 8)
    model.eval()
    for batch in batches:
        squares += torch.autograd.grad(cross_entropy(model, batch), model[0].weight)[0] ** 2
    mean = squares / len(batches)
    torch.testing.assert_close(found["0.weight"], mean + FLOOR * mean.mean())


def test_activation_is_the_mean_squared_input() -> None:
    model, batches = net(), data()
    found = measured(model, ACTIVATION, batches)["0.weight"]
    mean = torch.cat([x for x, _ in batches]).square().mean(0).expand(32, 8)
    torch.testing.assert_close(found, mean + FLOOR * mean.mean())


@pytest.mark.parametrize("groups", [1, 2])
def test_activation_of_a_convolution_is_by_channel(groups: int) -> None:
    x = torch.randn(3, 4, 5, 6)
    found = mean_squares(nn.Conv2d(4, 6, (2, 3), groups=groups), "weight", x)
    channels = x.square().mean((0, 2, 3)).view(groups, 4 // groups)
    for out in range(6):
        expected = channels[out // (6 // groups)].repeat_interleave(6)
        torch.testing.assert_close(found.expand(6, -1)[out], expected)
    alone = mean_squares(nn.Conv1d(4, 6, 2), "weight", x[0, :, 0])
    torch.testing.assert_close(alone[0, ::2], x[0, :, 0].square().mean(1))


def test_activation_of_an_embedding_is_how_often_a_row_is_used() -> None:
    ids = torch.tensor([[0, 2, 2], [2, 4, 0]])
    found = mean_squares(nn.Embedding(5, 3), "weight", ids)
    torch.testing.assert_close(found, torch.tensor([[2.0], [0], [3], [0], [1]]) / 6)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_activation_of_a_recurrent_layer_is_that_of_the_layer_below(kind: type) -> None:
    torch.manual_seed(0)
    whole, below = kind(3, 4, 2, bidirectional=True, batch_first=True), kind(3, 4, bidirectional=True)
    for name, p in below.named_parameters():
        p.data = whole.get_parameter(name).data
    x = torch.randn(5, 6, 3)
    hidden = below(x.transpose(0, 1))[0].square().mean((0, 1))
    last = whole(x)[0].square().mean((0, 1))
    expected = {
        "weight_ih_l0": x.square().mean((0, 1)),
        "weight_ih_l1_reverse": hidden,
        "weight_hh_l0": hidden[:4],
        "weight_hh_l0_reverse": hidden[4:],
        "weight_hh_l1_reverse": last[4:],
    }
    for name, values in expected.items():
        torch.testing.assert_close(mean_squares(whole, name, x)[0], values)


def test_all_layers_of_a_language_model() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(9, 6)
            self.lstm = nn.LSTM(6, 6, 2, batch_first=True)
            self.output = nn.Linear(6, 9)
            self.output.weight = self.embedding.weight

        def forward(self, ids: Tensor) -> Tensor:
            return self.output(self.lstm(self.embedding(ids))[0])

    torch.manual_seed(0)
    batches = [torch.randint(9, (4, 7)) for _ in range(3)]
    made = compress(Model(), ACTIVATION, data=batches)
    assert made.output.weight is made.embedding.weight


@pytest.mark.parametrize("config", [FISHER, ACTIVATION], ids=lambda config: config.weighting)
def test_heeding_it_loses_less(config: CodebookConfig) -> None:
    """Two of 32 inputs are ten times as large, and have small weights: those should come nearer."""
    model, batches = net(32).eval(), data(width=32)
    with torch.no_grad():
        model[0].weight[:, :2] /= 8
    x = torch.cat([x for x, _ in batches])
    errors = []
    for chosen in (CodebookConfig(2), config):
        made = compress(model, chosen, data=batches, loss=cross_entropy)
        errors.append(float((made[0](x) - model[0](x)).detach().square().mean()))
    assert errors[1] < 0.7 * errors[0]


def test_data_that_says_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="data must hold at least one batch"):
        compress(net(), ACTIVATION, data=[])
    with pytest.raises(InputError, match=r"data must reach 0\.weight"):
        compress(net(), ACTIVATION, data=[torch.zeros(2, 8)])
    with pytest.raises(InputError, match="must be a finite scalar tensor"):
        compress(net(), FISHER, data=data(), loss=lambda model, batch: model(batch[0]))
