"""A whole trained model folded to a few sizes: accuracy, bytes on disk, memory of the loaded model.

HASHFOLD_DATA; BENCH_SETS (results of the others stay); BENCH_MODELS: folder of models trained before, by the name
of their set (otherwise each is trained).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.common import chosen, data_folder, hashfold, scratch, table, write, written

NEEDS = ("HASHFOLD_DATA",)
MEGABYTES = {"eurlex57k": (3, 4, 6), "acl-authors": (15, 20, 30)}
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


def main() -> None:
    folder, result, rows = data_folder(), written("whole_model"), []
    for name in chosen(tuple(MEGABYTES)):
        train, test = folder / name / "train.txt.xz", folder / name / "test.txt.xz"
        with scratch() as made:
            trained = os.environ.get("BENCH_MODELS")
            whole = Path(trained) / name if trained else made / "whole"
            if not trained:
                hashfold("train", train, "-o", whole, "--quiet")
            result[name] = {"whole": figures(whole, test)}
            for most in MEGABYTES[name]:
                small = made / f"small-{most}"
                fold = hashfold("compress", whole, "-o", small, "--megabytes", most)["fold"]
                result[name][f"{most} MB"] = {"fold": fold, **figures(small, test)}
        for who, found in result[name].items():
            keys = ("P@1", "P@3", "P@5", "folder_mb", "resident_mb", "ms_per_row")
            rows.append([name, who, json.dumps(found.get("fold", {})), *(found[key] for key in keys)])
        write("whole_model", result)
    table(["set", "most", "fold", "P@1", "P@3", "P@5", "folder MB", "resident MB", "ms/row"], rows)


if __name__ == "__main__":
    main()
