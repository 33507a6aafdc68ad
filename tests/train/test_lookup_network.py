"""The loop with the real network: it learns, and an interrupted run resumes in the same bits."""

import os
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest
from train.small_model import CONFIG, StopAt, assert_same_weights, planted, weights, without_clocks

from hashfold.errors import InputError, Interrupted
from hashfold.model import LookupNetwork, NetworkConfig
from hashfold.train import Checkpoints, fit

EARLY = replace(CONFIG, epochs=4, patience=2)
NETWORK = NetworkConfig(num_features=40, num_labels=12, hidden=8, lr=0.02)
KINDS = {
    "all labels": {"negatives": 0},
    "uniform negatives": {"negatives": 4},
    "row-wise Adam": {"negatives": 4, "optimizer": "rowwise_adam"},
    "compact Adam": {"negatives": 4, "optimizer": "compact_adam"},
    "row-wise Adagrad": {"negatives": 4, "optimizer": "rowwise_adagrad", "lr": 0.2},
    "sigmoid": {"negatives": 4, "loss": "sigmoid"},
    "held to a norm": {"negatives": 4, "unit_hidden": True, "label_norm": 4.0, "label_bias": False},
    "exact index": {"negatives": 3, "hard_negatives": 2},
    "lsh": {"negatives": 3, "hard_negatives": 2, "index": "lsh"},
    "clustered": {"negatives": 3, "hard_negatives": 2, "index": "clustered", "index_options": {"num_clusters": 4}},
    "lsh by steps": {"negatives": 3, "hard_negatives": 2, "index": "lsh", "rebuild": "fixed:5"},
    "phases": {"phases": [[0.3, 0, 0], [0.6, 2, 0], [1.0, 3, 4]], "index": "tree", "reinsert": "fixed:2"},
    "lsh by drift": {"negatives": 3, "hard_negatives": 2, "index": "lsh", "rebuild": "drift:0.5:2"},
}


@pytest.fixture(scope="module")
def data():
    return planted(rows=120, features=40, labels=12)


@pytest.fixture(scope="module")
def valid():
    return planted(rows=40, features=40, labels=12, seed=1)


def test_it_learns(data, valid):
    config = replace(CONFIG, epochs=20)
    result = fit(LookupNetwork(replace(NETWORK, negatives=4)), data, valid, config)
    assert result.metrics["P@1"] > 0.6
    assert 0 < result.history[-1]["active_fraction"] <= 1


