"""A whole trained model folded to a few sizes: accuracy, bytes on disk, memory of the loaded model.

HASHFOLD_DATA; BENCH_SETS (results of the others stay); BENCH_SEEDS: a model each, and the table has the medians;
BENCH_MEGABYTES: the sizes (by default some, of each set).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.common import chosen, data_folder, hashfold, medians, scratch, seeds, table, write, written

NEEDS = ("HASHFOLD_DATA",)
MEGABYTES = {"eurlex57k": (3, 4, 6), "acl-authors": (15, 20, 30)}
KEYS = ("P@1", "P@3", "P@5", "folder_mb", "resident_mb", "ms_per_row", "seconds")
MEMORY = """
import ctypes, gc, sys, numpy
from hashfold import memory
from hashfold.model import HashfoldModel
def resident():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return memory.resident_bytes()
small = HashfoldModel.load(sys.argv[1])
rows = small.read(sys.argv[3]).x.take(numpy.arange(64))
small.top_k(rows, 5)
del small
base = resident()
model = HashfoldModel.load(sys.argv[2])
model.top_k(rows, 5)
print(resident() - base)
"""
"""What a second model adds to a process that has loaded one, predicted with it and let it go."""


def resident_mb(model: Path, test: Path) -> float:
    command = [sys.executable, "-c", MEMORY, *map(str, (model, model, test))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout) / 1e6


def figures(model: Path, test: Path) -> dict[str, Any]:
    scored = hashfold("eval", model, test)
    found = {key: scored[key] for key in ("P@1", "P@3", "P@5", "ms_per_row", "contributions")}
    disk = sum(file.stat().st_size for file in model.iterdir()) / 1e6
    return found | {"folder_mb": disk, "resident_mb": resident_mb(model, test)}


def folded(train: Path, test: Path, seed: int, sizes: Iterable[float]) -> dict[str, dict[str, Any]]:
    """Figures of a model trained with this seed, and of what is made of it, by size."""
    with scratch() as made:
        whole = made / "whole"
        hashfold("train", train, "-o", whole, "--quiet", "--seed", seed)
        found = {"whole": figures(whole, test)}
        for most in sizes:
            small = made / f"small-{most:g}"
            began = time.perf_counter()
            fold = hashfold("compress", whole, "-o", small, "--megabytes", most)["fold"]
            seconds = time.perf_counter() - began
            found[f"{most:g} MB"] = {"fold": fold, "seconds": seconds, **figures(small, test)}
        return found


def main() -> None:
    folder, result, rows = data_folder(), written("whole_model"), []
    asked = os.environ.get("BENCH_MEGABYTES")
    for name in chosen(tuple(MEGABYTES)):
        train, test = folder / name / "train.txt.xz", folder / name / "test.txt.xz"
        sizes = [float(most) for most in asked.split(",")] if asked else MEGABYTES[name]
        runs = [folded(train, test, seed, sizes) for seed in seeds()]
        result[name] = {who: {"runs": [run[who] for run in runs]} for who in runs[0]}
        for who, found in result[name].items():
            found["median"] = medians(found["runs"])
            rows.append([name, who, *(found["median"].get(key, 0.0) for key in KEYS)])
        write("whole_model", result)
    table(["set", "most", "P@1", "P@3", "P@5", "folder MB", "resident MB", "ms/row", "fold s"], rows)


if __name__ == "__main__":
    main()
