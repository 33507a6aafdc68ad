"""Training an output layer of 670,091 labels: our step beside PyTorch's, sampled and dense; growth; memory.

Data made in the shape of Amazon-670K (135,909 features, 75 nonzeros and 5.4 labels a row, planted structure), 128
hidden, softmax over the labels of the batch and uniform negatives, row-wise Adam. PyTorch takes the same rows and
the same active sets on the same threads, in turn with ours; it is not charged for choosing them, ours is. All of
PyTorch's ways are timed (products in float32 or bfloat16; SparseAdam, or the batch's features gathered) at each
batch size, and the best is what counts. Losses are compared over CHECKED steps on one batch, which drops them by a
tenth, before the clock starts. "prepared ahead" is our step as the training loop takes it, the next batch being
cut and its negatives drawn meanwhile on the same threads; its time is the mean over WINDOW steps. "compact state"
is our step with a quarter of Adam's state, one second moment a row and first moments in bfloat16: beside the
comparison, not part of it, as PyTorch keeps all. Dense PyTorch computes all labels, with a hand-written backward
pass.

BENCH_ROUNDS (8): steps of each; BENCH_LABELS, for a quick trial; HASHFOLD_NUM_THREADS. About three minutes.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.common import plot, scratch, table, write
from benchmarks.peers.torch_network import TorchNetwork, in_turn

FEATURES, HIDDEN, LR = 135_909, 128, 1e-3
LABELS = int(os.environ.get("BENCH_LABELS", "670091"))
BATCHES, NEGATIVES = (256, 512, 1024), (4096, 16_384)
GROWTH = sorted({10_000, 100_000, 1_000_000, LABELS})
WAYS = {
    f"{kind}, {how}": (kind == "bf16", how == "rows")
    for kind in ("fp32", "bf16")
    for how in ("SparseAdam", "rows")
}
CHECKED = 5
OURS, COMPACT, AHEAD, WINDOW = "hashfold", "hashfold, compact state", ", prepared ahead", 4
RULES = {OURS: "adam", COMPACT: "compact_adam"}


def rounds() -> int:
    return int(os.environ.get("BENCH_ROUNDS", "8"))


def data(labels: int, rows: int, tests: int = 0, seed: int = 0) -> tuple[Any, Any]:
    """Rows in the shape of Amazon-670K: train and test."""
    from hashfold.data.planted import synthetic

    return synthetic(
        rows,
        FEATURES,
        labels,
        test_rows=tests,
        labels_per_row=5.45,
        features_per_row=98,
        feature_power=0.5,
        seed=seed,
    )


def network(labels: int, negatives: int, **settings: Any) -> Any:
    return network_over(FEATURES, labels, negatives=negatives, **{"dropout": 0.0, "lr": LR, **settings})


def network_over(features: int, labels: int, **settings: Any) -> Any:
    from hashfold.model import LookupNetwork, NetworkConfig

    return LookupNetwork(NetworkConfig(features, labels, hidden=HIDDEN, **settings))


def with_negatives(net: Any, negatives: int) -> None:
    net.config = replace(net.config, negatives=negatives)


class Rows:
    """Batches of `batch` rows, round and round."""

    def __init__(self, examples: Any, batch: int) -> None:
        self.x, self.y, self.batch = examples.x, examples.y, batch

    def __call__(self, i: int) -> tuple[Any, Any]:
        rows = (np.arange(self.batch) + i * self.batch) % len(self.x)
        return self.x.take(rows), self.y.take(rows)


class Race:
    """Our network and PyTorch's, from the same weights, over the same active sets."""

    def __init__(self, labels: int, rows: int) -> None:
        self.examples, _ = data(labels, rows)
        self.net = network(labels, NEGATIVES[0])
        self.compact = network(labels, NEGATIVES[0], optimizer="compact_adam")
        self.peer = TorchNetwork(self.net, LR)
        self._sets: dict[tuple[int, int, int], Any] = {}

    def check(self) -> None:
        """One batch, again and again: all fall; ours with all state agrees with each of PyTorch's ways."""
        import torch

        rows, losses, compact = Rows(self.examples, 256), [], []
        self._all_lrs(2e-2)
        for i in range(CHECKED):
            active = self.net.select(torch.zeros(256, HIDDEN), rows(0)[1], i)
            ours = float(self.net.training_step(*rows(0), seed=i).loss)
            theirs = self.peer.step(rows(0)[0], active, *list(WAYS.values())[i % len(WAYS)])
            losses.append((ours, theirs))
            assert abs(ours / theirs - 1) < 2e-2, losses  # ours in bf16, PyTorch in both
            compact.append(float(self.compact.training_step(*rows(0), seed=i).loss))
        assert losses[-1][0] < 0.9 * losses[0][0], losses
        assert compact[-1] < 0.9 * compact[0], compact
        self._all_lrs(LR)

    def _all_lrs(self, lr: float) -> None:
        for net in (self.net, self.compact):
            net.set_lr(lr / net.config.lr)
        self.peer.set_lr(lr)

    def run(self, batch: int, negatives: int) -> dict[str, Any]:
        rows = Rows(self.examples, batch)
        steps: dict[str, Callable[[int], object]] = {}
        nets = {OURS: self.net, COMPACT: self.compact}
        for name, net in nets.items():
            with_negatives(net, negatives)
            steps[name] = partial(_step, net, rows)
        for name, way in WAYS.items():
            steps[f"torch {name}"] = partial(self._torch_step, rows, negatives, way)
        for i in range(rounds()):
            self._active(rows, negatives, i)
        in_turn(steps, 0, 2)
        seconds = in_turn(steps, 2, rounds())
        seconds |= {name + AHEAD: self._ahead(net, batch) for name, net in nets.items()}
        active = len(self._active(rows, negatives, rounds() - 1).ids)
        return {"batch": batch, "negatives": negatives, "active": active, "seconds": seconds}

    def _ahead(self, net: Any, batch: int) -> list[float]:
        """Seconds a step, over WINDOW steps each, of our loop: the next batch is cut and prepared meanwhile."""
        from hashfold.train import Loader

        loader = Loader(self.examples, batch, 0, prepare=net.prepare)
        taken, step, began = [], 0, 0.0
        for epoch in range(-(-(rounds() + 1) * WINDOW // len(loader))):
            for cut in loader.epoch(epoch):
                if step % WINDOW == 0:
                    taken.append((time.perf_counter() - began) / WINDOW)
                    began = time.perf_counter()
                net.training_step(cut.x, cut.y, step, cut.prepared)
                step += 1
        return taken[2:]  # the first is from no time on, the second warms up

    def _torch_step(self, rows: Rows, negatives: int, way: tuple[bool, bool], i: int) -> None:
        self.peer.step(rows(i)[0], self._active(rows, negatives, i), *way)

    def _active(self, rows: Rows, negatives: int, i: int) -> Any:
        import torch

        key = (rows.batch, negatives, i)
        if key not in self._sets:
            self._sets[key] = self.net.select(torch.zeros(rows.batch, HIDDEN), rows(i)[1], i)
        return self._sets[key]

    def dense(self, batch: int = 256, steps: int = 2) -> dict[str, float]:
        """Seconds of PyTorch's step over all labels, the least of `steps` after one to warm up."""
        rows = Rows(self.examples, batch)
        all_of = self.net.output.all_active
        taken = {}
        for name in ("fp32", "bf16"):
            step = partial(self._dense_step, rows, all_of, name == "bf16")
            taken[name] = min(in_turn({name: step}, 0, 1 + steps)[name][1:])
        return taken

    def _dense_step(self, rows: Rows, all_of: Any, bf16: bool, i: int) -> None:
        x, y = rows(i)
        self.peer.step(x, all_of(y, len(x)), bf16, compact=True)


def check_small() -> None:
    """In float32 over 2,000 labels, some and all of them computed: both lose the same to a thousandth."""
    examples, _ = data(2_000, 512)
    for negatives in (500, 0):
        net = network(2_000, negatives, precision="fp32", lr=1e-2)
        peer, rows = TorchNetwork(net, 1e-2), Rows(examples, 256)
        for i in range(4):
            x, y = rows(i)
            theirs = peer.step(x, net.select(net.hidden(x), y, i), compact=i % 2 == 1)
            ours = float(net.training_step(x, y, seed=i).loss)
            assert abs(ours / theirs - 1) < 1e-3, (negatives, i, ours, theirs)


def growth(batch: int = 256) -> dict[str, Any]:
    """Rows a second at each number of labels, 4,096 negatives: the same steps, in turn."""
    nets, steps = {}, {}
    for labels in GROWTH:
        nets[labels] = network(labels, NEGATIVES[0])
        rows = Rows(data(labels, 12 * batch)[0], batch)
        steps[str(labels)] = partial(_step, nets[labels], rows)
    seconds = in_turn(steps, 0, 4 * rounds())
    return {labels: batch / min(taken[4:]) for labels, taken in seconds.items()}


def _step(net: Any, rows: Rows, i: int) -> None:
    net.training_step(*rows(i), seed=i)


def memory(rule: str, examples: Path) -> dict[str, float]:
    """Of a process of its own that trains, resident bytes: before the network is made, the most ever, at the
    end those that it wrote (without code mapped from the disk)."""
    from hashfold.memory import peak_bytes, resident_bytes

    rows = Rows(pickle.loads(examples.read_bytes()), BATCHES[0])
    before = peak_bytes()
    net = network(LABELS, NEGATIVES[0], optimizer=rule)
    for i in range(40):
        net.training_step(*rows(i), seed=i)
    weights = sum(p.numel() * 4 for p in net.parameters())
    sizes = {"before": before, "peak": peak_bytes(), "written": resident_bytes()}
    return {**sizes, "weights": weights, "least": 3 * weights}


def memory_apart(rule: str) -> dict[str, float]:
    with scratch() as folder:  # made here: what making rows takes is not what training takes
        file = folder / "rows"
        file.write_bytes(pickle.dumps(data(LABELS, 20 * BATCHES[0])[0]))
        command = [sys.executable, "-m", "benchmarks.end_to_end.huge_output", "memory", rule, str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def rows_a_second(run: dict[str, Any]) -> dict[str, float]:
    return {name: run["batch"] / min(taken) for name, taken in run["seconds"].items()}


def best_of(runs: list[dict[str, Any]], negatives: int) -> dict[str, Any]:
    """Rows a second of each contender at its best batch size, and of the best of PyTorch's ways."""
    speeds: dict[str, tuple[float, int]] = {}
    for run in runs:
        if run["negatives"] == negatives:
            for name, speed in rows_a_second(run).items():
                speeds[name] = max(speeds.get(name, (0.0, 0)), (speed, run["batch"]))
    torch_best = max((speed, name) for name, (speed, _) in speeds.items() if name.startswith("torch "))
    ours, compact = (max(speeds[name][0], speeds[name + AHEAD][0]) for name in RULES)
    return {
        "rows_a_second": {name: {"speed": speed, "batch": batch} for name, (speed, batch) in speeds.items()},
        "best_of_torch": torch_best[1],
        "against_best_of_torch": ours / torch_best[0],
        "compact_against_best_of_torch": compact / torch_best[0],
        "against_each": {name: ours / speed for name, (speed, _) in speeds.items()},
    }


def report(result: dict[str, Any]) -> None:
    names = list(result["runs"][0]["seconds"])
    table(
        ["batch", "negatives", "active", *(f"{name}, rows/s" for name in names)],
        [[r["batch"], r["negatives"], r["active"], *rows_a_second(r).values()] for r in result["runs"]],
    )
    for negatives, best in result["best"].items():
        times, compact = best["against_best_of_torch"], best["compact_against_best_of_torch"]
        print(f"{negatives} negatives: {times:.1f} x the best of PyTorch ({best['best_of_torch']})")
        print(f"with compact state {compact:.1f} x")
    print(f"dense PyTorch: {result['dense_rows_a_second']} rows/s; ours {result['against_dense']:.0f} x")
    table(["labels", "rows/s"], list(result["growth"].items()))
    for name, sizes in result["memory"].items():
        m = {what: size / 1e9 for what, size in sizes.items()}
        taken = (m["peak"] - m["before"]) / m["least"]
        written, process = m["written"] / m["least"], m["peak"] / m["least"]
        before = f"{m['before']:.2f} before the network"
        print(f"{name}: 3 x weights {m['least']:.2f} GB; {before}, peak {m['peak']:.2f}:")
        print(f"the network takes {taken:.2f} of 3 x weights, the whole process {process:.2f},")
        print(f"{written:.2f} without mapped code")


def main() -> None:
    import torch

    from hashfold.kernels import native

    if sys.argv[1:2] == ["memory"]:
        print(json.dumps(memory(sys.argv[2], Path(sys.argv[3]))))
        return
    torch.set_num_threads(native.num_threads())
    began = time.perf_counter()
    result: dict[str, Any] = {"memory": {name: memory_apart(rule) for name, rule in RULES.items()}}
    check_small()
    race = Race(LABELS, 12 * max(BATCHES))
    race.check()
    result["runs"] = [race.run(batch, negatives) for negatives in NEGATIVES for batch in BATCHES]
    dense = race.dense()
    del race
    result["best"] = {str(negatives): best_of(result["runs"], negatives) for negatives in NEGATIVES}
    result["dense_rows_a_second"] = {name: 256 / seconds for name, seconds in dense.items()}
    speeds = result["best"][str(NEGATIVES[0])]["rows_a_second"]
    fastest = max(speeds[OURS]["speed"], speeds[OURS + AHEAD]["speed"])
    result["against_dense"] = fastest / max(result["dense_rows_a_second"].values())
    result["growth"] = growth()
    result["median_ms"] = [{n: 1e3 * median(s) for n, s in run["seconds"].items()} for run in result["runs"]]
    result["seconds"] = time.perf_counter() - began
    write("huge_output", result)
    points = {"4,096 negatives, batch 256": [(int(labels), speed) for labels, speed in result["growth"].items()]}
    plot("huge_output_growth", points, "labels", "rows a second", "Training, 128 hidden", log_x=True)
    report(result)


if __name__ == "__main__":
    main()
