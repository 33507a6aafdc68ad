"""Seconds of training to a P@1: one network trained by PyTorch and by us, with several choices of labels.

128 hidden, softmax, dropout .3, Adam at 5e-3 with warm-up and cosine decay, label biases at the log prior; batches
of 256. Ways: the labels of the batch only; those and 4,096 uniform negatives (PyTorch too, with its fastest step,
from the same initial weights, over the same rows); those and 8 labels looked up by each row; both; and labels of
five rows or more alone, the others never learned or proposed (and counted as missed). They run alternately, an
epoch each, and are scored on the test rows after each epoch, off the clock.

Sets: acl-authors (if HASHFOLD_DATA is there), planted-670k (made up, 670,091 labels). BENCH_SETS, BENCH_EPOCHS
(5); BENCH_WAYS: some of them, separated by semicolons; those not asked for keep their results. Five minutes each.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

import numpy as np
import torch

from benchmarks.common import RESULTS, chosen, data_folder, plot, table, write
from benchmarks.end_to_end import huge_output
from benchmarks.peers.torch_network import TorchNetwork

SETS = {"acl-authors": 0.128, "planted-670k": 0.128}
LR, HIDDEN, BATCH, NEGATIVES, DROPOUT, TESTS = 5e-3, 128, 256, 4096, 0.3, 4000
FEW = 5
WAYS = {
    "labels only": (0, 0),
    "uniform": (0, NEGATIVES),
    "looked up": (8, 0),
    "looked up and uniform": (8, NEGATIVES),
    "frequent, 1,024 uniform": (0, 1024, FEW),
    "frequent, looked up and 512 uniform": (4, 512, FEW),
}
"""Labels looked up by each row, uniform negatives, and the rows that a label must have to be learned."""
PEER = "PyTorch, uniform"


def epochs() -> int:
    return int(os.environ.get("BENCH_EPOCHS", "5"))


def examples(name: str, tests: int | None = TESTS) -> tuple[Any, Any]:
    """Train and test rows, tf-idf; at most `tests` of the latter."""
    from hashfold.data import read_xmc
    from hashfold.data.dataset import Dataset
    from hashfold.data.tfidf import TfIdf

    if name == "planted-670k":
        return huge_output.data(huge_output.LABELS, 100_000, TESTS)
    folder = data_folder() / name
    train, test = (read_xmc(folder / f"{part}.txt.xz") for part in ("train", "test"))
    train, test = (
        part.take(np.flatnonzero((np.diff(part.x.indptr) > 0) & (part.y.counts > 0))) for part in (train, test)
    )
    tfidf = TfIdf.fit(train.x, "tfidf")
    train, test = (Dataset(tfidf.transform(part.x), part.y) for part in (train, test))
    return train, test.take(np.arange(min(tests or len(test), len(test))))


def with_rows(train: Any, least: int) -> tuple[Any, Any]:
    """The labels that have so many rows, numbered anew, the rows that have any, and the labels' numbers before."""
    from hashfold.data import Dataset, drop_unusable, label_counts
    from hashfold.sparse import RaggedIds

    labels = np.flatnonzero(label_counts(train.y) >= least).astype(np.int32)
    keep = np.isin(train.y.ids, labels)
    counts = np.bincount(np.repeat(np.arange(len(train)), train.y.counts)[keep], minlength=len(train))
    ids = np.searchsorted(labels, train.y.ids[keep]).astype(np.int32)
    y = RaggedIds(np.concatenate([[0], np.cumsum(counts)]), ids, len(labels))
    return drop_unusable(Dataset(train.x, y))[0], labels


