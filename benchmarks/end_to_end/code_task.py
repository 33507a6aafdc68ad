"""Next identifier in Python source, standard library and installed packages: classes, accuracy, recall of lookup.

Needs no data set. BENCH_EXAMPLES: training examples drawn (500000), BENCH_EPOCHS (3), BENCH_SEEDS.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from benchmarks.common import medians, seeds, table, write


def measure(seed: int) -> dict[str, Any]:
    from hashfold.data import python_source
    from hashfold.index import recall_at_k
    from hashfold.metrics import evaluate
    from hashfold.train import fit_model

    examples = int(os.environ.get("BENCH_EXAMPLES", "500000"))
    task = python_source(installed=True, max_examples=examples, seed=seed)
    overrides = {"seed": seed, "epochs": int(os.environ.get("BENCH_EPOCHS", "3"))}
    model, trained = fit_model(task.train, overrides=overrides, parts=("deep",))
    rows = np.random.default_rng(seed).permutation(len(task.test))[:20_000]
    some = task.test.take(np.sort(rows))
    figures: dict[str, Any] = {}
    for way, lookup in (("exact", False), ("lookup", True)):
        scored = evaluate(model.top_k(some.x, 5, lookup=lookup)[0], some.y, ks=(1, 5))
        # one label a row: R@5 is the share of rows whose label is among the five
        figures |= {f"{way} P@1": scored["P@1"], f"{way} P@5": scored["P@5"], f"{way} hit@5": scored["R@5"]}
    network = model.network
    queries = network.hidden(model.encode(some.x.take(np.arange(2_000)))).detach().numpy()
    report = recall_at_k(network.searcher(True), network.searcher(False), queries, 10, 10)
    return {
        "files": task.files,
        "classes": task.train.num_labels,
        "examples": len(task.train),
        **figures,
        "recall@10": report.recall,
        "scored": model.active_fraction(some.x.take(np.arange(2_000))),
        "train_seconds": trained.train_seconds,
        "peak_memory_gb": trained.peak_memory_bytes / 1e9,
    }


def main() -> None:
    runs = [measure(seed) for seed in seeds()]
    middle = medians(runs)
    write("code_task", {"runs": runs, "median": middle})
    table(["figure", "median"], middle.items())


if __name__ == "__main__":
    main()
