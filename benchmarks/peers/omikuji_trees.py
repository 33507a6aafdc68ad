"""omikuji's Parabel and Bonsai on rows that `three_lookups` wrote; run by a Python that has omikuji and NumPy.

Arguments: the folder with train.npz and test.npz, and "parabel" or "bonsai". Prints one JSON object.
"""

import json
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import omikuji

THREADS = 2


def lists(indptr, *columns):
    for start, end in pairwise(indptr):
        yield tuple(column[start:end].tolist() for column in columns)


def write_rows(data, path):
    features, labels = data["shape"].tolist()
    with path.open("w") as file:
        file.write(f"{len(data['indptr']) - 1} {features} {labels}\n")
        rows = zip(
            lists(data["label_indptr"], data["labels"]),
            lists(data["indptr"], data["indices"], data["values"]),
            strict=True,
        )
        for (ids,), (indices, values) in rows:
            pairs = " ".join(f"{i}:{v:.6g}" for i, v in zip(indices, values, strict=True))
            file.write(",".join(map(str, ids)) + " " + pairs + "\n")


def main(folder, kind):
    train, test = (dict(np.load(folder / f"{name}.npz")) for name in ("train", "test"))
    write_rows(train, folder / "train.txt")
    settings = omikuji.Model.default_hyper_param()
    if kind == "bonsai":
        settings.cluster_k, settings.cluster_balanced, settings.max_depth = 100, False, 3
    start = time.perf_counter()
    model = omikuji.Model.train_on_data(str(folder / "train.txt"), settings, n_threads=THREADS)
    seconds = time.perf_counter() - start
    model.save(str(folder / kind))
    start, hits = time.perf_counter(), np.zeros(5)
    rows = list(lists(test["indptr"], test["indices"], test["values"]))
    for (indices, values), (true,) in zip(rows, lists(test["label_indptr"], test["labels"]), strict=True):
        best = model.predict(list(zip(indices, values, strict=True)), top_k=5)
        hits[: len(best)] += [label in true for label, _ in best]
    predicting = time.perf_counter() - start
    precision = np.cumsum(hits) / np.arange(1, 6) / len(rows)
    print(
        json.dumps(
            {
                "P@1": precision[0],
                "P@3": precision[2],
                "P@5": precision[4],
                "train_seconds": seconds,
                "folder_mb": sum(file.stat().st_size for file in (folder / kind).iterdir()) / 1e6,
                "ms_per_row": 1e3 * predicting / len(rows),
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