def test_phases_follow_the_share_of_the_run(data, valid, monkeypatch):
    """15 steps: 5 with the labels of the batch alone, 4 with labels looked up, 6 with uniform ones as well."""
    network = LookupNetwork(replace(NETWORK, **KINDS["phases"]))
    asked, drawn, select = [], [], network.select

    def noted(h, y, seed):
        active = select(h, y, seed)
        asked.append(active.stats.candidates)
        drawn.append(len(active.ids) - active.num_certain)
        return active

    monkeypatch.setattr(network, "select", noted)
    fit(network, data, valid, replace(CONFIG, epochs=3, batch_size=24))
    assert asked == [0] * 5 + [2 * 24] * 4 + [3 * 24] * 6
    assert drawn[:9] == [0] * 9
    assert max(drawn[9:]) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_preparing_ahead_changes_no_bit(data, valid, kind, monkeypatch):
    config = replace(NETWORK, **KINDS[kind])
    ahead, threads = LookupNetwork(config), []
    prepare = ahead.prepare

    def noted(*batch):
        threads.append(threading.current_thread())
        return prepare(*batch)

    monkeypatch.setattr(ahead, "prepare", noted)
    fit(ahead, data, valid, CONFIG)
    assert len(threads) == CONFIG.epochs * -(-len(data.x) // CONFIG.batch_size)
    assert all(thread is not threading.main_thread() for thread in threads)
    at_once = LookupNetwork(config)
    monkeypatch.setattr("hashfold.train.loop.Preparing", int)  # which no model is
    fit(at_once, data, valid, CONFIG)
    assert_same_weights(weights(ahead), weights(at_once))


@pytest.mark.parametrize("step", [3, 8, 13])
@pytest.mark.parametrize("kind", KINDS)
def test_interrupted_and_resumed_is_the_same_run(data, valid, tmp_path, kind, step):
    config, plan = replace(NETWORK, **KINDS[kind]), Checkpoints(tmp_path / "c")
    whole = LookupNetwork(config)
    result = fit(whole, data, valid, EARLY)
    stop = StopAt(step, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted):
        fit(LookupNetwork(config), data, valid, EARLY, callbacks=[stop], checkpoints=plan)
    resumed = LookupNetwork(config)
    again = fit(resumed, data, valid, EARLY, checkpoints=plan, resume=True)
    assert_same_weights(weights(whole), weights(resumed))
    assert without_clocks(again.history) == without_clocks(result.history)


@pytest.mark.parametrize("kind", ["lsh by steps", "lsh by drift"])
def test_the_runs_above_rebuild_before_and_after_the_interruption(data, valid, kind, monkeypatch):
    built, config = [], replace(NETWORK, **KINDS[kind])
    network = LookupNetwork(config)
    rebuild = network.output.rebuild
    monkeypatch.setattr(network.output, "rebuild", lambda: (built.append(network.steps), rebuild()))
    fit(network, data, valid, EARLY)
    assert built[0] == 0
    assert 0 < built[1] < 13 < built[-1]
    assert not {3, 8, 13} & set(built)


def test_a_network_of_other_settings_is_refused(data, valid):
    network = LookupNetwork(replace(NETWORK, **KINDS["lsh"]))
    network.top_k(valid.x, 3, lookup=True)
    state = network.resume_state()
    other = LookupNetwork(replace(NETWORK, **KINDS["lsh"], index_options={"seed": 1}))
    with pytest.raises(InputError, match="setting index_options must be"):
        other.load_resume_state(state)
    for name, wrong in (("index", {}), ("marked_rows", state["marked_rows"][:, 1:])):
        with pytest.raises(InputError):
            network.load_resume_state(state | {name: wrong})


def test_a_checkpoint_of_another_optimizer_is_refused(data, valid, tmp_path):
    plan, stop = Checkpoints(tmp_path / "c"), StopAt(3, lambda: os.kill(os.getpid(), signal.SIGINT))
    compact = replace(NETWORK, optimizer="compact_adam")
    with pytest.raises(Interrupted):
        fit(LookupNetwork(compact), data, valid, EARLY, callbacks=[stop], checkpoints=plan)
    with pytest.raises(InputError, match="setting optimizer must be 'compact_adam'; got 'adam'"):
        fit(LookupNetwork(NETWORK), data, valid, EARLY, checkpoints=plan, resume=True)


def test_tables_not_built_yet_stay_so(valid):
    """The first lookup builds them, from the weights as they are then."""
    config = replace(NETWORK, **KINDS["lsh"])
    network, other = LookupNetwork(config), LookupNetwork(config)
    network.top_k(valid.x, 3, lookup=True)
    network.load_resume_state(other.resume_state())
    assert network.resume_state()["index"] is None


def test_tables_follow_loaded_weights(data, valid):
    """What early stopping rests on: after load_state_dict a lookup is that of the loaded weights."""
    config = replace(NETWORK, **KINDS["clustered"], seed=3)
    network, other = LookupNetwork(config), LookupNetwork(replace(config, seed=4))
    network.top_k(valid.x, 3, lookup=True)
    network.load_state_dict(other.state_dict())
    for left, right in zip(
        network.top_k(valid.x, 3, lookup=True), other.top_k(valid.x, 3, lookup=True), strict=True
    ):
        np.testing.assert_array_equal(left, right)
