"""Half a million classes: kowiki-articles (paragraph -> article), trained and scored through the command line.

Its labels have 1.4 rows each, so that by default no network is trained; `--with deep` trains one.
HASHFOLD_DATA: folder of the data sets; BENCH_SEEDS; BENCH_MODELS: which of default and with-deep.
"""

from __future__ import annotations

import os
from typing import Any

from benchmarks.common import data_folder, medians, seeds, table, train_and_eval, write

NEEDS = ("HASHFOLD_DATA",)

MODELS = {"default": (), "with-deep": ("--with", "deep")}
KEYS = ("P@1", "P@3", "P@5", "recall@100", "train_seconds", "peak_memory_gb", "folder_mb", "ms_per_row")


def main() -> None:
    folder = data_folder() / "kowiki-articles"
    chosen = os.environ.get("BENCH_MODELS", ",".join(MODELS)).split(",")
    result: dict[str, Any] = {}
    for name in chosen:
        runs = [
            train_and_eval(
                *(folder / f"{part}.txt.xz" for part in ("train", "test")),
                *("--seed", seed, "--threads", 2, *MODELS[name]),
                evaluation=("--threads", "2"),
            )
            for seed in seeds()
        ]
        result[name] = {"runs": runs, "median": medians(runs)}
        write("many_classes", result)
    header = ["P@1", "P@3", "P@5", "recall@100", "train s", "GB", "folder MB", "predict ms/row"]
    table(["model", *header], [[name, *(result[name]["median"][key] for key in KEYS)] for name in chosen])
    print()
    parts = [
        [name, key, *scores.values()]
        for name in chosen
        for key, scores in result[name]["runs"][0]["contributions"].items()
    ]
    table(["model", "look-ups", "P@1", "P@3", "P@5"], parts)


if __name__ == "__main__":
    main()
