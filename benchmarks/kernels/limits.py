"""How near to the machine's limit each kernel comes, on one thread.

Limits are measured first, by a small program that is compiled for this machine (machine.cpp): products in
registers, memory read in order, random rows of 512 bytes read, or moved with two states. What a kernel must do at
least, in these units, gives its least time; its share is that over the CPU time that it takes, the least of
BENCH_ROUNDS (24). Batches take turns, so that no rows are still in cache from the round before. Reading is beside
`xz -dc`, if HASHFOLD_DATA and xz are there. About two minutes.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import bars, scratch, table, write
from benchmarks.kernels.hashed_linear import FEATURES, LABELS, made_up

NEEDS = ("c++",)
BATCH, ACTIVE, TURNS = 256, 4096, 12
LAYERS = ((670_091, 128), (103_602, 256), (53_000, 512))  # labels, hidden
NONZEROS, DISTINCT = 16_384, 14_000  # of a batch, and features that they are of
SCANS = ((670_091, 128), (103_602, 256))
BUCKETS = 1 << 26

Found = Iterator[tuple[str, str, float, float]]  # kernel, bound by, least seconds, seconds taken


def rounds() -> int:
    return int(os.environ.get("BENCH_ROUNDS", "24"))


def limits() -> dict[str, float]:
    """Rates of one thread, a CPU-second."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        sys.exit("kernels.limits measures the limits of x86-64 machines only")
    with scratch() as folder:
        source, program = Path(__file__).with_name("machine.cpp"), folder / "machine"
        command = ["c++", "-O3", "-march=native", "-std=c++20", "-Wno-psabi", str(source), "-o", str(program)]
        subprocess.run(command, check=True)
        found: dict[str, float] = json.loads(subprocess.run([program], check=True, capture_output=True).stdout)
    return found


def least(run: Callable[[], Any], times: int | None = None) -> float:
    """CPU seconds of the calling thread, the least of `times` after one to warm up."""
    return least_in_turn([run] * ((times or rounds()) + 1))


def least_in_turn(runs: Sequence[Callable[[], Any]]) -> float:
    taken = []
    for run in runs:
        start = time.thread_time()
        run()
        taken.append(time.thread_time() - start)
    return min(taken[1:])


def training(limit: dict[str, float]) -> Found:
    """The output layer's products, its whole step, and the input layer."""
    import torch

    from hashfold.model import LookupNetwork, NetworkConfig

    for labels, hidden in LAYERS:
        for precision in ("bf16", "fp32"):
            if not limit[f"{precision}_flops"]:
                continue
            net = LookupNetwork(NetworkConfig(135_909, labels, hidden, negatives=ACTIVE, precision=precision))
            h = torch.relu(torch.randn(BATCH, hidden))
            batches = [batch_of(net.config.num_features, labels, seed) for seed in range(TURNS)]
            actives = [net.select(None, y, seed) for seed, (_, y) in enumerate(batches)]
            size, flops = len(actives[0].ids), limit[f"{precision}_flops"]
            products = 6 * BATCH * hidden * size / flops
            moved = size * hidden / 128 / limit["random_rows_moved"]
            run = partial(net.output.loss_step, h, loss="softmax")
            taken = least_in_turn([partial(run, active=actives[i % TURNS]) for i in range(rounds())])
            name = f"output layer's step, {precision}, {hidden} hidden"
            yield name, "products", products, taken
            yield name, "products, rows moved", products + moved, taken
        yield from input_layer(net, [x for x, _ in batches], limit)


def input_layer(net: Any, batches: list[Any], limit: dict[str, float]) -> Found:
    import torch

    hidden = net.config.hidden
    groups, grad = [net.input.group(x) for x in batches], torch.randn(BATCH, hidden) * 1e-3
    rows = NONZEROS * hidden / 128
    features = np.mean([len(np.unique(x.indices)) for x in batches]) * hidden / 128
    taken = least_in_turn([partial(net.input.sums, batches[i % TURNS]) for i in range(rounds())])
    yield f"input layer, {hidden} hidden", "random rows read", rows / limit["random_rows_read"], taken
    taken = least_in_turn([partial(net.input.step, groups[i % TURNS], grad) for i in range(rounds())])
    name = f"input layer's step, {hidden} hidden"
    yield name, "random rows moved", float(features) / limit["random_rows_moved"], taken


