import math

import pytest

from hashfold.errors import InputError
from hashfold.train import Checkpoints, TrainConfig, lr_factor, step_seed


def rates(total, **settings):
    return [lr_factor(TrainConfig(**settings), step, total) for step in range(total)]


def test_warmup_then_cosine_by_hand():
    got = rates(10, warmup_fraction=0.2)
    assert got[:3] == [0.5, 1.0, 1.0]
    assert got[6] == pytest.approx(0.5)
    assert got[9] == pytest.approx((1 + math.cos(math.pi * 7 / 8)) / 2)
    assert lr_factor(TrainConfig(warmup_fraction=0.2), 10, 10) == pytest.approx(0)


def test_constant_after_warmup():
    assert rates(4, schedule="constant", warmup_fraction=0.5) == [0.5, 1.0, 1.0, 1.0]
    assert rates(3, schedule="constant", warmup_fraction=0) == [1.0] * 3


@pytest.mark.parametrize("total", [1, 2, 7, 1000])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_always_above_zero_and_at_most_one(total, warmup, schedule):
    assert all(0 < rate <= 1 for rate in rates(total, warmup_fraction=warmup, schedule=schedule))


def test_step_seeds_differ_and_repeat():
    seeds = {step_seed(seed, step) for seed in range(10) for step in range(100)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert step_seed(3, 4) == step_seed(3, 4)


@pytest.mark.parametrize(
    "bad",
    [
        {"epochs": 0},
        {"epochs": 1.5},
        {"batch_size": 0},
        {"schedule": "linear"},
        {"warmup_fraction": 1.1},
        {"warmup_fraction": float("nan")},
        {"patience": 0},
        {"validate_every_steps": -1},
        {"max_seconds": 0},
        {"seed": -1},
        {"threads": 0},
        {"prefetch": 0},
        {"epoch": 3},
    ],
)
def test_settings_are_checked(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        TrainConfig.from_dict(bad)


def test_config_round_trip():
    config = TrainConfig(epochs=2, patience=3, max_seconds=4.5)
    assert TrainConfig.from_dict(config.to_dict()) == config


def test_checkpoint_settings_are_checked():
    with pytest.raises(InputError, match="every_epochs"):
        Checkpoints("x", every_epochs=0)
    with pytest.raises(InputError, match="every_seconds"):
        Checkpoints("x", every_seconds=-1)
