"""What people see of a run, and where it goes."""

import io
import json
import subprocess
import sys
from dataclasses import replace

import pytest
from train.small_model import CONFIG, SmallModel, StopAt, planted, trained

from hashfold.errors import FileFormatError, Interrupted, MissingDependencyError
from hashfold.train import Checkpoints, HistoryFile, PlainLog, ProgressBar, TensorBoard, fit, progress


@pytest.fixture(scope="module")
def data():
    return planted(rows=60)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_bar_on_a_terminal_lines_elsewhere():
    assert isinstance(progress(Terminal()), ProgressBar)
    assert isinstance(progress(io.StringIO()), PlainLog)


def test_standard_error_by_default_and_nothing_on_standard_output(data, capsys):
    trained(data, data, callbacks=[progress(), ProgressBar()])
    out, err = capsys.readouterr()
    assert out == ""
    assert "P@1" in err


def test_plain_log_says_all_figures(data):
    stream = io.StringIO()
    _, result = trained(data, data, callbacks=[PlainLog(stream, every_seconds=0.0)])
    lines = stream.getvalue().splitlines()
    assert lines[0] == "60 rows, 3 epochs, 12 steps"
    steps = [line for line in lines if line.startswith("step ")]
    assert len(steps) == 12
    assert steps[0].startswith("step 1/12  epoch 1/3  loss ")
    assert steps[3].startswith("step 4/12  epoch 1/3")
    assert steps[4].startswith("step 5/12  epoch 2/3")
    for word in (f"P@1 {result.history[1]['P@1']:.4f}", "active 50.00%", "examples/s", "GiB", "left"):
        assert word in steps[-1]
    records = [line for line in lines if line.startswith("epoch ")]
    assert [line.split("  ")[0] for line in records] == ["epoch 1", "epoch 2", "epoch 3"]
    assert f"P@5 {result.metrics['P@5']:.4f}" in records[-1]


def test_plain_log_keeps_its_interval(data):
    stream = io.StringIO()
    trained(data, callbacks=[PlainLog(stream, every_seconds=3600)])
    assert len(stream.getvalue().splitlines()) == 1 + 3


def test_smoothed_loss_is_a_mean_of_the_losses_seen(data):
    stream = io.StringIO()
    log = PlainLog(stream, every_seconds=0.0)
    _, result = trained(data, config=replace(CONFIG, epochs=1, batch_size=60), callbacks=[log])
    assert f"loss {result.history[0]['loss']:.4g}" in stream.getvalue()


def test_a_resumed_run_says_where_it_starts(data, tmp_path):
    plan = Checkpoints(tmp_path / "c")
    stream = io.StringIO()

    def stop():
        import os
        import signal

        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        trained(data, callbacks=[StopAt(5, stop), PlainLog(stream)], checkpoints=plan)
    assert f"checkpoint of step 5 written to {tmp_path / 'c'}" in stream.getvalue()
    stream, history = Terminal(), tmp_path / "history.json"
    watchers = [PlainLog(stream), ProgressBar(stream), HistoryFile(history)]
    result = fit(SmallModel(data), data, None, CONFIG, callbacks=watchers, checkpoints=plan, resume=True)
    assert "12 steps, resumed after step 5" in stream.getvalue()
    assert json.loads(history.read_text()) == result.history
    assert len(result.history) == 3


def test_bar_shows_figures_and_gives_the_terminal_back(data):
    stream = Terminal()
    trained(data, data, callbacks=[ProgressBar(stream)])
    text = stream.getvalue()
    assert "12/12" in text
    assert "finished" in text
    assert "epoch 3" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h")


def test_bar_gives_the_terminal_back_after_an_error(data):
    def fail():
        raise ZeroDivisionError

    stream = Terminal()
    with pytest.raises(ZeroDivisionError):
        trained(data, data, callbacks=[ProgressBar(stream), StopAt(2, fail)])
    assert text_ends_with_cursor(stream.getvalue())


def text_ends_with_cursor(text):
    return text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_history_file_is_always_whole_json(data, tmp_path):
    path = tmp_path / "deep" / "history.json"
    seen = []

    class Reader(HistoryFile):
        def on_record(self, record):
            super().on_record(record)
            seen.append(len(json.loads(path.read_text())))

    _, result = trained(data, data, callbacks=[Reader(path)])
    assert seen == [1, 2, 3]
    assert json.loads(path.read_text()) == result.history
    assert [p.name for p in path.parent.iterdir()] == ["history.json"]


def test_history_file_that_cannot_be_written(data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileFormatError, match="cannot be written"):
        trained(data, callbacks=[HistoryFile(tmp_path / "file" / "history.json")])


def test_tensorboard_events(data, tmp_path):
    pytest.importorskip("tensorboard")
    trained(data, data, callbacks=[TensorBoard(tmp_path, every_steps=4)])
    script = (
        "import json, sys, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "from tensorboard.backend.event_processing.event_accumulator import EventAccumulator\n"
        "events = EventAccumulator(sys.argv[1]); events.Reload()\n"
        "print(json.dumps({t: [e.step for e in events.Scalars(t)] for t in events.Tags()['scalars']}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    steps = json.loads(done.stdout.splitlines()[-1])
    assert steps["step/loss"] == [4, 8, 12]
    assert steps["record/P@1"] == [4, 8, 12]
    assert {"step/examples_per_second", "step/active_fraction", "record/peak_memory_bytes"} <= steps.keys()


def test_tensorboard_missing_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'hashfold\[tensorboard\]'"):
        TensorBoard(tmp_path)