def batch_of(features: int, labels: int, seed: int) -> tuple[Any, Any]:
    from hashfold.sparse import CsrBatch, RaggedIds

    rng, a_row = np.random.default_rng(seed), NONZEROS // BATCH
    pool = rng.permutation(features)[: 3 * DISTINCT]
    rows = [np.sort(rng.choice(pool, a_row, replace=False)).astype(np.int32) for _ in range(BATCH)]
    indptr = np.arange(0, NONZEROS + 1, a_row, dtype=np.int64)
    x = CsrBatch(indptr, np.concatenate(rows), rng.random(NONZEROS, np.float32), features)
    return x, RaggedIds.from_lists([rng.integers(0, labels, 5).tolist() for _ in range(BATCH)], labels)


def scans(limit: dict[str, float]) -> Found:
    """All labels scored, a batch and one row."""
    from benchmarks.kernels.exact_scan import gaussian
    from hashfold.index.topk import top_k
    from hashfold.kernels.quantized import QuantizedRows

    for count, dim in SCANS:
        x, vectors, bias = gaussian(count, dim, BATCH)
        rows8 = QuantizedRows.quantize(vectors)
        for name, rows, unit in (("8 bits", rows8, "int8_operations"), ("fp32", vectors, "fp32_flops")):
            if not limit[unit]:
                continue
            size, operations = f"{name}, {count:,} x {dim}", 2 * BATCH * count * dim
            taken = least(lambda rows=rows, x=x, bias=bias: top_k(x, rows, bias, 5), 3)
            yield f"scan of a batch, {size}", "products", operations / limit[unit], taken
            read = count * dim * (1 if unit.startswith("int8") else 4) / limit["bytes_read"]
            taken = least(lambda rows=rows, x=x, bias=bias: top_k(x[:1], rows, bias, 5))
            yield f"scan of one row, {size}", "memory read", read, taken


def cross(limit: dict[str, float]) -> Found:
    """Cross weights of chosen pairs, as if each were a random byte; a label's block makes them less random."""
    from hashfold.model import Wide

    x, pairs, targets = made_up()
    wide = Wide(FEATURES, LABELS, budget_buckets=BUCKETS)
    wide.fit(x, pairs, targets)
    nonzeros = float(np.diff(x.indptr).repeat(pairs.counts).sum())
    taken = least(lambda: wide.scores(x, pairs), 3)
    name = f"cross products, {wide.num_buckets:,} buckets"
    yield name, "random bytes", nonzeros / limit["random_bytes_read"], taken


def reading() -> Found:
    """Beside xz; both by the wall clock, for xz is a process of its own."""
    folder = os.environ.get("HASHFOLD_DATA")
    if not folder or shutil.which("xz") is None:
        return
    from benchmarks.end_to_end.reading import unpack
    from hashfold.data import read_xmc

    packed = Path(folder) / "acl-authors" / "train.txt.xz"
    seconds: dict[str, list[float]] = {"xz": [], "ours": []}
    for _ in range(3):
        for name, run in (("xz", unpack), ("ours", read_xmc)):
            start = time.perf_counter()
            run(packed)
            seconds[name].append(time.perf_counter() - start)
    yield "reading packed text", "xz -dc", min(seconds["xz"]), min(seconds["ours"])


def main() -> None:
    import torch

    from hashfold.kernels import native

    before = native.num_threads()
    torch.set_num_threads(1)
    native.set_num_threads(1)
    limit, found = limits(), []
    for part in (training(limit), scans(limit), cross(limit), reading()):
        for kernel, bound, floor, taken in part:
            row = {"kernel": kernel, "bound": bound, "floor_ms": 1e3 * floor, "ms": 1e3 * taken}
            found.append(row | {"share": floor / taken})
    native.set_num_threads(before)
    write("limits", {"limits": limit, "batch": BATCH, "kernels": found})
    shares = {f"{row['kernel']} ({row['bound']})": row["share"] for row in found}
    bars("limits", shares, "share of the limit, one thread", "Kernels and what bounds them")
    table(list(limit), [list(limit.values())])
    table(["kernel", "bound by", "floor, ms", "ms", "share"], [list(row.values()) for row in found])


if __name__ == "__main__":
    main()
