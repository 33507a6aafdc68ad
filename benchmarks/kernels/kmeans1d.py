"""Exact k-means of numbers beside scikit-learn's KMeans: seconds, memory beside the input, and squared error.

One thread, each run in a process of its own: one million and ten million float32 of a normal, a Laplace and a
uniform distribution, 16 and 256 clusters. Memory is the peak of the process less what it held before, in units of
the input's; both are warmed up with 1,000 numbers first. scikit-learn starts by k-means++ once (n_init=1) and
stops by its default tolerance. The error is per number, of the means as they come, by one function for both; ours
must not be the larger. gap says how far above the optimum ours can be at most, by its own bound (0: it is the
optimum). BENCH_SIZES and BENCH_CLUSTERS choose.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.common import scratch, table, write

SIZES, CLUSTERS = (1_000_000, 10_000_000), (16, 256)
SHAPES = ("normal", "laplace", "uniform")
SKLEARN_AT_MOST = 16_000_000 * 16
"""Numbers times clusters; beyond, scikit-learn takes minutes and is left out."""


def numbers(shape: str, n: int, seed: int = 0) -> Any:
    import numpy as np

    rng = np.random.default_rng(seed)
    if shape == "laplace":
        magnitudes = rng.standard_exponential(n, dtype=np.float32)
        return np.copysign(magnitudes, rng.random(n, dtype=np.float32) - 0.5, out=magnitudes)
    return rng.standard_normal(n, dtype=np.float32) if shape == "normal" else rng.random(n, dtype=np.float32)


def ours(x: Any, k: int) -> tuple[Any, float]:
    from hashfold.kernels.kmeans1d import kmeans1d

    means, cost, bound = kmeans1d(x, k)
    return means, (cost - bound) / cost


def sklearn(x: Any, k: int) -> tuple[Any, float]:
    from sklearn.cluster import KMeans

    found = KMeans(k, n_init=1, random_state=0).fit(x[:, None])
    return found.cluster_centers_[:, 0], float("nan")


CONTENDERS = {"hashfold": ours, "sklearn": sklearn}


def error(x: Any, means: Any) -> float:
    """Mean squared distance to the nearest mean, in float64, block by block."""
    import numpy as np

    ascending = np.sort(means.astype(np.float64))
    middles, total = (ascending[1:] + ascending[:-1]) / 2, 0.0
    for block in np.array_split(x, 1 + len(x) // 1_000_000):
        total += float(((block - ascending[np.searchsorted(middles, block)]) ** 2).sum())
    return total / len(x)


def one(name: str, path: str, k: int) -> dict[str, float]:
    """In this process."""
    import numpy as np

    x = np.load(path)
    CONTENDERS[name](x[:1000], min(k, 16))
    before = peak_bytes()
    start = time.perf_counter()
    means, gap = CONTENDERS[name](x, k)
    seconds = time.perf_counter() - start
    memory = (peak_bytes() - before) / x.nbytes
    return {"seconds": seconds, "memory": memory, "error": error(x, means), "gap": gap}


def peak_bytes() -> int:
    """Of this program alone: what getrusage says, a process inherits from the one that started it."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024


def apart(name: str, path: Path, k: int) -> dict[str, float]:
    """In a process of its own, with one thread."""
    threads = dict.fromkeys(("HASHFOLD_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    command = [sys.executable, "-m", "benchmarks.kernels.kmeans1d", "--one", name, str(path), str(k)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **threads})
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def asked(variable: str, default: tuple[int, ...]) -> tuple[int, ...]:
    given = os.environ.get(variable)
    return tuple(int(value) for value in given.split(",")) if given else default


def compare(n: int, k: int, shape: str) -> list[dict[str, Any]]:
    import numpy as np

    runs: list[dict[str, Any]] = []
    with scratch() as folder:
        np.save(folder / "x.npy", numbers(shape, n))
        for name in CONTENDERS:
            if name == "hashfold" or n * k <= SKLEARN_AT_MOST:
                figures = apart(name, folder / "x.npy", k)
                runs.append({"by": name, "shape": shape, "n": n, "k": k, **figures})
    if any(run["error"] < runs[0]["error"] * (1 - 1e-6) for run in runs):
        sys.exit(f"wrong: the optimum is above what scikit-learn found: {runs}")
    return runs


def main() -> None:
    runs: list[dict[str, Any]] = []
    for n in asked("BENCH_SIZES", SIZES):
        for k in asked("BENCH_CLUSTERS", CLUSTERS):
            for shape in SHAPES:
                runs += compare(n, k, shape)
    write("kmeans1d", {"threads": 1, "runs": runs})
    columns = ("by", "n", "k", "shape", "seconds", "memory", "error", "gap")
    table(columns, [[run[column] for column in columns] for run in runs])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(sys.argv[2], sys.argv[3], int(sys.argv[4]))))
    else:
        main()
