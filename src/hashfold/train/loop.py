"""The training loop: steps, records, early stopping, checkpoints, and an orderly end for Ctrl-C.

Between two steps the run is always in a state that can be saved and gone on from. What the next step
does is a pure function of the model's state, the settings and the number of the step, so a resumed run
computes what the uninterrupted one would have, bit for bit (with one thread, or kernels whose results
do not depend on the threads).
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from hashfold import checks
from hashfold.errors import Interrupted, NonFiniteLossError
from hashfold.memory import peak_bytes
from hashfold.sparse import CsrBatch, RaggedIds
from hashfold.train.best import BestWeights
from hashfold.train.callbacks import Callback, RunInfo, StepReport
from hashfold.train.checkpoint import RunIdentity, load_checkpoint, save_checkpoint
from hashfold.train.config import Checkpoints, TrainConfig
from hashfold.train.loader import Batch, Loader
from hashfold.train.protocol import Examples, Phased, Preparing, Trainable
from hashfold.train.schedule import lr_factor, step_seed
from hashfold.train.signals import StopSignals
from hashfold.train.state import RunState, TrainResult, Window
from hashfold.train.threads import threads
from hashfold.train.validation import check_valid, metric_names, validate


def fit(
    model: Trainable,
    train: Examples,
    valid: Examples | None = None,
    config: TrainConfig | None = None,
    *,
    callbacks: Sequence[Callback] = (),
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
) -> TrainResult:
    """Trains `model` in place.

    train, valid: rows and labels (`data.Dataset`); `valid` is scored as `config` says and decides early
    stopping, which leaves the model with its best weights (one copy of the weights more in memory).
    checkpoints: where the run is saved; with it, SIGINT and SIGTERM finish the step, save, and raise
    Interrupted (a second one takes its usual effect at once); without it signals are left alone.
    resume: go on from the checkpoint; model, data and settings must be those it was made with.

    Raises: InputError (data, settings, checkpoint of another run), ModelFolderError (no or a damaged
    checkpoint), NonFiniteLossError (the last checkpoint is untouched), FileFormatError (full disk),
    Interrupted.
    """
    config = config if config is not None else TrainConfig()
    with ExitStack() as stack:
        for callback in callbacks:
            stack.callback(callback.close)
        stack.enter_context(threads(config.threads))
        signals = stack.enter_context(StopSignals(enabled=checkpoints is not None))
        return _Run(model, train, valid, config, list(callbacks), checkpoints, signals).go(resume)


class _Run:
    def __init__(
        self,
        model: Trainable,
        train: Examples,
        valid: Examples | None,
        config: TrainConfig,
        callbacks: list[Callback],
        checkpoints: Checkpoints | None,
        signals: StopSignals,
    ) -> None:
        self.model, self.train, self.valid, self.config = model, train, valid, config
        self.callbacks, self.checkpoints, self.signals = callbacks, checkpoints, signals
        if valid is not None:
            check_valid(valid, train, config.metric)
        elif config.patience is not None:
            checks.fail("train", "early stopping needs held-out rows", "none", "give them, or no patience")
        self.preparing = model if isinstance(model, Preparing) else None
        self.phased = model if isinstance(model, Phased) else None
        prepare = None if self.preparing is None else self._prepare
        self.loader = Loader(train, config.batch_size, config.seed, config.prefetch, prepare)
        self.total_steps = config.epochs * len(self.loader)
        self.identity = RunIdentity.of(config, train) if checkpoints is not None else None
        self.state, self.best = RunState(), BestWeights()
        self.saved_epoch = 0
        self.stopped = ""

    def go(self, resume: bool) -> TrainResult:
        if resume:
            self._resume()
        self.began = self.saved_at = self.mark = time.perf_counter()
        self.seconds_before = self.state.seconds
        self._tell_start()
        stopped = self._between_steps()  # a resumed run may have been interrupted while validating
        while not stopped:
            with closing(self.loader.epoch(self.state.epoch, self.state.batch)) as batches:
                for batch in batches:
                    self._step(batch)
                    stopped = self._between_steps()
                    if stopped:
                        break
        return self._result()

    def _step(self, batch: Batch) -> None:
        step = self.state.step
        if self.config.patience is not None and self._is_best_now():
            self.best.keep(self.model)
        factor = lr_factor(self.config, step, self.total_steps)
        self.model.set_lr(factor)
        if self.phased is not None:
            self.phased.set_progress(step / self.total_steps)
        seed = step_seed(self.config.seed, step)
        if self.preparing is None:
            done = self.model.training_step(batch.x, batch.y, seed)
        else:
            done = self.preparing.training_step(batch.x, batch.y, seed, batch.prepared)
        if not math.isfinite(done.loss):
            raise NonFiniteLossError(self._diverged(done.loss))
        seconds = time.perf_counter() - self.mark
        self.state.advance(len(self.loader))
        self.state.rows += done.rows
        self.state.train_seconds += seconds
        self.state.window.add(done.loss, done.rows, seconds, done.stats)
        report = StepReport(self.state.step, done.loss, done.rows, seconds, factor, done.stats)
        for callback in self.callbacks:
            callback.on_step(report)

    def _prepare(self, x: CsrBatch, y: RaggedIds, step: int) -> Any:
        assert self.preparing is not None
        return self.preparing.prepare(x, y, step_seed(self.config.seed, step))

    def _between_steps(self) -> bool:
        """Whatever is due after a step, or at the start of a resumed run; whether the run is over."""
        state, config = self.state, self.config
        finished = state.step == self.total_steps
        out_of_time = config.max_seconds is not None and state.step > 0 and self._seconds() >= config.max_seconds
        if state.step > state.recorded_step:
            self._record(finished or out_of_time)
        recorded = state.recorded_step == state.step
        if config.patience is not None and state.waited >= config.patience:
            self.stopped = "early_stopping"
        elif recorded and (finished or out_of_time):
            self.stopped = "finished" if finished else "max_seconds"
        if self.signals.pending is not None and not self.stopped:
            self._interrupt(self.signals.pending)
        if not self.stopped and self._checkpoint_due():
            self._save()
        self.mark = time.perf_counter()
        return bool(self.stopped)

    def _record(self, last: bool) -> None:
        """Adds a record to the history at the end of an epoch and where a validation is due."""
        validating = self.valid is not None and (last or self._validation_due())
        if not (validating or last or self.state.batch == 0):
            return
        metrics = self._validate() if validating else {}
        if metrics is None:  # interrupted: the resumed run does it again
            return
        record = {**self._figures(), **metrics}
        self.state.history.append(record)
        self.state.recorded_step, self.state.window = self.state.step, Window()
        if metrics:
            better = self.state.best is None or record[self.config.metric] > self.state.best[self.config.metric]
            self.state.best = record if better else self.state.best
            self.state.waited = 0 if better else self.state.waited + 1
        for callback in self.callbacks:
            callback.on_record(record)

    def _validation_due(self) -> bool:
        every = self.config.validate_every_steps
        if every is not None:
            return self.state.step % every == 0
        return self.state.batch == 0 and self.state.epoch % self.config.validate_every_epochs == 0

    def _validate(self) -> dict[str, float] | None:
        def tell(done: int, rows: int) -> None:
            for callback in self.callbacks:
                callback.on_validation(done, rows)

        assert self.valid is not None
        return validate(
            self.model,
            self.valid,
            self.config.batch_size,
            self.train.y.num_ids,
            lookup=self.config.validate_with_lookup,
            on_batch=tell,
            abandon=lambda: self.signals.pending is not None,
        )

    def _figures(self) -> dict[str, Any]:
        state, window = self.state, self.state.window
        return {
            "step": state.step,
            "epoch": state.step / len(self.loader),
            "loss": window.loss / max(1, window.rows),
            "lr_factor": lr_factor(self.config, state.step - 1, self.total_steps),
            "active_fraction": window.stats.active_fraction,
            "examples_per_second": window.rows / max(window.seconds, 1e-9),
            "seconds": self._seconds(),
            "peak_memory_bytes": peak_bytes(),
        }

    def _is_best_now(self) -> bool:
        return self.state.best is not None and self.state.best["step"] == self.state.step

    def _seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.began

    def _checkpoint_due(self) -> bool:
        if self.checkpoints is None or self.state.step == 0:
            return False
        seconds, epochs = self.checkpoints.every_seconds, self.checkpoints.every_epochs
        by_epoch = epochs is not None and self.state.batch == 0 and self.state.epoch - self.saved_epoch >= epochs
        return by_epoch or (seconds is not None and time.perf_counter() - self.saved_at >= seconds)

    def _save(self) -> Path:
        assert self.checkpoints is not None
        assert self.identity is not None
        path = Path(self.checkpoints.folder)
        self.state.seconds = self._seconds()
        best = None if self._is_best_now() else self.best.weights
        save_checkpoint(path, self.model, self.state, self.identity, best)
        self.saved_at, self.saved_epoch = time.perf_counter(), self.state.epoch
        for callback in self.callbacks:
            callback.on_checkpoint(path, self.state.step)
        return path

    def _resume(self) -> None:
        if self.checkpoints is None or self.identity is None:
            checks.fail("train", "to resume, the checkpoint's folder is needed", "none", "give checkpoints=")
        self.state, weights = load_checkpoint(Path(self.checkpoints.folder), self.model, self.identity)
        self.best = BestWeights(weights)
        self.saved_epoch = self.state.epoch

    def _tell_start(self) -> None:
        info = RunInfo(
            len(self.train.x),
            self.config.epochs,
            len(self.loader),
            self.total_steps,
            self.state.step,
            list(self.state.history),
        )
        for callback in self.callbacks:
            callback.on_start(info)

    def _interrupt(self, number: int) -> None:
        path = self._save()
        raise Interrupted(
            f"train: stopped by {signal.Signals(number).name} after step {self.state.step:,} of "
            f"{self.total_steps:,}; the run is saved in {path}; go on with the same command and --resume "
            "(in Python: resume=True).",
            path,
            number,
        )

    def _diverged(self, loss: float) -> str:
        saved = self.checkpoints is not None and (Path(self.checkpoints.folder) / "checkpoint.json").exists()
        kept = (
            f"; the checkpoint in {self.checkpoints.folder} is from before" if saved and self.checkpoints else ""
        )
        return (
            f"train: the loss must be finite; got {loss} at step {self.state.step + 1:,} "
            f"(epoch {self.state.epoch + 1}); lower the learning rate (--lr){kept}."
        )

    def _result(self) -> TrainResult:
        state = self.state
        if self.config.patience is not None and not self._is_best_now():
            self.best.restore(self.model)
        last, best = state.history[-1], state.best or state.history[-1]
        held = best if self.config.patience is not None else last
        result = TrainResult(
            stopped=self.stopped,
            steps=state.step,
            epochs=math.ceil(last["epoch"]),
            best_step=best["step"],
            best_epoch=math.ceil(best["epoch"]),
            metrics={name: held[name] for name in metric_names(self.train.y.num_ids) if name in held},
            seconds=self._seconds(),
            train_seconds=state.train_seconds,
            examples_per_second=state.rows / max(state.train_seconds, 1e-9),
            peak_memory_bytes=peak_bytes(),
            history=state.history,
        )
        for callback in self.callbacks:
            callback.on_end(result)
        return result
