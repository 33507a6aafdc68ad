"""The best k of all labels, every one scored: rows in 8 bits, in 32, and torch's matmul and topk.

Two shapes: 103,602 x 256 (acl-authors) and 670,091 x 128, and one row and a batch. Queries are hidden vectors as
behind a relu. Times are the best of BENCH_ROUNDS (7) taken in turn; answers are compared before the clock starts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.common import table, write

SHAPES = ((103_602, 256), (670_091, 128))
BATCH, K = 256, 5


def rounds() -> int:
    return int(os.environ.get("BENCH_ROUNDS", "7"))


def gaussian(num_items: int, dim: int, rows: int) -> tuple[Any, Any, Any]:
    """Hidden vectors, label vectors whose lengths spread as trained ones do, biases."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((num_items, dim), np.float32) * rng.uniform(0.5, 2, (num_items, 1)).astype("f")
    x = np.maximum(rng.standard_normal((rows, dim), np.float32), 0)
    return x, vectors, rng.standard_normal(num_items, np.float32)


def agreement(rough: Any, exact: Any) -> dict[str, float]:
    """recall@100 and the share of rows with the same best item; both (rows, 100) ids, best first."""
    shared = [len(np.intersect1d(a, b)) for a, b in zip(rough, exact, strict=True)]
    return {"recall@100": float(np.mean(shared) / 100), "same_best": float((rough[:, 0] == exact[:, 0]).mean())}


def best_of(contenders: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    """Seconds of each, the least over rounds that take them in turn."""
    least = dict.fromkeys(contenders, float("inf"))
    for _ in range(rounds()):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            least[name] = min(least[name], time.perf_counter() - start)
    return least


def measure(num_items: int, dim: int) -> dict[str, Any]:
    import torch

    from hashfold.index.topk import top_k
    from hashfold.kernels.quantized import QuantizedRows

    x, vectors, bias = gaussian(num_items, dim, BATCH)
    items = QuantizedRows.quantize(vectors)
    weight, offsets = torch.from_numpy(vectors), torch.from_numpy(bias)

    def dense(rows: Any, k: int = K) -> Any:
        return torch.topk(torch.addmm(offsets, torch.from_numpy(rows), weight.T), k)

    ours, torchs = top_k(x, vectors, bias, K)[1], dense(x).values.numpy()
    np.testing.assert_allclose(ours, torchs, rtol=1e-4, atol=1e-3)
    ids = [top_k(x, rows, bias, 100)[0] for rows in (items, vectors)]
    found: dict[str, Any] = {"items": num_items, "dim": dim, **agreement(*ids)}
    assert found["recall@100"] > 0.95, found
    for name, rows in (("batch", x), ("one_row", x[:1])):
        contenders = {
            "int8": lambda rows=rows: top_k(rows, items, bias, K),
            "fp32": lambda rows=rows: top_k(rows, vectors, bias, K),
            "torch": lambda rows=rows: dense(rows),
        }
        found[name] = {n: 1e3 * seconds / len(rows) for n, seconds in best_of(contenders).items()}
    return found


def main() -> None:
    import torch

    from hashfold.kernels import native

    torch.set_num_threads(native.num_threads())
    runs = [measure(*shape) for shape in SHAPES]
    write("exact_scan", {"batch": BATCH, "k": K, "unit": "ms a row", "runs": runs})
    rows = []
    for run in runs:
        for name in ("batch", "one_row"):
            ms = run[name]
            ratios = [ms["fp32"] / ms["int8"], ms["torch"] / ms["int8"]]
            rows.append([f"{run['items']:,} x {run['dim']}, {name}", *ms.values(), *ratios])
    table(["scan, ms a row", "int8", "fp32", "torch", "fp32 / int8", "torch / int8"], rows)
    table(
        ["agreement with fp32", "recall@100", "same best"],
        [[f"{run['items']:,} x {run['dim']}", run["recall@100"], run["same_best"]] for run in runs],
    )


if __name__ == "__main__":
    main()
