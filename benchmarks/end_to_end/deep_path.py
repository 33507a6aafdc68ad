"""The deep path through the command line, alone, with no options but the files: accuracy, seconds, memory.

HASHFOLD_DATA: folder of the data sets; BENCH_SETS, BENCH_SEEDS: which (results of the others stay), how often.
"""

from __future__ import annotations

from benchmarks.common import DEEP, chosen, data_folder, medians, seeds, table, train_and_eval, write, written

NEEDS = ("HASHFOLD_DATA",)

SETS = ("citeulike-t", "eurlex57k", "acl-authors")


def main() -> None:
    folder, result = data_folder(), written("deep_path")
    rows = []
    for name in chosen(SETS):
        train, test = folder / name / "train.txt.xz", folder / name / "test.txt.xz"
        runs = [train_and_eval(train, test, *DEEP, "--seed", seed, "--threads", 2) for seed in seeds()]
        middle = medians(runs)
        result[name] = {"runs": runs, "median": middle}
        keys = ("P@1", "P@3", "P@5", "train_seconds", "seconds", "peak_memory_gb", "ms_per_row")
        rows.append([name, *(middle[key] for key in keys), min(r["P@1"] for r in runs)])
    write("deep_path", result)
    table(["set", "P@1", "P@3", "P@5", "train s", "whole command s", "GB", "predict ms/row", "lowest P@1"], rows)


if __name__ == "__main__":
    main()
