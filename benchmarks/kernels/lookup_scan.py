"""Labels looked up for one row on one thread: recall against time and share scored, for each index and its peers.

Layers: "synthetic", 670,091 x 128, made up (clusters in clusters, one norm; queries near labels), and, trained to
be looked up, with test rows as queries, acl-authors and kowiki-articles (513,884 x 128, from a start at the topics
of its rows; see kernels/layers.py); BENCH_SETS: which. HASHFOLD_DATA: folder of the data sets; BENCH_LAYERS: a
folder where trained layers are kept. Peers take turns with ours, in an
environment of their own: `make peers` sets one up, BENCH_PEERS_PYTHON names another Python with faiss and hnswlib;
BENCH_NEAREST: which of "faiss IVF;faiss IVF, 8 bits;faiss HNSW;hnswlib" (the graphs take minutes to build).
Settings of an index rise until it finds .98. Times are the best of BENCH_ROUNDS (3), in CPU microseconds of the
one thread; a setting counts if it finds .95 of the true best five. Layers that are not measured keep their figures
in the results.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import chosen, machine, scratch, table, write, written
from benchmarks.kernels.layers import HIDDEN, ROWS, synthetic, trained
from benchmarks.peers.nearest import SETTINGS, one_pass

MANY_PROBES = 256  # of clusters in all branches
FEW_ROWS, ENOUGH, PLENTY = 50, 0.95, 0.98  # few where every label is scored
PEERS_PYTHON = Path(__file__).parents[2] / ".venv" / "peers" / "bin" / "python"
OURS: dict[str, tuple[str, dict[str, Any], list[Any]]] = {
    "tree": ("tree", {}, [4, 8, 12, 16, 24, 32, 40, 48, 64, 96, 128, 256, 512, 1024]),
    "clustered": ("clustered", {}, [4, 8, 16, 32, 64, 128]),
    "clustered, 8 bits": ("clustered", {"precision": "int8"}, [4, 8, 16, 32, 64, 128]),
    "lsh, reranked": ("lsh", {"rerank": True, "lift": "norm", "pool": 200, "hashes_per_table": 14}, [32]),
    "exact, 8 bits": ("exact", {"precision": "int8"}, [None]),
    "exact": ("exact", {}, [None]),
}


class Ours:
    """The indexes of the registry, behind the same two requests as the peers'."""

    def __init__(self, vectors: Any, queries: Any, truth: Any) -> None:
        self.vectors, self.queries, self.truth = vectors, queries, truth
        self.built: dict[str, Any] = {}

    def build(self, name: str) -> dict[str, Any]:
        from hashfold.index import make_index
        from hashfold.kernels import native

        kind, options, _ = OURS[name]
        index = make_index(kind, *self.vectors.shape, **options)
        native.set_num_threads(os.cpu_count() or 1)
        start = time.perf_counter(), time.process_time()
        index.build(self.vectors)
        seconds = time.perf_counter() - start[0], time.process_time() - start[1]
        self.built[name] = index
        found = {"build_seconds": seconds[0], "build_cpu_seconds": seconds[1]}
        if name == "tree":
            start = time.perf_counter(), time.process_time()
            index.refill()
            found |= {"refill_seconds": time.perf_counter() - start[0], "mb": index.nbytes / 1e6}
            found["refill_cpu_seconds"] = time.process_time() - start[1]
        native.set_num_threads(1)
        return found

    def run(self, name: str, setting: Any) -> dict[str, Any]:
        from hashfold.index.report import hit_rate

        index = self.built[name]
        if setting is not None and hasattr(index, "probes"):
            index.probes = setting
        if name == "tree":
            third = math.ceil(index.num_branches / 3)
            index.branches = index.num_branches if setting >= MANY_PROBES else third
        rows = FEW_ROWS if setting is None else len(self.queries)
        queries, (ten, hundred) = self.queries[:rows], (best[:rows] for best in self.truth)
        found = index.query(queries, 100)
        timed = one_pass(lambda x, k: index.query(x, k).ids[None], queries, ten)
        share = float(found.found.mean() / len(self.vectors))
        return {**timed, "recall@100": hit_rate(found, hundred), "scored": share, **self._inside(name)}

    def _inside(self, name: str) -> dict[str, float]:
        """Of the time, what is not spent in Python."""
        if name != "tree":
            return {}
        from hashfold.kernels.native import core

        index = self.built[name]
        stores = (*index._tree.native, index._items.native)
        out = np.array([0, 5]), np.empty(5, np.int32), np.empty(5, np.float32), np.empty(1, np.int64)
        settings = (index.branches, index.probes, 5)
        start = time.thread_time()
        for i in range(len(self.queries)):
            out[0][1] = 5
            core.search_cells(*stores, self.queries[i : i + 1], self.vectors, None, *settings, *out)
        return {"native_us": 1e6 * (time.thread_time() - start) / len(self.queries)}


