"""A run stopped anywhere and resumed ends in the same bits; a checkpoint is whole, and refused by other runs."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from train.small_model import (
    CONFIG,
    ModelWithTables,
    Scripted,
    SmallModel,
    StopAt,
    Watcher,
    assert_same_weights,
    planted,
    trained,
    weights,
    without_clocks,
)

from hashfold.errors import FileFormatError, InputError, Interrupted, ModelFolderError
from hashfold.io import CHECKPOINT, open_folder
from hashfold.train import Callback, Checkpoints, fit, remove_checkpoint
from hashfold.train.pack import pack, unpack

EARLY = replace(CONFIG, epochs=4, patience=2, validate_every_steps=5)


@pytest.fixture(scope="module")
def data():
    return planted(rows=60)


@pytest.fixture(scope="module")
def valid():
    return planted(rows=30, seed=1)


def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def interrupt(data, valid, config, kind, step, folder):
    with pytest.raises(Interrupted) as error:
        trained(
            data,
            valid,
            config,
            kind,
            callbacks=[StopAt(step, ctrl_c)],
            checkpoints=Checkpoints(folder),
            resume=False,
        )
    return error.value


@pytest.mark.parametrize("kind", [SmallModel, ModelWithTables])
@pytest.mark.parametrize("step", range(1, 16))
def test_interrupted_anywhere_and_resumed_is_the_same_run(data, valid, tmp_path, kind, step):
    config = replace(EARLY, epochs=4)
    whole, result = trained(data, valid, config, kind)
    interrupt(data, valid, config, kind, step, tmp_path / "c")
    resumed = kind(data, seed=99)
    again = fit(resumed, data, valid, config, checkpoints=Checkpoints(tmp_path / "c"), resume=True)
    assert_same_weights(weights(whole), weights(resumed))
    assert without_clocks(again.history) == without_clocks(result.history)
    assert again.metrics == result.metrics
    assert (again.stopped, again.best_step, again.steps) == (result.stopped, result.best_step, result.steps)
    assert whole.seeds[step:] == resumed.seeds


def test_without_its_own_state_a_resumed_model_would_differ(data, tmp_path):
    """The test above can fail: leave one part of the checkpoint out."""
    whole, _ = trained(data, None, CONFIG, ModelWithTables)
    interrupt(data, None, CONFIG, ModelWithTables, 7, tmp_path / "c")

    class Forgetful(ModelWithTables):
        def load_resume_state(self, state):
            self.steps = state["steps"]

    resumed = Forgetful(data)
    fit(resumed, data, None, CONFIG, checkpoints=Checkpoints(tmp_path / "c"), resume=True)
    assert not torch.equal(whole.out.weight, resumed.out.weight)


def test_interrupted_again_and_again(data, valid, tmp_path):
    whole, result = trained(data, valid, EARLY)
    plan, resume = Checkpoints(tmp_path / "c"), False
    for step in (3, 5, 6, 11):
        model = SmallModel(data, seed=step if resume else 0)
        with pytest.raises(Interrupted):
            fit(model, data, valid, EARLY, callbacks=[StopAt(step, ctrl_c)], checkpoints=plan, resume=resume)
        resume = True
    model = SmallModel(data)
    again = fit(model, data, valid, EARLY, checkpoints=plan, resume=True)
    assert_same_weights(weights(whole), weights(model))
    assert without_clocks(again.history) == without_clocks(result.history)


def test_the_best_weights_outlive_the_interruption(data, tmp_path):
    """Best after epoch 2, interrupted in epoch 3, worse ever after: epoch 2's weights come back."""
    valid, plan = planted(rows=16, seed=2), Checkpoints(tmp_path / "c")
    config = replace(CONFIG, epochs=8, patience=3)
    first = Scripted(data, [0.25, 0.75])
    first.y = valid.y
    with pytest.raises(Interrupted):
        fit(first, data, valid, config, callbacks=[StopAt(10, ctrl_c)], checkpoints=plan)
    resumed = Scripted(data, [0.5, 0.5, 0.5])
    resumed.y = valid.y
    result = fit(resumed, data, valid, config, checkpoints=plan, resume=True)
    assert (result.stopped, result.best_step, result.steps) == ("early_stopping", 8, 20)
    assert resumed.count.item() == 8


def test_interrupted_while_validating(data, valid, tmp_path):
    class During(Callback):
        def on_validation(self, done, rows):
            if done < rows:
                ctrl_c()

    with pytest.raises(Interrupted, match="after step 5 of 16"):
        trained(data, valid, EARLY, callbacks=[During()], checkpoints=Checkpoints(tmp_path / "c"))
    model = SmallModel(data)
    again = fit(model, data, valid, EARLY, checkpoints=Checkpoints(tmp_path / "c"), resume=True)
    whole, result = trained(data, valid, EARLY)
    assert_same_weights(weights(whole), weights(model))
    assert without_clocks(again.history) == without_clocks(result.history)


