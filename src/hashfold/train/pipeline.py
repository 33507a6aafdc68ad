"""From a data set to a trained model: weighting, settings chosen from the data, network, loop, look-ups."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from hashfold import checks
from hashfold.data import Dataset, TfIdf, drop_unusable, label_counts, statistics
from hashfold.memory import peak_bytes
from hashfold.model import HashfoldModel, LookupNetwork, Lookups, Outputs, check_joinable, join_labels
from hashfold.model.targets import Targets
from hashfold.sparse import Int64
from hashfold.train.callbacks import Callback, RunInfo
from hashfold.train.config import Checkpoints, TrainConfig
from hashfold.train.defaults import Settings, choose, choose_parts
from hashfold.train.lookups import fit_lookups, split
from hashfold.train.loop import fit
from hashfold.train.state import TrainResult
from hashfold.train.threads import threads
from hashfold.train.validation import KS, check_valid, metric_names


def fit_model(
    train: Dataset,
    valid: Dataset | None = None,
    *,
    targets: Targets | None = None,
    weighting: str = "auto",
    overrides: Mapping[str, Any] | None = None,
    parts: Collection[str] | None = None,
    without: Collection[str] = (),
    effort: str = "normal",
    callbacks: Sequence[Callback] = (),
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[HashfoldModel, TrainResult]:
    """Trains a `HashfoldModel`; rows without labels or features are left out.

    train, valid: rows before weighting; `valid` read to fit `train`'s features and labels. targets: what
    labels look like to the user; by default the data set's names, any number a row. overrides: settings
    that shall not be chosen from the data, by name (see `train.defaults.choose`). parts: which of the three
    look-ups the model has; None: chosen from the data, less those in `without` (see
    `train.defaults.choose_parts`). effort: "low", "normal" or "high": accuracy for time. say: told, line by line,
    what was found and chosen.

    A model without the deep path has no training loop: callbacks are told of a run of no steps, which starts
    before its look-ups are made and ends after; there is nothing for checkpoints to hold, so none are written.

    Raises InputError (no usable rows, settings, data; to resume without a network), and what `train.fit` raises.
    """
    rows = len(train)
    train, dropped = drop_unusable(train)
    if not len(train):
        found = f"{rows} rows, {dropped.without_labels} of them without labels"
        checks.fail(
            "train", "training needs rows with labels and features", found, "check the file and its columns"
        )
    if dropped.total:
        say(f"left out: {dropped.without_labels} rows without labels, {dropped.without_features} without features")
    facts = statistics(train)
    able, told = choose_parts(facts, parts, without, overrides)
    chosen = choose(facts, overrides, effort=effort, parts=able)
    for reason in (*told, *chosen.reasons):
        say(reason)
    input_weighting = TfIdf.fit(train.x, weighting)
    weighted = replace(train, x=input_weighting.transform(train.x))
    held_out = None if valid is None else replace(valid, x=input_weighting.transform(valid.x))
    run = _Run(chosen, weighted, held_out, label_counts(train.y), callbacks, say)
    with threads(chosen.beside.threads):
        lookups, result = run.without_network(resume) if chosen.network is None else run.go(checkpoints, resume)
    names = train.label_names
    model = HashfoldModel(
        lookups,
        input_weighting,
        targets or Targets("lists", train.num_labels, None if names is None else tuple(names)),
        len(train),
        vectorizer=train.vectorizer,
        reading=train.reading,
        data=facts.to_dict(),
        training={
            **chosen.beside.to_dict(),
            **({"epochs": 0} if chosen.training is None else chosen.training.to_dict()),
            "effort": effort,
            "seconds": result.seconds,
            "stopped": result.stopped,
        },
        metrics=result.metrics,
    )
    if valid is not None and (lookups.mixers or lookups.network is None or chosen.beside.least_rows > 1):
        scored = model.evaluate(valid, KS, candidates=False)
        model.metrics = {name: scored[name] for name in metric_names(train.num_labels) if name in scored}
        result = replace(result, metrics=model.metrics)
    return model, result


@dataclass(frozen=True)
class _Run:
    """What is trained, on weighted rows."""

    chosen: Settings
    train: Dataset
    valid: Dataset | None
    counts: Int64
    callbacks: Sequence[Callback]
    say: Callable[[str], None]

    def go(self, checkpoints: Checkpoints | None, resume: bool) -> tuple[Lookups, TrainResult]:
        """The network, on the rows that are not held out, and then the look-ups beside it."""
        config, beside = self.chosen.training, self.chosen.beside
        assert self.chosen.network is not None
        kept, _ = split(len(self.train), beside.held_out, beside.seed)
        seen = self.train if len(kept) == len(self.train) else self.train.take(kept)
        outputs = Outputs.with_rows(label_counts(seen.y), beside.least_rows)
        joins = outputs.partial and "near" not in beside.parts
        if outputs.partial:
            rest = ", and the others join it after that" if joins else ""
            self.say(f"deep learns {len(outputs)} labels, those of {beside.least_rows} rows or more{rest}")
        if joins:
            check_joinable(self.chosen.network)
        every, seen, valid = seen, outputs.learned(seen), _to_learn(self.valid, outputs)
        network = LookupNetwork(replace(self.chosen.network, num_labels=len(outputs)))
        network.set_label_prior(label_counts(seen.y), len(seen))
        if self.chosen.network.label_start and not resume:
            network.start_labels(seen.x, seen.y)
        result = fit(
            network, seen, valid, config, callbacks=self.callbacks, checkpoints=checkpoints, resume=resume
        )
        began = time.perf_counter()
        if joins:
            network, outputs = join_labels(network, outputs, every.x, every.y), Outputs(None, every.num_labels)
        network.round_weights()
        lookups = fit_lookups(network, self.train, self.counts, beside, self.say, outputs)
        seconds = result.seconds + time.perf_counter() - began
        return lookups, replace(result, seconds=seconds, peak_memory_bytes=peak_bytes())

    def without_network(self, resume: bool) -> tuple[Lookups, TrainResult]:
        """A run of no steps, whose seconds are those of making the look-ups."""
        if resume:
            remedy = "train it anew, without resume"
            checks.fail(
                "train", "to resume, there must be a network: its training is what is saved", "none", remedy
            )
        if self.valid is not None:
            check_valid(self.valid, self.train, TrainConfig.metric)
        with ExitStack() as stack:
            for callback in self.callbacks:
                stack.callback(callback.close)
                callback.on_start(RunInfo(len(self.train), 0, 0, 0, 0, []))
            began = time.perf_counter()
            lookups = fit_lookups(None, self.train, self.counts, self.chosen.beside, self.say)
            seconds = time.perf_counter() - began
            result = TrainResult(
                stopped="finished",
                steps=0,
                epochs=0,
                best_step=0,
                best_epoch=0,
                metrics={},
                seconds=seconds,
                train_seconds=seconds,
                examples_per_second=len(self.train) / max(seconds, 1e-9),
                peak_memory_bytes=peak_bytes(),
                history=[],
            )
            for callback in self.callbacks:
                callback.on_end(result)
        return lookups, result


def _to_learn(rows: Dataset | None, outputs: Outputs) -> Dataset | None:
    """The same rows with labels as outputs; what the network does not learn is there, to be missed."""
    return rows if rows is None or not outputs.partial else replace(rows, y=outputs.of(rows.y), label_names=None)
