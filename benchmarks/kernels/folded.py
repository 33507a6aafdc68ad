"""Folded matrices 4096 x 4096 beside torch's dense fp32, on the same threads.

Every product and its gradients are first compared with the dense ones of the same virtual matrix. Then both are
run in turn; the best of BENCH_ROUNDS (9) counts, and the ratio says how many times as fast as torch ours is.
BENCH_CASES picks cases by a part of their name, BENCH_SIZE the matrix (4096), BENCH_BATCHES the rows of x
(1,4,64,256), BENCH_THREADS (2).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import RESULTS, machine
from hashfold import functional
from hashfold.kernels import native
from hashfold.kernels.codebook_matrix import pack_codes

SIZE = int(os.environ.get("BENCH_SIZE", "4096"))
BATCHES = [int(n) for n in os.environ.get("BENCH_BATCHES", "1,4,64,256").split(",")]
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "9"))
Matmul = Callable[[Tensor, Tensor], Tensor]  # x, shared values


def hashed(ratio: int, tile: int, blocks: int) -> tuple[Matmul, Tensor, int]:
    buckets = torch.randn(SIZE * SIZE // ratio)

    def matmul(x: Tensor, shared: Tensor) -> Tensor:
        return functional.hashed_matmul(x, shared, SIZE, seed=1, tile=tile, blocks=blocks)

    return matmul, buckets, 4 * len(buckets)


def codebook(bits: int, dim: int = 1, group_cols: int | None = None) -> tuple[Matmul, Tensor, int]:
    codes = pack_codes(torch.randint(0, 2**bits, (SIZE, -(-SIZE // dim))), bits)
    book = torch.randn(-(-SIZE // (group_cols or SIZE)), 2**bits, dim)

    def matmul(x: Tensor, shared: Tensor) -> Tensor:
        return functional.codebook_matmul(x, codes, shared, bits, SIZE, group_cols=group_cols)

    return matmul, book, codes.numel() + 4 * book.numel()


CASES: dict[str, Callable[[], tuple[Matmul, Tensor, int]]] = {
    "4 bits": lambda: codebook(4),
    "4 bits, groups of 128": lambda: codebook(4, group_cols=128),
    **{f"{bits} bits": lambda bits=bits: codebook(bits) for bits in (1, 2, 3, 5, 6, 7, 8)},
    "8 bits, vectors of 4": lambda: codebook(8, 4),
    "8 bits, vectors of 8": lambda: codebook(8, 8),
    "4 bits, vectors of 2": lambda: codebook(4, 2),
    "tiles of 16, 1/16": lambda: hashed(16, 16, 1),
    **{f"tiles of 16, 1/16, {b} blocks": lambda b=b: hashed(16, 16, b) for b in (8, 32, 128)},
    **{f"tiles of {t}, 1/16, 32 blocks": lambda t=t: hashed(16, t, 32) for t in (4, 8, 32)},
    "weight by weight, 1/16": lambda: hashed(16, 1, 1),
    "weight by weight, 1/16, 128 blocks": lambda: hashed(16, 1, 128),
}


def best_in_turn(ours: Callable[[], Any], theirs: Callable[[], Any]) -> tuple[float, float]:
    """Milliseconds of each, the least of ROUNDS taken alternately."""
    least = [float("inf"), float("inf")]
    for _ in range(ROUNDS):
        for which, run in enumerate((ours, theirs)):
            start = time.perf_counter()
            run()
            least[which] = min(least[which], 1000 * (time.perf_counter() - start))
    return least[0], least[1]


def check(matmul: Matmul, shared: Tensor, weight: Tensor, x: Tensor) -> None:
    """Values and gradients against the dense matrix, within rounding of sums of SIZE terms."""
    *ours, to_shared = gradients(matmul, x, shared)
    *dense, to_weight = gradients(torch.nn.functional.linear, x, weight)
    # every weight is plus or minus a shared value, so its gradient's part of <weight, gradient> is the same
    ours.append((to_shared.double() * shared).sum())
    dense.append((to_weight.double() * weight).sum())
    for mine, exact in zip(ours, dense, strict=True):
        error = float((mine - exact).abs().max() / exact.abs().max())
        assert error < 1e-5, f"wrong by {error}"


def gradients(matmul: Matmul, x: Tensor, shared: Tensor) -> list[Tensor]:
    x, shared = x.clone().requires_grad_(), shared.clone().requires_grad_()
    y = matmul(x, shared)
    return [y.detach(), *torch.autograd.grad(y.square().sum(), [x, shared])]


def times(matmul: Matmul, shared: Tensor, weight: Tensor, n: int) -> Mapping[str, tuple[float, float]]:
    x = torch.randn(n, SIZE)
    linear = torch.nn.functional.linear
    with torch.no_grad():
        found = {"forward": best_in_turn(lambda: matmul(x, shared), lambda: linear(x, weight))}
    if n >= 64:
        found["and backward"] = best_in_turn(
            lambda: gradients(matmul, x, shared), lambda: gradients(linear, x, weight)
        )
    return found


def main() -> None:
    threads = int(os.environ.get("BENCH_THREADS", "2"))
    torch.set_num_threads(threads)
    native.set_num_threads(threads)
    torch.manual_seed(0)
    asked = os.environ.get("BENCH_CASES", "")
    report: dict[str, Any] = {"machine": machine(), "size": SIZE, "ms (ours, torch)": {}}
    print(f"{'case':36} {'MB':>6} {'batch':>5} {'':14} {'ours ms':>8} {'torch ms':>8} {'times as fast':>13}")
    for name, make in CASES.items():
        if asked not in name:
            continue
        matmul, shared, nbytes = make()
        weight = matmul(torch.eye(SIZE), shared).T.contiguous()
        check(matmul, shared, weight, torch.randn(3, SIZE))
        check(matmul, shared, weight, torch.randn(50, SIZE))
        for n in BATCHES:
            for what, (ours, theirs) in times(matmul, shared, weight, n).items():
                report["ms (ours, torch)"][f"{name}, batch {n}, {what}"] = [round(ours, 3), round(theirs, 3)]
                row = f"{name:36} {nbytes / 2**20:6.2f} {n:5} {what:14} {ours:8.2f} {theirs:8.2f}"
                print(f"{row} {theirs / ours:13.2f}", flush=True)
    if not asked:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "folded.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