def test_interrupted_during_the_last_validation(data, valid, tmp_path):
    class During(Callback):
        def on_validation(self, done, rows):
            ctrl_c()

    config = replace(CONFIG, epochs=1)
    with pytest.raises(Interrupted, match="after step 4 of 4"):
        trained(data, valid, config, callbacks=[During()], checkpoints=Checkpoints(tmp_path / "c"))
    again = fit(SmallModel(data), data, valid, config, checkpoints=Checkpoints(tmp_path / "c"), resume=True)
    assert again.stopped == "finished"
    assert again.metrics == trained(data, valid, config)[1].metrics


def test_the_message_says_how_to_go_on(data, tmp_path):
    stop = interrupt(data, None, CONFIG, SmallModel, 5, tmp_path / "c")
    assert str(stop) == (
        f"train: stopped by SIGINT after step 5 of 12; the run is saved in {tmp_path / 'c'}; "
        "go on with the same command and --resume (in Python: resume=True)."
    )
    assert (stop.checkpoint, stop.signal_number) == (tmp_path / "c", signal.SIGINT)


def test_sigterm_too(data, tmp_path):
    def terminate():
        os.kill(os.getpid(), signal.SIGTERM)

    plan = Checkpoints(tmp_path / "c")
    with pytest.raises(Interrupted, match="SIGTERM"):
        trained(data, callbacks=[StopAt(2, terminate)], checkpoints=plan)


def test_second_ctrl_c_aborts_at_once(data, tmp_path):
    def twice():
        ctrl_c()
        ctrl_c()
        time.sleep(5)  # interrupted: the second one does not wait for the step

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        trained(data, callbacks=[StopAt(2, twice)], checkpoints=Checkpoints(tmp_path / "c"))
    assert time.monotonic() - began < 4
    assert not (tmp_path / "c").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_checkpoints_ctrl_c_is_pythons(data):
    with pytest.raises(KeyboardInterrupt):
        trained(data, callbacks=[StopAt(2, ctrl_c)])


