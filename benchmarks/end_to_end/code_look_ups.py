"""Next identifier in Python source, standard library: what each look-up adds, and what it costs.

Needs no data set. BENCH_EXAMPLES: training examples drawn (300000), BENCH_SEEDS.
"""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

from benchmarks.common import seeds, table, write

SHOWN = 20_000  # test rows


def measure(seed: int) -> dict[str, Any]:
    from hashfold.data import python_source
    from hashfold.memory import peak_bytes
    from hashfold.train import fit_model

    examples = int(os.environ.get("BENCH_EXAMPLES", "300000"))
    task = python_source(max_examples=examples, seed=seed)
    began = time.perf_counter()
    model, trained = fit_model(task.train, overrides={"seed": seed})
    seconds = time.perf_counter() - began
    rows = np.random.default_rng(seed).permutation(len(task.test))[:SHOWN]
    some = task.test.take(np.sort(rows))
    return {
        "files": task.files,
        "classes": task.train.num_labels,
        "examples": len(task.train),
        "seconds": seconds,
        "network_seconds": trained.train_seconds,
        "peak_memory_gb": peak_bytes() / 1e9,
        "look_ups": {key: _scored(model, some, key.split("+")) for key in model.lookups.choices},
    }


def _scored(model: Any, rows: Any, parts: list[str]) -> dict[str, float]:
    """One label a row: P@1, the share of rows whose label is among the first five, ms a row in a batch."""
    scored = model.evaluate(rows, ks=(1, 5), parts=parts, candidates=False)
    return {"P@1": scored["P@1"], "hit@5": scored["R@5"], "ms_per_row": scored["ms_per_row"]}


def main() -> None:
    runs = [measure(seed) for seed in seeds()]
    middle = {
        key: {name: float(np.median([run["look_ups"][key][name] for run in runs])) for name in figures}
        for key, figures in runs[0]["look_ups"].items()
    }
    write("code_look_ups", {"runs": runs, "median": middle})
    table(["look-ups", "P@1", "hit@5", "ms a row"], [[key, *figures.values()] for key, figures in middle.items()])
    costs = ("classes", "examples", "seconds", "network_seconds", "peak_memory_gb")
    print()
    table(costs, [[run[name] for name in costs] for run in runs])


if __name__ == "__main__":
    main()
