"""Deep, wide and near in one model, with no options but the files, beside linear trees: accuracy, seconds, sizes.

Each look-up is also left out in turn. HASHFOLD_DATA: folder of the data sets; BENCH_SETS (results of the others
stay), BENCH_SEEDS. BENCH_OMIKUJI: a Python that can import omikuji; its Parabel and Bonsai then run in between, on
the same threads and the same tf-idf rows (once each; BENCH_PEERS: which).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import chosen, data_folder, medians, scratch, seeds, table, train_and_eval, write, written

NEEDS = ("HASHFOLD_DATA",)

SETS = ("bibtex", "delicious", "citeulike-t", "eurlex57k", "acl-authors")
KEYS = ("P@1", "P@3", "P@5", "train_seconds", "folder_mb", "ms_per_row")


def peers(train: Path, test: Path) -> dict[str, dict[str, Any]]:
    """Figures of the peers that are installed, by name."""
    from hashfold.data import TfIdf, drop_unusable, read

    python = os.environ.get("BENCH_OMIKUJI")
    if not python:
        return {}
    rows = drop_unusable(read(train))[0]
    unseen = read(test, num_features=rows.num_features, num_labels=rows.num_labels)
    weighting = TfIdf.fit(rows.x)
    found = {}
    with scratch() as folder:
        for name, part in (("train", rows), ("test", unseen)):
            x = weighting.transform(part.x)
            arrays = {"indptr": x.indptr, "indices": x.indices, "values": x.values}
            labels = {"label_indptr": part.y.indptr, "labels": part.y.ids}
            np.savez(folder / f"{name}.npz", shape=[x.num_cols, part.y.num_ids], **arrays, **labels)
        script = Path(__file__).parents[1] / "peers" / "omikuji_trees.py"
        for kind in os.environ.get("BENCH_PEERS", "parabel,bonsai").split(","):
            done = subprocess.run([python, script, folder, kind], capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"omikuji {kind}: exit code {done.returncode}\n{done.stderr[-2000:]}")
            found[f"omikuji {kind}"] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    folder, result, rows, parts = data_folder(), written("three_lookups"), [], []
    for name in chosen(SETS):
        train, test = folder / name / "train.txt.xz", folder / name / "test.txt.xz"
        runs = [
            train_and_eval(train, test, "--seed", seed, "--threads", 2, evaluation=("--threads", "2"))
            for seed in seeds()
        ]
        beside = peers(train, test)
        result[name] = {"runs": runs, "median": medians(runs), "peers": beside}
        for who, figures in {"hashfold": medians(runs), **beside}.items():
            rows.append([name, who, *(figures[key] for key in KEYS)])
        for key in runs[0]["contributions"]:
            scores = [[run["contributions"][key][f"P@{k}"] for run in runs] for k in (1, 3, 5)]
            parts.append([name, key, *(float(np.median(score)) for score in scores)])
    write("three_lookups", result)
    table(["set", "model", "P@1", "P@3", "P@5", "train s", "folder MB", "predict ms/row"], rows)
    print()
    table(["set", "look-ups", "P@1", "P@3", "P@5"], parts)


if __name__ == "__main__":
    main()
