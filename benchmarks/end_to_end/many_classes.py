"""Half a million classes: kowiki-articles (paragraph -> article), trained and scored through the command line.

HASHFOLD_DATA: folder of the data sets; BENCH_SEEDS.
"""

from __future__ import annotations

from benchmarks.common import data_folder, medians, seeds, table, train_and_eval, write


def main() -> None:
    folder = data_folder() / "kowiki-articles"
    runs = [
        train_and_eval(folder / "train.txt.xz", folder / "test.txt.xz", "--seed", seed, "--threads", 2)
        for seed in seeds()
    ]
    middle = medians(runs)
    write("many_classes", {"runs": runs, "median": middle})
    keys = ("P@1", "P@3", "P@5", "train_seconds", "peak_memory_gb", "folder_mb", "ms_per_row")
    table(
        ["set", "P@1", "P@3", "P@5", "train s", "GB", "folder MB", "predict ms/row"],
        [["kowiki-articles", *(middle[key] for key in keys)]],
    )


if __name__ == "__main__":
    main()
