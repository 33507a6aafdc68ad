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
    epochs = runs[0]["settings"]["training"]["epochs"]
    write("many_classes", {"runs": runs, "median": middle})
    keys = ("P@1", "P@3", "P@5", "train_seconds", "peak_memory_gb", "ms_per_row")
    table(
        ["set", "P@1", "P@3", "P@5", "train s", "GB", "predict ms/row", "s an epoch"],
        [["kowiki-articles", *(middle[key] for key in keys), middle["train_seconds"] / epochs]],
    )


if __name__ == "__main__":
    main()
