"""Seconds of training to a P@1: one network trained by PyTorch and by us, with several choices of labels.

128 hidden, softmax, dropout .3, Adam at 5e-3 with warm-up and cosine decay, label biases at the log prior;
batches of 256. Ways: the labels of the batch only; those and 4,096 uniform negatives (PyTorch too, with its
fastest step, from the same initial weights, over the same rows); those and 8 labels looked up by each row; both;
phases (labels only, then 2 looked up, then 8 and 1,024 uniform); labels only and phases from label vectors that
start where their rows are; labels of five rows or more alone, the others never learned or proposed (and
counted as missed); and labels of nine rows or more, whom the others join at their rows (`join_labels`) before each
score, which is then of a network over all labels, and later by the seconds that this takes; both with row-wise
Adagrad at 1e-1 too. They run alternately, an epoch or a part of one each, and are then scored on test rows, off
the clock; all else counts, building the index and starting the label vectors too.

Sets: planted-670k (made up, 670,091 labels; the most frequent label has P@1 .12, ten neighbours .59) and, if
HASHFOLD_DATA is there, acl-authors and kowiki-articles (1.4 rows a label: hardly anything to learn). BENCH_SETS;
BENCH_EPOCHS: instead of the 4, 12 and 1 of the sets; BENCH_ROWS: at most so many training rows; BENCH_WAYS: some
of them, separated by semicolons; those not asked for keep their results, and so do sets. Two to six minutes each.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.common import chosen, data_folder, plot, table, write, written
from benchmarks.end_to_end import huge_output
from benchmarks.peers.torch_network import TorchNetwork
from hashfold.train.defaults import ADAGRAD_RATE, OF_FREQUENT, RISING, START

PLANTED = "planted-670k"
ADAGRAD = "rowwise_adagrad"
LR, HIDDEN, BATCH, NEGATIVES, DROPOUT, TESTS = 5e-3, 128, 256, 4096, 0.3, 4000
FEW, JOINED_BELOW = 5, 9
Phases = tuple[tuple[float, int, int], ...]


class Task(NamedTuple):
    """P@1 to be reached; epochs; scores taken in each; test rows scored. rare: no label has FEW rows."""

    goal: float
    epochs: int
    scores: int
    tests: int
    rare: bool = False


class Way(NamedTuple):
    """phases: as of NetworkConfig. start: length of label vectors that start where their rows are; 0: at random.
    least: rows that a label must have to be learned. joins: the others join the network. optimizer: as of
    NetworkConfig.
    """

    phases: Phases
    start: float = 0.0
    least: int = 0
    joins: bool = False
    optimizer: str = "adam"


SETS = {
    "acl-authors": Task(0.128, 12, 1, TESTS),
    PLANTED: Task(0.5, 4, 2, 1000),
    "kowiki-articles": Task(0.005, 1, 4, 2000, rare=True),
}
WAYS = {
    "labels only": Way(((1.0, 0, 0),)),
    "uniform": Way(((1.0, 0, NEGATIVES),)),
    "looked up": Way(((1.0, 8, 0),)),
    "looked up and uniform": Way(((1.0, 8, NEGATIVES),)),
    "labels only, then looked up": Way(RISING),
    "started at rows, labels only": Way(((1.0, 0, 0),), start=START),
    "started at rows, then looked up": Way(RISING, start=START),
    "frequent, 1,024 uniform": Way(((1.0, 0, 1024),), least=FEW),
    "frequent, looked up and 512 uniform": Way(((1.0, 4, 512),), least=FEW),
    "frequent, started, 1,024 uniform": Way(((1.0, 0, 1024),), START, FEW),
    "frequent, started, then looked up and 512 uniform": Way(OF_FREQUENT, START, FEW),
    "all, the rare join, 1,024 uniform": Way(((1.0, 0, 1024),), START, JOINED_BELOW, True),
    "all, the rare join, then looked up and 512 uniform": Way(OF_FREQUENT, START, JOINED_BELOW, True),
    "frequent, started, 1,024 uniform, Adagrad": Way(((1.0, 0, 1024),), START, FEW, optimizer=ADAGRAD),
    "all, the rare join, 1,024 uniform, Adagrad": Way(((1.0, 0, 1024),), START, JOINED_BELOW, True, ADAGRAD),
}
PEER = "PyTorch, uniform"
LOOK_UP = {"index": "tree", "index_options": {"probes": 8}, "reinsert": "fixed:100"}


def epochs(name: str) -> int:
    return int(os.environ.get("BENCH_EPOCHS", SETS[name].epochs))


def examples(name: str, tests: int | None = TESTS) -> tuple[Any, Any]:
    """Train and test rows, tf-idf; at most `tests` of the latter, and BENCH_ROWS of the former."""
    from hashfold.data import drop_unusable, read_xmc
    from hashfold.data.dataset import Dataset
    from hashfold.data.tfidf import TfIdf

    most = int(os.environ.get("BENCH_ROWS", 1 << 31))
    if name == PLANTED:
        return huge_output.data(huge_output.LABELS, min(most, 100_000), tests or TESTS)
    parts = (read_xmc(data_folder() / name / f"{part}.txt.xz") for part in ("train", "test"))
    train, test = (drop_unusable(part)[0] for part in parts)
    if most < len(train):
        train = train.take(np.sort(np.random.default_rng(0).permutation(len(train))[:most]))
    tfidf = TfIdf.fit(train.x, "tfidf")
    train, test = (Dataset(tfidf.transform(part.x), part.y) for part in (train, test))
    return train, test.take(np.arange(min(tests or len(test), len(test))))


def settings(way: Way) -> dict[str, Any]:
    """Of the network. One phase without look-ups is the plain setting: its negatives are drawn ahead."""
    first, lr = way.phases[0], ADAGRAD_RATE if way.optimizer == ADAGRAD else LR
    common = {"label_start": way.start, "optimizer": way.optimizer, "lr": lr}
    if len(way.phases) == 1 and not first[1] and first[2]:
        return {"negatives": first[2], **common}
    return {"phases": [list(phase) for phase in way.phases], **common, **LOOK_UP}


class Contender:
    """A network, its step, and the clock that runs while it trains."""

    def __init__(self, name: str, train: Any, test: Any, rounds: int) -> None:
        from hashfold.data import label_counts
        from hashfold.model import Outputs
        from hashfold.train import TrainConfig
        from hashfold.train.loader import Loader

        self.name, self.test, self.seconds, self.steps = name, test, 0.0, 0
        self.curve: list[tuple[float, float]] = []
        self.config = TrainConfig(epochs=rounds, batch_size=BATCH)
        way = WAYS["uniform" if name == PEER else name]
        self.outputs = Outputs.with_rows(label_counts(train.y), way.least)
        self.joining = train if way.joins else None
        train = self.outputs.learned(train)
        shape = train.num_features, train.num_labels
        self.net = huge_output.network_over(*shape, dropout=DROPOUT, **settings(way))
        self.net.set_label_prior(label_counts(train.y), len(train))
        self.peer = TorchNetwork(self.net, LR, DROPOUT) if name == PEER else None
        self.loader = Loader(train, BATCH, seed=0, prepare=self._prepare if self.peer is None else None)
        self.batches = chain.from_iterable(self.loader.epoch(epoch) for epoch in range(rounds))
        if way.start:
            began = time.perf_counter()
            self.net.start_labels(train.x, train.y)
            self.seconds = time.perf_counter() - began

    def _prepare(self, x: Any, y: Any, step: int) -> Any:
        from hashfold.train.schedule import step_seed

        return self.net.prepare(x, y, step_seed(0, step))

    def train_until(self, share: float) -> None:
        """Up to this share of the run's steps."""
        from hashfold.train.schedule import lr_factor, step_seed

        began, total = time.perf_counter(), self.config.epochs * len(self.loader)
        for batch in islice(self.batches, round(share * total) - self.steps):
            self.net.set_progress(self.steps / total)
            self._step(batch, lr_factor(self.config, self.steps, total), step_seed(0, self.steps))
            self.steps += 1
        self.seconds += time.perf_counter() - began

    def _step(self, batch: Any, factor: float, seed: int) -> None:
        if self.peer is None:
            self.net.set_lr(factor)
            self.net.training_step(batch.x, batch.y, seed, batch.prepared)
        else:
            self.peer.set_lr(LR * factor)
            self.peer.step(batch.x, self.net.select(None, batch.y, seed), bf16=True, compact=True)

    def score(self) -> None:
        from hashfold.metrics import evaluate

        if self.peer is not None:
            self.peer.copy_to(self.net)
        top, seconds = self._top()
        self.curve.append((self.seconds + seconds, evaluate(top, self.test.y, ks=(1,))["P@1"]))

    def _top(self) -> tuple[Any, float]:
        """The first label of each test row, and the seconds that labels took to join: off the clock of training,
        which goes on without them, but not of this score.
        """
        from hashfold.model import join_labels

        if self.joining is None:
            top = self.outputs.labels(self.net.top_k(self.test.x, 1)[0])
            self.net._searchers.clear()  # its memory
            return top, 0.0
        began = time.perf_counter()
        whole = join_labels(self.net, self.outputs, self.joining.x, self.joining.y)
        seconds = time.perf_counter() - began
        return whole.top_k(self.test.x, 1)[0], seconds


