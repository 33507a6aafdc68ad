"""The same network, recipe and epochs, trained with all labels and with looked-up ones.

Ways: every label computed (dense); uniform negatives shared by the batch; those and negatives looked up by
each row's hidden vector. HASHFOLD_DATA: folder of the data sets; BENCH_SETS, BENCH_SEEDS.
"""

from __future__ import annotations

from benchmarks.common import DEEP, chosen, data_folder, medians, seeds, table, train_and_eval, write

NEEDS = ("HASHFOLD_DATA",)

RECIPES = {
    "citeulike-t": ("--loss", "sigmoid", "--hidden", 256, "--dropout", 0.3, "--epochs", 12),
    "eurlex57k": ("--loss", "sigmoid", "--hidden", 512, "--dropout", 0.5, "--epochs", 9),
}
SAMPLED = {"citeulike-t": 4096, "eurlex57k": 1024}


def ways(name: str) -> dict[str, tuple[object, ...]]:
    sampled = ("--negatives", SAMPLED[name])
    return {
        "dense": ("--negatives", 0),
        "uniform": (*sampled, "--hard-negatives", 0),
        "looked up (clusters)": (*sampled, "--hard-negatives", 8, "--index", "clustered"),
        "looked up (SimHash)": (*sampled, "--hard-negatives", 8, "--index", "lsh"),
    }


def main() -> None:
    folder, result, rows = data_folder(), {}, []
    for name in chosen(tuple(RECIPES)):
        train, test = folder / name / "train.txt.xz", folder / name / "test.txt.xz"
        for way, options in ways(name).items():
            fixed = (*DEEP, *RECIPES[name], *options, "--threads", 2)
            runs = [train_and_eval(train, test, *fixed, "--seed", seed) for seed in seeds()]
            middle = medians(runs)
            result[f"{name}: {way}"] = {"runs": runs, "median": middle}
            keys = ("P@1", "P@3", "P@5", "train_seconds", "peak_memory_gb")
            rows.append([name, way, *(middle[key] for key in keys)])
    write("lookup_and_dense", result)
    table(["set", "labels computed", "P@1", "P@3", "P@5", "train s", "GB"], rows)


if __name__ == "__main__":
    main()
