"""faiss and hnswlib over a layer, a row at a time on one thread; for `kernels.lookup_scan`, in their own Python.

Argument: an .npz file with vectors (n, dim), queries (rows, dim) and truth (rows, 10), the ids of the largest
inner products. Reads requests, one JSON object a line, and answers each with one: {"index": name} builds it;
{"index": name, "setting": number} is one pass over the queries.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

THREADS = int(os.environ.get("BENCH_BUILD_THREADS", "2"))
SETTINGS = {
    "faiss IVF": [2, 4, 8, 16, 32, 64, 128, 256, 512],
    "faiss IVF, 8 bits": [2, 4, 8, 16, 32, 64, 128, 256, 512],
    "faiss HNSW": [16, 32, 64, 128, 256, 512],
    "hnswlib": [16, 32, 64, 128, 256, 512],
}
EF_CONSTRUCTION = int(os.environ.get("BENCH_EF_CONSTRUCTION", "100"))
Search = Callable[[Any, int], Any]  # (1, dim) queries, k -> ids


def faiss_ivf(vectors: Any, bits8: bool) -> tuple[Search, Callable[[int], None], int]:
    import faiss

    faiss.omp_set_num_threads(THREADS)
    count, dim = vectors.shape
    cells = 1 << max(4, round(np.log2(2 * np.sqrt(count))))  # 1,024 for 103,602 and 2,048 for 670,091 items
    quantizer = faiss.IndexFlatIP(dim)
    if bits8:
        kind = faiss.ScalarQuantizer.QT_8bit
        index = faiss.IndexIVFScalarQuantizer(quantizer, dim, cells, kind, faiss.METRIC_INNER_PRODUCT)
    else:
        index = faiss.IndexIVFFlat(quantizer, dim, cells, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    faiss.omp_set_num_threads(1)

    def prepare(setting: int) -> None:
        index.nprobe = setting

    return lambda x, k: index.search(x, k)[1], prepare, len(faiss.serialize_index(index))


def faiss_hnsw(vectors: Any) -> tuple[Search, Callable[[int], None], int]:
    import faiss

    faiss.omp_set_num_threads(THREADS)
    index = faiss.IndexHNSWFlat(vectors.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = EF_CONSTRUCTION
    index.add(vectors)
    faiss.omp_set_num_threads(1)

    def prepare(setting: int) -> None:
        index.hnsw.efSearch = setting

    return lambda x, k: index.search(x, k)[1], prepare, len(faiss.serialize_index(index))


def hnswlib_index(vectors: Any) -> tuple[Search, Callable[[int], None], int]:
    import hnswlib

    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), ef_construction=EF_CONSTRUCTION, M=16)
    index.set_num_threads(THREADS)
    index.add_items(vectors)
    index.set_num_threads(1)
    return lambda x, k: index.knn_query(x, k=k)[0], index.set_ef, index.index_file_size()


BUILDERS: dict[str, Callable[[Any], tuple[Search, Callable[[int], None], int]]] = {
    "faiss IVF": lambda vectors: faiss_ivf(vectors, bits8=False),
    "faiss IVF, 8 bits": lambda vectors: faiss_ivf(vectors, bits8=True),
    "faiss HNSW": faiss_hnsw,
    "hnswlib": hnswlib_index,
}


def one_pass(search: Search, queries: Any, truth: Any) -> dict[str, float]:
    """Recall of the best 10, and microseconds of CPU a row for the best 5."""
    rows = [queries[i : i + 1] for i in range(len(queries))]
    found = [search(row, 10)[0] for row in rows]
    recall = {
        f"recall@{k}": float(np.mean([np.isin(t[:k], f[:k]).mean() for t, f in zip(truth, found, strict=True)]))
        for k in (1, 5, 10)
    }
    start = time.thread_time()
    for row in rows:
        search(row, 5)
    return {**recall, "us": 1e6 * (time.thread_time() - start) / len(rows)}


def main() -> None:
    data = np.load(sys.argv[1])
    vectors, queries, truth = data["vectors"], data["queries"], data["truth"]
    built: dict[str, tuple[Search, Callable[[int], None], int]] = {}
    for line in sys.stdin:
        request = json.loads(line)
        name = request["index"]
        if "setting" in request:
            search, prepare, _ = built[name]
            prepare(request["setting"])
            answer: dict[str, Any] = one_pass(search, queries, truth)
        else:
            start = time.perf_counter(), time.process_time()
            built[name] = BUILDERS[name](vectors)
            seconds = time.perf_counter() - start[0], time.process_time() - start[1]
            answer = {"build_seconds": seconds[0], "build_cpu_seconds": seconds[1], "mb": built[name][2] / 1e6}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