def test_handlers_are_given_back(data, tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    trained(data, checkpoints=Checkpoints(tmp_path / "c"))
    interrupt(data, None, CONFIG, SmallModel, 2, tmp_path / "c")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_an_ignored_signal_stays_ignored(data, tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        result = trained(data, callbacks=[StopAt(2, ctrl_c)], checkpoints=Checkpoints(tmp_path / "c"))[1]
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.stopped == "finished"


def test_off_the_main_thread(data, tmp_path):
    done = []
    thread = threading.Thread(
        target=lambda: done.append(trained(data, checkpoints=Checkpoints(tmp_path / "c"))[1].stopped)
    )
    thread.start()
    thread.join()
    assert done == ["finished"]


def test_a_killed_process_resumes_from_its_last_checkpoint(data, tmp_path):
    script = (
        "import os, signal\n"
        "from train.small_model import *\n"
        "from hashfold.train import Checkpoints\n"
        "kill = StopAt(7, lambda: os.kill(os.getpid(), signal.SIGKILL))\n"
        f"trained(planted(rows=60), callbacks=[kill], checkpoints=Checkpoints({str(tmp_path / 'c')!r}, 0.0))\n"
    )
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": path}, check=False)
    assert done.returncode == -signal.SIGKILL
    model = SmallModel(data)
    watcher = Watcher()
    fit(model, data, None, CONFIG, callbacks=[watcher], checkpoints=Checkpoints(tmp_path / "c"), resume=True)
    assert watcher.told[0][1].start_step == 6
    assert_same_weights(weights(model), weights(trained(data)[0]))


def test_written_by_time_and_by_epoch(data, tmp_path):
    def steps(**plan):
        watcher = Watcher()
        trained(data, callbacks=[watcher], checkpoints=Checkpoints(tmp_path / "c", **plan))
        return [step for kind, step in watcher.told if kind == "checkpoint"]

    assert steps(every_seconds=0.0) == list(range(1, 12))
    assert steps(every_seconds=None, every_epochs=1) == [4, 8]
    assert steps(every_seconds=None, every_epochs=2) == [8]
    assert steps(every_seconds=None) == []


def test_contents_are_tensors_and_json(data, valid, tmp_path):
    interrupt(data, valid, EARLY, ModelWithTables, 7, tmp_path / "c")
    names = {p.name for p in (tmp_path / "c").iterdir()}
    assert names == {"checkpoint.json", "model.safetensors", "training.safetensors", "best.safetensors"}
    training = open_folder(tmp_path / "c", CHECKPOINT).tensors("training.safetensors")
    assert "optimizer.0.state.0.exp_avg" in training
    assert "model.tables.0" in training


class TestRefuses:
    @pytest.fixture
    def plan(self, data, tmp_path):
        interrupt(data, None, CONFIG, SmallModel, 5, tmp_path / "c")
        return Checkpoints(tmp_path / "c")

    def refused(self, plan, data, match, config=CONFIG, model=None, kind=InputError):
        with pytest.raises(kind, match=match) as error:
            fit(model or SmallModel(data), data, None, config, checkpoints=plan, resume=True)
        assert "\n" not in str(error.value)

    def test_other_settings(self, plan, data):
        self.refused(
            plan, data, "setting batch_size must be 16 as in the checkpoint; got 8", replace(CONFIG, batch_size=8)
        )
        self.refused(plan, data, "setting epochs must be 3", replace(CONFIG, epochs=4))

    def test_but_not_those_that_change_no_step(self, plan, data):
        config = replace(CONFIG, max_seconds=1000, prefetch=1, threads=None)
        assert fit(SmallModel(data), data, None, config, checkpoints=plan, resume=True).stopped == "finished"

    def test_other_data(self, plan, data):
        self.refused(plan, planted(rows=61), "data num_rows must be 60")
        self.refused(plan, planted(rows=60, seed=8), "data features_crc32")

    def test_another_network(self, plan, data):
        class Wider(SmallModel):
            def __init__(self, data):
                super().__init__(data, hidden=9)

        self.refused(plan, data, r"bag.weight is \(20, 8\); got \(20, 9\)", model=Wider(data))

    def test_another_optimizer(self, plan, data):
        model = SmallModel(data)
        model.optimizer = torch.optim.SGD([model.out.weight], lr=0.1)
        self.refused(plan, data, "optimizers must be those of the checkpoint", model=model)
        model.optimizers = lambda: []
        self.refused(plan, data, "must have 1 optimizers", model=model)

    def test_none_there(self, data, tmp_path):
        self.refused(Checkpoints(tmp_path / "none"), data, "no such training checkpoint", kind=ModelFolderError)
        self.refused(None, data, "checkpoint's folder is needed")

    @pytest.mark.parametrize("name", ["checkpoint.json", "model.safetensors", "training.safetensors"])
    def test_damaged(self, plan, data, name):
        path, rng = Path(plan.folder) / name, np.random.default_rng(0)
        whole = path.read_bytes()
        for at in rng.integers(0, len(whole), 10):
            path.write_bytes(whole[:at])
            self.refused(plan, data, name, kind=ModelFolderError)
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
            self.refused(plan, data, name, kind=ModelFolderError)

    def test_a_folder_of_something_else(self, data, tmp_path):
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "thesis.txt").write_text("years")
        with pytest.raises(FileFormatError, match="left alone"):
            trained(data, checkpoints=Checkpoints(tmp_path / "home", 0.0))
        with pytest.raises(ModelFolderError):
            remove_checkpoint(tmp_path / "home")
        assert (tmp_path / "home" / "thesis.txt").exists()


def test_a_full_disk_leaves_the_last_checkpoint(data, tmp_path, monkeypatch):
    plan = Checkpoints(tmp_path / "c")
    interrupt(data, None, CONFIG, SmallModel, 5, tmp_path / "c")

    def refuse(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(FileFormatError, match="No space left"):
        fit(SmallModel(data), data, None, CONFIG, checkpoints=replace(plan, every_seconds=0.0), resume=True)
    monkeypatch.undo()
    model = SmallModel(data)
    fit(model, data, None, CONFIG, checkpoints=plan, resume=True)
    assert_same_weights(weights(model), weights(trained(data)[0]))
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_removed_when_no_longer_needed(data, tmp_path):
    interrupt(data, None, CONFIG, SmallModel, 5, tmp_path / "c")
    remove_checkpoint(tmp_path / "c")
    assert not list(tmp_path.iterdir())
    remove_checkpoint(tmp_path / "c")  # a short run never wrote one


def test_packed_state_comes_back_with_its_types(tmp_path):
    state = {
        "groups": [{"betas": (0.9, 0.999), "params": [0, 1], "none": None, "on": True}],
        0: {"step": torch.tensor(3.0), "tensor": np.arange(3)},
        "a.b": torch.ones(2),
        "a": {"b": torch.zeros(2)},
        "empty": {},
        "bits": torch.tensor([[1.5, -0.0, 3e38]], dtype=torch.bfloat16),
    }
    tensors = {}
    again = unpack(pack(state, "", tensors), {name: np.asarray(value) for name, value in tensors.items()})
    assert len(tensors) == 5
    assert again["groups"] == state["groups"]
    assert isinstance(again["groups"][0]["betas"], tuple)
    assert again[0]["step"].shape == ()
    assert isinstance(again[0]["tensor"], np.ndarray)
    assert torch.equal(again["a.b"], torch.ones(2))
    assert torch.equal(again["a"]["b"], torch.zeros(2))
    assert again["empty"] == {}
    assert again["bits"].dtype == torch.bfloat16
    assert torch.equal(again["bits"], state["bits"])


@pytest.mark.parametrize("bad", [{"x": object()}, {("a",): 1}, {"x": {1, 2}}])
def test_what_would_need_pickle_is_refused(bad):
    with pytest.raises(InputError, match="checkpoint"):
        pack(OrderedDict(bad), "state", {})


def test_no_temporary_files_stay(data, tmp_path):
    trained(data, checkpoints=Checkpoints(tmp_path / "c", 0.0))
    assert [p.name for p in tmp_path.iterdir()] == ["c"]
    shutil.rmtree(tmp_path / "c")
