"""Nearest training rows by every row index: recall@20 against exact search, time and bytes a row.

HASHFOLD_DATA with the sets; BENCH_SETS; BENCH_ROWS queries of the test rows, 2,000 if not said. Each index is
asked for its answers before the clock starts: scores must be inner products with the stored rows.
"""

from __future__ import annotations

import os
import time
from typing import Any

from benchmarks.common import chosen, data_folder, table, write

NEEDS = ("HASHFOLD_DATA",)

SETS = ("citeulike-t", "acl-authors", "eurlex57k")
K, ROUNDS = 20, 5
# Each index as it is by default, and the neighbouring points of its trade-off.
SETTINGS: tuple[tuple[str, dict[str, int]], ...] = (
    ("inverted", {}),
    ("pruned", {}),
    ("pruned", {"budget": 20_000}),
    ("pruned", {"budget": 20_000, "pool": 100}),
    ("pruned", {"budget": 80_000}),
    ("minhash", {}),
    ("minhash", {"num_tables": 64}),
    ("minhash", {"pool": 800, "budget": 160_000}),
    ("minhash", {"hashes_per_table": 2}),
    ("simhash", {}),
    ("simhash", {"hashes_per_table": 6}),
    ("packed", {}),
    ("packed, fitted", {"bits": 2}),
)


def rows_of(name: str) -> tuple[Any, Any]:
    """Training and test rows as the model sees them: tf-idf."""
    from hashfold.data import TfIdf, read

    folder = data_folder() / name
    train = read(folder / "train.txt.xz")
    test = read(folder / "test.txt.xz", num_features=train.num_features, num_labels=train.num_labels)
    tfidf = TfIdf.fit(train.x)
    return tfidf.transform(train.x), tfidf.transform(test.x)


def filled(name: str, train: Any, options: dict[str, int]) -> Any:
    from hashfold.index import PackedRowIndex, make_row_index

    if name == "packed, fitted":
        return PackedRowIndex.of(train, **options)
    index = make_row_index(name, train.num_cols, **options)
    index.add(train)
    return index


def recall(found: Any, truth: Any) -> float:
    """Share of the truly nearest rows that were found."""
    import numpy as np

    hits = sum(len(np.intersect1d(found[i], truth[i])) for i in range(len(truth)))
    return hits / max(1, len(truth.ids))


def check(index: Any, queries: Any, found: Any) -> None:
    """Scores are inner products with the stored rows, of the first queries at least."""
    import numpy as np

    some = queries.take(np.arange(min(50, len(queries))))
    products = (some.to_scipy() @ index.rows().to_scipy().T).toarray()
    for i in range(len(some)):
        scores = found.scores[found.indptr[i] : found.indptr[i + 1]]
        np.testing.assert_allclose(scores, products[i, found[i]], rtol=1e-4)


def milliseconds_a_row(indexes: list[Any], queries: Any) -> list[float]:
    """The best of ROUNDS for each index; in turn, so that other work on the machine meets all alike."""
    best = [float("inf")] * len(indexes)
    for _ in range(ROUNDS):
        for i, index in enumerate(indexes):
            start = time.perf_counter()
            index.query(queries, K)
            best[i] = min(best[i], 1000 * (time.perf_counter() - start) / len(queries))
    return best


def measure(name: str) -> list[dict[str, Any]]:
    import numpy as np

    train, test = rows_of(name)
    count = min(len(test), int(os.environ.get("BENCH_ROWS", "2000")))
    queries = test.take(np.sort(np.random.default_rng(0).choice(len(test), count, replace=False)))
    figures: list[dict[str, Any]] = []
    indexes: list[Any] = []
    truth = None  # the first one's answer: it is exact
    for index_name, options in SETTINGS:
        start = time.perf_counter()
        index = filled(index_name, train, options)
        build_seconds = time.perf_counter() - start
        indexes.append(index)
        found = index.query(queries, K)
        check(index, queries, found)
        truth = truth or found
        figures.append(
            {
                "set": name,
                "index": index_name,
                "options": options,
                "recall": recall(found, truth),
                "rows_met": float(found.found.mean()),
                "bytes_per_row": index.nbytes / len(index),
                "stored_bytes_per_row": index.row_nbytes / len(index),
                "build_seconds": build_seconds,
            }
        )
    times = milliseconds_a_row(indexes, queries)
    return [f | {"ms_per_row": ms} for f, ms in zip(figures, times, strict=True)]


def main() -> None:
    figures = [f for name in chosen(SETS) for f in measure(name)]
    write("neighbours", {"k": K, "figures": figures})
    table(
        [
            "set",
            "index",
            "options",
            f"recall@{K}",
            "ms a row",
            "rows met",
            "bytes a row",
            "of them stored",
            "build s",
        ],
        (
            [
                f["set"],
                f["index"],
                " ".join(f"{k}={v}" for k, v in f["options"].items()),
                *(f[k] for k in ("recall", "ms_per_row", "rows_met", "bytes_per_row", "stored_bytes_per_row")),
                f["build_seconds"],
            ]
            for f in figures
        ),
    )


if __name__ == "__main__":
    main()
