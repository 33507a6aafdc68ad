"""Training without a network: what callbacks are told, what checkpoints and settings come to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hashfold.data import Dataset, synthetic
from hashfold.errors import InputError
from hashfold.kernels import native
from hashfold.train import Callback, Checkpoints, ProgressBar, RunInfo, TrainResult, fit_model, progress
from hashfold.train import pipeline as module

PARTS = ("wide", "near")


@pytest.fixture(scope="module")
def examples() -> tuple[Dataset, Dataset]:
    return synthetic(600, 200, 40, features_per_row=10, seed=2)


class Diary(Callback):
    def __init__(self) -> None:
        self.told: list[object] = []

    def on_start(self, run: RunInfo) -> None:
        self.told.append(run)

    def on_step(self, report: object) -> None:
        self.told.append("step")

    def on_end(self, result: TrainResult) -> None:
        self.told.append(result)

    def close(self) -> None:
        self.told.append("closed")


def test_a_run_of_no_steps(examples) -> None:
    diary = Diary()
    model, result = fit_model(*examples, parts=PARTS, callbacks=[diary])
    start, end, closed = diary.told
    assert (start.rows, start.epochs, start.total_steps) == (len(examples[0]), 0, 0)
    assert (end.steps, end.epochs, end.stopped, closed) == (0, 0, "finished", "closed")
    assert (result.steps, result.epochs, result.history) == (0, 0, [])
    assert result.seconds == result.train_seconds == model.training["seconds"] > 0
    assert result.metrics == model.metrics
    assert result.metrics["P@1"] > 0.5
    assert (model.training["epochs"], model.training["parts"]) == (0, PARTS)


def test_callbacks_are_closed_whatever_happens(examples, monkeypatch) -> None:
    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "fit_lookups", broken)
    diary = Diary()
    with pytest.raises(KeyboardInterrupt):
        fit_model(examples[0], parts=PARTS, callbacks=[diary])
    assert diary.told[-1] == "closed"


def test_progress_has_nothing_to_count(examples, capsys) -> None:
    for shown in (progress(), ProgressBar()):
        fit_model(examples[0], parts=PARTS, callbacks=[shown])
    said = capsys.readouterr().err
    assert "no network to train" in said
    assert "finished" in said


def test_there_is_nothing_to_resume(examples, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c", every_seconds=0)
    fit_model(examples[0], parts=PARTS, checkpoints=checkpoints)
    assert not (tmp_path / "c").exists()
    with pytest.raises(InputError, match="to resume, there must be a network"):
        fit_model(examples[0], parts=PARTS, checkpoints=checkpoints, resume=True)


def test_threads_are_set_for_the_run_only(examples, monkeypatch) -> None:
    seen, before = [], (torch.get_num_threads(), native.num_threads())
    fit_lookups = module.fit_lookups

    def watched(*arguments):
        seen.append((torch.get_num_threads(), native.num_threads()))
        return fit_lookups(*arguments)

    monkeypatch.setattr(module, "fit_lookups", watched)
    fit_model(examples[0], parts=PARTS, overrides={"threads": 3})
    assert seen == [(3, 3)]
    assert (torch.get_num_threads(), native.num_threads()) == before


def test_held_out_rows_must_fit(examples) -> None:
    train, valid = examples
    wider = replace(valid, x=replace(valid.x, num_cols=201))
    with pytest.raises(InputError, match="200 features"):
        fit_model(train, wider, parts=PARTS)


def test_data_that_a_network_cannot_learn_is_looked_up(examples, monkeypatch) -> None:
    monkeypatch.setattr("hashfold.train.defaults.DENSE_LABELS", 10)
    for name in ("FEW_ROWS_A_LABEL", "SOME_ROWS"):
        monkeypatch.setattr(f"hashfold.train.defaults.{name}", 1e6)
    few = examples[0].take(range(100))
    said: list[str] = []
    assert fit_model(few, say=said.append)[0].network is None
    assert any(line.startswith("deep left out: ") for line in said)
    all_labels = {"least_rows": 1}  # with hardly a row held out, a network of some labels would be left out
    assert fit_model(few, parts=("deep", "near"), overrides=all_labels)[0].network is not None
    assert fit_model(few, without=("near",))[0].network is not None


@pytest.mark.parametrize("setting", [{"hidden": 8}, {"epochs": 3}, {"patience": 1}, {"storage": "fp16"}])
def test_settings_of_a_network_are_refused(examples, setting) -> None:
    with pytest.raises(InputError, match="there must be a network to set"):
        fit_model(examples[0], parts=PARTS, overrides=setting)
