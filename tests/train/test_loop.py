"""What the loop does with a model that learns: records, early stopping, limits, errors."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from train.small_model import (
    CONFIG,
    Data,
    Scripted,
    SmallModel,
    Watcher,
    assert_same_weights,
    planted,
    trained,
    weights,
)

from hashfold import metrics
from hashfold.errors import InputError, NonFiniteLossError
from hashfold.kernels import native
from hashfold.train import Checkpoints, fit


@pytest.fixture(scope="module")
def data():
    return planted(rows=100)


@pytest.fixture(scope="module")
def valid():
    return planted(rows=50, seed=1)


def scripted(data, script, **settings):
    valid = planted(rows=16, seed=2)  # one batch: one top_k call a validation
    model = Scripted(data, script)
    model.y = valid.y
    return model, fit(model, data, valid, replace(CONFIG, epochs=len(script), **settings))


def test_it_learns_and_says_so(data, valid):
    model, result = trained(data, valid, replace(CONFIG, epochs=15))
    assert result.stopped == "finished"
    assert (result.steps, result.epochs) == (15 * 7, 15)
    assert [record["epoch"] for record in result.history] == list(range(1, 16))
    assert result.history[-1]["loss"] < 0.7 * result.history[0]["loss"]
    ids, _ = model.top_k(valid.x, 5)
    assert result.metrics == metrics.evaluate(ids, valid.y)
    assert result.metrics["P@1"] > 0.8
    assert result.examples_per_second > 0
    assert result.peak_memory_bytes > 1e6
    assert result.history[0]["active_fraction"] == pytest.approx(0.5)
    assert 0 < result.train_seconds <= result.seconds


def test_same_seed_same_bits(data):
    first, again = trained(data)[0], trained(data)[0]
    assert_same_weights(weights(first), weights(again))
    other = trained(data, config=replace(CONFIG, seed=6))[0]
    assert not torch.equal(first.out.weight, other.out.weight)
    assert len(set(first.seeds)) == 21


def test_rates_follow_the_schedule(data):
    model, _ = trained(data, config=replace(CONFIG, warmup_fraction=0.1))
    assert model.rates[0] == 0.5
    assert model.rates[1] == 1.0
    assert model.rates[2:] == sorted(model.rates[2:], reverse=True)
    assert model.rates[-1] < 0.01


def test_loss_of_a_record_is_the_mean_over_rows(data):
    watcher = Watcher()
    trained(data, config=replace(CONFIG, epochs=1), callbacks=[watcher])
    rows = [step.rows for step in watcher.steps]
    assert rows == [16] * 6 + [4]
    mean = np.average([step.loss for step in watcher.steps], weights=rows)
    assert dict(watcher.told)["record"]["loss"] == pytest.approx(mean)


def test_without_validation_there_are_records_but_no_metrics(data):
    result = trained(data)[1]
    assert len(result.history) == 3
    assert result.metrics == {}
    assert (result.best_step, result.best_epoch) == (21, 3)


def test_validation_every_so_many_epochs_and_at_the_end(data, valid):
    history = trained(data, valid, replace(CONFIG, epochs=5, validate_every_epochs=2))[1].history
    assert [("P@1" in record) for record in history] == [False, True, False, True, True]


def test_validation_every_so_many_steps(data, valid):
    history = trained(data, valid, replace(CONFIG, validate_every_steps=10))[1].history
    assert [(r["step"], "P@1" in r) for r in history] == [
        (7, False),
        (10, True),
        (14, False),
        (20, True),
        (21, True),
    ]


def test_early_stopping_goes_back_to_the_best_weights(data):
    model, result = scripted(data, [0.25, 0.75, 0.5, 0.75, 1.0, 1.0], patience=2)
    assert result.stopped == "early_stopping"
    assert (result.steps, result.best_step, result.best_epoch) == (4 * 7, 2 * 7, 2)
    assert model.count.item() == 2 * 7
    assert result.metrics["P@1"] == 0.75
    assert result.epochs == 4


def test_best_at_the_very_end_is_kept(data):
    model, result = scripted(data, [0.25, 0.5, 0.75], patience=1)
    assert result.stopped == "finished"
    assert model.count.item() == 21
    assert result.best_step == 21


def test_patience_starts_again_at_every_best(data):
    result = scripted(data, [0.25, 0, 0.5, 0, 0.75, 0, 0], patience=2)[1]
    assert result.steps == 7 * 7
    assert result.best_epoch == 5


def test_without_patience_the_last_weights_stay(data):
    model, result = scripted(data, [0.75, 0.25])
    assert model.count.item() == 14
    assert result.metrics["P@1"] == 0.25
    assert result.best_epoch == 1


def test_weights_are_copied_only_when_they_leave_a_best(data, monkeypatch):
    from hashfold.train.best import BestWeights

    kept = []
    monkeypatch.setattr(BestWeights, "keep", lambda self, model: kept.append(model.count.item()))
    monkeypatch.setattr(BestWeights, "restore", lambda self, model: None)
    scripted(data, [0.25, 0.5, 0.5, 0.75], patience=3)
    assert kept == [7, 14]


def test_time_limit(data, valid):
    result = trained(data, valid, replace(CONFIG, epochs=1000, max_seconds=0.2))[1]
    assert result.stopped == "max_seconds"
    assert 0.2 <= result.seconds < 10
    assert "P@1" in result.metrics


def test_loss_that_is_no_number(data, tmp_path):
    class Diverging(SmallModel):
        def training_step(self, x, y, seed):
            done = super().training_step(x, y, seed)
            return replace(done, loss=float("nan")) if len(self.seeds) == 9 else done

    model, watcher = Diverging(data), Watcher()
    plan = Checkpoints(tmp_path / "c", every_epochs=1)
    with pytest.raises(
        NonFiniteLossError, match=r"got nan at step 9 \(epoch 2\); lower the learning rate"
    ) as error:
        fit(model, data, None, CONFIG, callbacks=[watcher], checkpoints=plan)
    assert "is from before" in str(error.value)
    assert "\n" not in str(error.value)
    assert [step for kind, step in watcher.told if kind == "checkpoint"] == [7]
    assert watcher.closed == 1
    again = SmallModel(data)
    assert fit(again, data, None, CONFIG, checkpoints=plan, resume=True).stopped == "finished"
    assert_same_weights(weights(again), weights(trained(data)[0]))


def test_callbacks_hear_everything_in_order(data, valid):
    watcher = Watcher()
    _, result = trained(data, valid, callbacks=[watcher])
    assert [kind for kind, _ in watcher.told] == ["start", "record", "record", "record", "end"]
    assert [step.step for step in watcher.steps] == list(range(1, 22))
    start = watcher.told[0][1]
    assert (start.rows, start.total_steps, start.steps_per_epoch, start.start_step) == (100, 21, 7, 0)
    assert watcher.told[-1][1] is result
    assert watcher.closed == 1


def test_an_error_in_the_model_closes_everything(data):
    class Failing(SmallModel):
        def training_step(self, x, y, seed):
            raise ZeroDivisionError

    watcher, threads = Watcher(), threading.active_count()
    with pytest.raises(ZeroDivisionError):
        fit(Failing(data), data, callbacks=[watcher])
    assert watcher.closed == 1
    assert threading.active_count() == threads


def test_threads_are_set_for_the_run_only(data):
    seen = []

    class Asking(SmallModel):
        def training_step(self, x, y, seed):
            seen.append((torch.get_num_threads(), native.num_threads()))
            return super().training_step(x, y, seed)

    before = torch.get_num_threads(), native.num_threads()
    fit(Asking(data), data, None, replace(CONFIG, epochs=1, threads=1))
    assert set(seen) == {(1, 1)}
    assert (torch.get_num_threads(), native.num_threads()) == before


def test_few_labels_few_ranks():
    two = planted(labels=2)
    assert "P@1" in trained(two, two)[1].metrics
    assert "P@3" not in trained(two, two)[1].metrics


def test_labels_unseen_in_training_are_misses(data):
    held_out = planted()
    unseen = replace(held_out.y, ids=held_out.y.ids + 1, num_ids=7)
    assert trained(data, Data(held_out.x, unseen))[1].metrics["P@1"] < trained(data, held_out)[1].metrics["P@1"]


@pytest.mark.parametrize(
    ("valid", "settings", "match"),
    [
        (None, {"patience": 2}, "needs held-out rows"),
        (planted(features=21), {}, "20 features; got 21"),
        (Data(planted().x.take(np.arange(0)), planted().y.take(np.arange(0))), {}, "at least one"),
        (planted(), {"metric": "accuracy"}, "metric"),
        (planted(), {"metric": "P@7"}, "metric"),
    ],
)
def test_refuses_what_does_not_fit(data, valid, settings, match):
    with pytest.raises(InputError, match=match):
        trained(data, valid, replace(CONFIG, **settings))
