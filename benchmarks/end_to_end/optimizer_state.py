"""Smaller optimizer state: accuracy, CPU seconds and bytes of a network trained with each rule, BENCH_SEEDS.

128 hidden, 1,024 uniform negatives, dropout .3, cosine decay, labels of five rows or more, started at their rows;
softmax, for eurlex57k sigmoid. All rules take the same rows in the same order from the same weights. BENCH_SETS;
BENCH_RATES: instead of each rule's own, which was chosen with BENCH_HELD_OUT=1: then rows carved out of train are
scored, instead of test rows.
"""

from __future__ import annotations

import os
import time
from statistics import mean
from typing import Any, NamedTuple

import numpy as np

from benchmarks.common import chosen, seeds, table, write
from benchmarks.end_to_end import huge_output
from benchmarks.end_to_end.time_to_accuracy import DROPOUT, FEW, START, examples

NEEDS = ("HASHFOLD_DATA",)
NEGATIVES, HELD_OUT = 1024, 4000
FIGURES = ("P@1", "P@3", "P@5")


class Task(NamedTuple):
    epochs: int
    loss: str = "softmax"


SETS = {"citeulike-t": Task(6), "acl-authors": Task(4), "eurlex57k": Task(4, "sigmoid")}
RATES = {"adam": 1e-2, "rowwise_adam": 1e-2, "compact_adam": 1e-2, "rowwise_adagrad": 1e-1}


def state_bytes(net: Any) -> int:
    return sum(s.nbytes for state in net.optimizer.state.values() for s in state.values())


def parts(name: str) -> tuple[Any, Any]:
    """Rows to train on and rows to score."""
    train, test = examples(name, None)
    if "BENCH_HELD_OUT" not in os.environ:
        return train, test
    order = np.random.default_rng(0).permutation(len(train))
    return train.take(np.sort(order[HELD_OUT:])), train.take(np.sort(order[:HELD_OUT]))


def run(name: str, train: Any, test: Any, rule: str, lr: float, seed: int) -> dict[str, float]:
    from hashfold.data import label_counts
    from hashfold.metrics import evaluate
    from hashfold.model import LookupNetwork, NetworkConfig, Outputs
    from hashfold.train import TrainConfig, fit

    outputs, task = Outputs.with_rows(label_counts(train.y), FEW), SETS[name]
    train = outputs.learned(train)
    settings: dict[str, Any] = {"hidden": huge_output.HIDDEN, "negatives": NEGATIVES, "dropout": DROPOUT}
    settings |= {"loss": task.loss, "optimizer": rule, "lr": lr, "label_start": START, "seed": seed}
    net = LookupNetwork(NetworkConfig(train.num_features, train.num_labels, **settings))
    net.set_label_prior(label_counts(train.y), len(train))
    net.start_labels(train.x, train.y)
    began = time.process_time()
    fit(net, train, config=TrainConfig(epochs=task.epochs, batch_size=256, seed=seed))
    seconds = time.process_time() - began
    scores = evaluate(outputs.labels(net.top_k(test.x, 5)[0]), test.y, ks=(1, 3, 5))
    weights = sum(p.numel() * 4 for p in net.parameters())
    figures = {key: scores[key] for key in FIGURES}
    return figures | {"CPU seconds": seconds, "state / weights": state_bytes(net) / weights}


def rates(own: float) -> list[float]:
    asked = os.environ.get("BENCH_RATES")
    return [float(rate) for rate in asked.split(",")] if asked else [own]


def main() -> None:
    result: dict[str, Any] = {}
    rows = []
    for name in chosen(list(SETS)):
        train, test = parts(name)
        for rule, own in RATES.items():
            for lr in rates(own):
                runs = [run(name, train, test, rule, lr, seed) for seed in seeds()]
                result.setdefault(name, {})[f"{rule}, {lr:g}"] = runs
                spread = max(r["P@1"] for r in runs) - min(r["P@1"] for r in runs)
                rows.append([name, rule, lr, *(mean(r[key] for r in runs) for key in runs[0]), spread])
    table(["set", "rule", "rate", *FIGURES, "CPU s", "state / weights", "P@1: most less least"], rows)
    if "BENCH_HELD_OUT" not in os.environ:
        write("optimizer_state", {"runs": result})


if __name__ == "__main__":
    main()
