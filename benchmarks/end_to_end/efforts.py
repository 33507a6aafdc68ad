"""What `--effort low`, `normal` and `high` give and cost: three look-ups in one model, one seed.

HASHFOLD_DATA: folder of the data sets; BENCH_SETS, BENCH_SEEDS (the first is used), BENCH_EFFORTS.
"""

from __future__ import annotations

import os
from typing import Any

from benchmarks.common import chosen, data_folder, seeds, table, train_and_eval, write

NEEDS = ("HASHFOLD_DATA",)

SETS = ("bibtex", "delicious", "citeulike-t", "eurlex57k", "acl-authors")
KEYS = ("P@1", "P@3", "P@5", "train_seconds", "folder_mb", "ms_per_row")


def main() -> None:
    folder, result = data_folder(), {}
    rows = []
    for name in chosen(SETS):
        train, test = folder / name / "train.txt.xz", folder / name / "test.txt.xz"
        runs: dict[str, Any] = {}
        for effort in os.environ.get("BENCH_EFFORTS", "low,normal,high").split(","):
            options = ("--effort", effort, "--seed", seeds()[0], "--threads", 2)
            runs[effort] = train_and_eval(train, test, *options, evaluation=("--threads", "2"))
            rows.append([name, effort, *(runs[effort][key] for key in KEYS)])
        result[name] = runs
    write("efforts", result)
    table(["set", "effort", "P@1", "P@3", "P@5", "train s", "folder MB", "predict ms/row"], rows)


if __name__ == "__main__":
    main()