@contextmanager
def peers(
    folder: Path, vectors: Any, queries: Any, truth: Any
) -> Iterator[Callable[[dict[str, Any]], Any] | None]:
    """What asks them, in a process of their own; None where they are not installed."""
    python = os.environ.get("BENCH_PEERS_PYTHON") or (str(PEERS_PYTHON) if PEERS_PYTHON.exists() else "")
    if not python:
        print("no faiss, no hnswlib: make peers, or say where with BENCH_PEERS_PYTHON")
        yield None
        return
    np.savez(folder / "layer.npz", vectors=vectors, queries=queries, truth=truth)
    script = Path(__file__).parents[1] / "peers" / "nearest.py"
    command = [python, str(script), str(folder / "layer.npz")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        requests, answers = process.stdin, process.stdout

        def ask(request: dict[str, Any]) -> Any:
            print(json.dumps(request), file=requests, flush=True)
            line = answers.readline()
            if not line:
                sys.exit(f"{script}: no answer to {request}; exit code {process.wait()}")
            return json.loads(line)

        yield ask
        requests.close()


def measure(vectors: Any, queries: Any) -> dict[str, Any]:
    from hashfold.index.topk import top_k
    from hashfold.kernels import native

    torch.set_num_threads(1)
    weight = torch.from_numpy(vectors)

    def dense(x: Any, k: int) -> Any:
        return torch.topk(weight @ torch.from_numpy(x[0]), k).indices.numpy()[None]

    truth = top_k(queries, vectors, None, 100)[0]
    native.set_num_threads(1)
    ours = Ours(vectors, queries, (truth[:, :10], truth))
    rounds = int(os.environ.get("BENCH_ROUNDS", "3"))
    contenders: dict[str, tuple[list[Any], Callable[[Any], dict[str, Any]]]] = {}
    found: dict[str, Any] = {"items": len(vectors), "dim": vectors.shape[1], "indexes": {}}
    with scratch() as folder, peers(folder, vectors, queries, truth[:, :10]) as ask:
        for name, (_, _, settings) in OURS.items():
            found["indexes"][name] = ours.build(name)
            contenders[name] = settings, partial(ours.run, name)
        asked = os.environ.get("BENCH_NEAREST", ";".join(SETTINGS)).split(";") if ask is not None else []
        for name, settings in ((name, SETTINGS[name]) for name in asked):
            assert ask is not None
            found["indexes"][name] = ask({"index": name})
            contenders[name] = settings, lambda s, ask=ask, name=name: ask({"index": name, "setting": s})
        found["indexes"]["torch"] = {}
        few = queries[:FEW_ROWS], truth[:FEW_ROWS, :10]
        contenders["torch"] = [None], lambda _: one_pass(dense, *few)
        for name, (settings, run) in contenders.items():
            found["indexes"][name]["curve"] = rising(settings, run)
        for _ in range(rounds - 1):
            for name, (_, run) in contenders.items():
                for point in found["indexes"][name]["curve"]:
                    again(point, run(point["setting"]))
    assert found["indexes"]["torch"]["curve"][0]["recall@10"] > 0.999, found
    return found


def rising(settings: list[Any], run: Callable[[Any], dict[str, Any]]) -> list[dict[str, Any]]:
    """Points of a curve, up to the first that finds plenty."""
    curve: list[dict[str, Any]] = []
    for setting in settings:
        curve.append({"setting": setting, **run(setting)})
        if curve[-1]["recall@5"] >= PLENTY:
            break
    return curve


def again(point: dict[str, Any], new: dict[str, Any]) -> None:
    """The least of the times."""
    for key in ("us", "native_us"):
        if key in point:
            point[key] = min(point[key], new[key])


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """At recall enough: our best index against torch's exact search and against the best of the peers."""
    best = {name: cheapest(figures["curve"]) for name, figures in found["indexes"].items()}
    us = {name: point["us"] for name, point in best.items() if point}
    ours = min((us[name], name) for name in OURS if name in us)
    peers = min(((us[name], name) for name in SETTINGS if name in us), default=None)
    against = {} if peers is None else {"best_peer": peers[1], "against_best_peer": peers[0] / ours[0]}
    return {"ours": ours[1], "us": ours[0], "against_torch": us["torch"] / ours[0], **against}


def cheapest(curve: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The fastest setting that finds enough of the best five."""
    return min((p for p in curve if p["recall@5"] >= ENOUGH), key=lambda p: p["us"], default=None)


def main() -> None:
    layers: dict[str, Callable[[], tuple[Any, Any]]] = {"synthetic": synthetic}
    layers |= {name: lambda name=name: trained(name) for name in HIDDEN}
    real = list(HIDDEN) if {"HASHFOLD_DATA", "BENCH_LAYERS"} & set(os.environ) else []
    names = chosen(["synthetic", *real])
    result, rows = written("lookup_scan").get("layers", {}), []
    for name in names:
        began = time.perf_counter()
        result[name] = found = measure(*layers[name]())
        found |= {"machine": machine(), "summary": summary(found), "seconds": time.perf_counter() - began}
        print(name, found["summary"])
        exact = found["indexes"]["torch"]["curve"][0]["us"]
        for index, figures in found["indexes"].items():
            best = cheapest(figures["curve"])
            point = best or max(figures["curve"], key=lambda p: p["recall@5"])
            cells = [point[key] for key in ("setting", "recall@5", "recall@10", "us")]
            more = [figures.get("build_seconds", ""), figures.get("mb", ""), point.get("scored", "")]
            rows.append([name, index + ("" if best else " (best it has)"), *cells, exact / point["us"], *more])
    write("lookup_scan", {"rows": ROWS, "enough": ENOUGH, "unit": "CPU us a row, k 5", "layers": result})
    header = [
        "layer",
        "index",
        "setting",
        "recall@5",
        "recall@10",
        "us a row",
        "torch / it",
        "build s",
        "MB",
        "scored",
    ]
    table(header, rows)


if __name__ == "__main__":
    main()