def seconds_to(curve: list[tuple[float, float]], goal: float) -> float | None:
    """When the straight line between two scores reached the goal; None if it never did."""
    before = (0.0, 0.0)
    for at in curve:
        if at[1] >= goal:
            return before[0] + (at[0] - before[0]) * (goal - before[1]) / (at[1] - before[1])
        before = at
    return None


def race(name: str) -> dict[str, Any]:
    train, test = examples(name, SETS[name].tests)
    asked = os.environ.get("BENCH_WAYS", ";".join((*WAYS, PEER))).split(";")
    able = [way for way in asked if way == PEER or not (SETS[name].rare and WAYS[way].least)]
    contenders = [Contender(way, train, test, epochs(name)) for way in able]
    scores = epochs(name) * SETS[name].scores
    for score in range(scores):
        for contender in contenders:
            contender.train_until((score + 1) / scores)
            contender.score()
    goal = SETS[name].goal
    return {c.name: {"curve": c.curve, "seconds_to_goal": seconds_to(c.curve, goal)} for c in contenders}


def kept(name: str, before: Mapping[str, Any]) -> dict[str, Any]:
    """Results of as many epochs, for ways that are not asked for now."""
    alike = "BENCH_WAYS" in os.environ and before.get("epochs") == epochs(name)
    return {way: figures for way, figures in before["ways"].items() if way in (*WAYS, PEER)} if alike else {}


def main() -> None:
    from hashfold.kernels import native

    torch.set_num_threads(native.num_threads())
    sets = {name: found for name, found in written("time_to_accuracy").get("sets", {}).items() if "ways" in found}
    for name in chosen([name for name in SETS if name == PLANTED or os.environ.get("HASHFOLD_DATA")]):
        ways = {**kept(name, sets.get(name, {})), **race(name)}
        sets[name] = {"epochs": epochs(name), "ways": ways}
        curves = {way: figures["curve"] for way, figures in ways.items()}
        plot(f"time_to_accuracy_{name}", curves, "seconds of training", "P@1", name)
        header = ("set", "way", "seconds", "P@1 at the end", f"seconds to {SETS[name].goal}")
        table(header, [[name, way, *f["curve"][-1], f["seconds_to_goal"] or "-"] for way, f in ways.items()])
    write("time_to_accuracy", {"sets": sets})


if __name__ == "__main__":
    main()