class Contender:
    """A network, its step, and the clock that runs while it trains."""

    def __init__(self, name: str, train: Any, test: Any) -> None:
        from hashfold.data import label_counts
        from hashfold.train import TrainConfig
        from hashfold.train.loader import Loader

        self.name, self.test, self.seconds, self.steps = name, test, 0.0, 0
        self.curve: list[tuple[float, float]] = []
        self.config = TrainConfig(epochs=epochs(), batch_size=BATCH)
        self.hard, self.uniform, *least = WAYS.get(name, (0, NEGATIVES))
        train, self.labels = with_rows(train, *(least or [0]))
        self.net = huge_output.network_over(
            train.num_features,
            train.num_labels,
            dropout=DROPOUT,
            lr=LR,
            negatives=1,
            hard_negatives=self.hard,
            index="clustered",
        )
        self.net.set_label_prior(label_counts(train.y), len(train))
        self.peer = TorchNetwork(self.net, LR, DROPOUT) if name == PEER else None
        if self.peer is None:
            self.net.select = self._select
        self.loader = Loader(train, BATCH, seed=0, prepare=self._prepare if self.peer is None else None)

    def _select(self, h: Any, y: Any, seed: int) -> Any:
        h = torch.zeros(len(y), HIDDEN) if h is None else h.detach()  # None: nothing is looked up
        return self.net.output.lookup_shared(h, y, hard_negatives=self.hard, uniform=self.uniform, seed=seed)

    def _prepare(self, x: Any, y: Any, step: int) -> Any:
        from hashfold.train.schedule import step_seed

        return self.net.prepare(x, y, step_seed(0, step))

    def train_epoch(self, epoch: int) -> None:
        from hashfold.train.schedule import lr_factor, step_seed

        began = time.perf_counter()
        for batch in self.loader.epoch(epoch):
            factor = lr_factor(self.config, self.steps, epochs() * len(self.loader))
            self._step(batch, factor, step_seed(0, self.steps))
            self.steps += 1
        self.seconds += time.perf_counter() - began

    def _step(self, batch: Any, factor: float, seed: int) -> None:
        if self.peer is None:
            self.net.set_lr(factor)
            self.net.training_step(batch.x, batch.y, seed, batch.prepared)
        else:
            self.peer.set_lr(LR * factor)
            active = self._select(torch.zeros(len(batch.x), HIDDEN), batch.y, seed)
            self.peer.step(batch.x, active, bf16=True, compact=True)

    def score(self) -> None:
        from hashfold.metrics import evaluate

        if self.peer is not None:
            self.peer.copy_to(self.net)
        top = self.labels[self.net.top_k(self.test.x, 1)[0]]
        self.net._searchers.clear()  # its memory
        self.curve.append((self.seconds, evaluate(top, self.test.y, ks=(1,))["P@1"]))


def seconds_to(curve: list[tuple[float, float]], goal: float) -> float | None:
    """When the straight line between two scores reached the goal; None if it never did."""
    before = (0.0, 0.0)
    for at in curve:
        if at[1] >= goal:
            return before[0] + (at[0] - before[0]) * (goal - before[1]) / (at[1] - before[1])
        before = at
    return None


def race(name: str) -> dict[str, Any]:
    train, test = examples(name)
    asked = os.environ.get("BENCH_WAYS", ";".join((*WAYS, PEER))).split(";")
    contenders = [Contender(way, train, test) for way in asked]
    for epoch in range(epochs()):
        for contender in contenders:
            contender.train_epoch(epoch)
            contender.score()
    return {c.name: {"curve": c.curve, "seconds_to_goal": seconds_to(c.curve, SETS[name])} for c in contenders}


def earlier(name: str) -> dict[str, Any]:
    """Results of as many epochs, for ways that are not asked for now."""
    path = RESULTS / "time_to_accuracy.json"
    found = json.loads(path.read_text()) if "BENCH_WAYS" in os.environ and path.exists() else {}
    return dict(found["sets"].get(name, {})) if found.get("epochs") == epochs() else {}


def main() -> None:
    from hashfold.kernels import native

    torch.set_num_threads(native.num_threads())
    result: dict[str, Any] = {}
    readable = [name for name in SETS if name.startswith("planted") or os.environ.get("HASHFOLD_DATA")]
    for name in chosen(readable):
        result[name] = {**earlier(name), **race(name)}
        curves = {way: figures["curve"] for way, figures in result[name].items()}
        plot(f"time_to_accuracy_{name}", curves, "seconds of training", "P@1", name)
        header = ("set", "way", "seconds", "P@1 at the end", f"seconds to {SETS[name]}")
        table(
            header, [[name, way, *f["curve"][-1], f["seconds_to_goal"] or "-"] for way, f in result[name].items()]
        )
    write("time_to_accuracy", {"epochs": epochs(), "sets": result})


if __name__ == "__main__":
    main()
