"""A looked-up hidden layer of 2^14 to 2^20 neurons on one thread: beside the dense layer, and one of equal time.

128 inputs, batches of 256, 32 or 64 neurons a row; weights of one norm in clusters, inputs near some of them, so
that there is something to find. A step is: look up, forward, backward with the rows moved by Adam; the index is
rebuilt (clusters kept, every neuron inserted anew) every BENCH_REBUILD_STEPS (100) steps. PyTorch's dense layer
takes its forward pass, backward pass and fused Adam on the same thread, in fp32 or bf16 products, whichever is
faster; "dense of equal time" is the width whose step takes as long, between widths that were measured. Times are
CPU milliseconds, the least of BENCH_ROUNDS (5). BENCH_SIZES: exponents, 14,16,18,20. The largest dense layer needs
6 GB; five minutes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.common import plot, table, write

DIM, BATCH, ACTIVE = 128, 256, (32, 64)
WIDTHS = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
DENSE_ROUNDS = 2  # of the layers of 2^16 and more neurons


def sizes() -> list[int]:
    return [1 << int(power) for power in os.environ.get("BENCH_SIZES", "14,16,18,20").split(",")]


def rounds() -> int:
    return int(os.environ.get("BENCH_ROUNDS", "5"))


def rebuild_steps() -> int:
    return int(os.environ.get("BENCH_REBUILD_STEPS", "100"))


def unit(x: Any) -> Any:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def layer_and_inputs(neurons: int) -> tuple[Any, torch.Tensor]:
    """The layer with its optimizer and a built index, and BATCH rows."""
    from hashfold.nn import LSHLinear
    from hashfold.optim import RowAdam

    rng = np.random.default_rng(0)
    centres = unit(rng.standard_normal((max(64, neurons // 64), DIM), np.float32))
    at = rng.integers(0, len(centres), neurons)
    rows = unit(centres[at] + 0.8 * unit(rng.standard_normal((neurons, DIM), np.float32)))
    layer = LSHLinear(DIM, neurons, index="tree")
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(rows))
    layer.optimizer = RowAdam(layer.parameters(), lr=1e-5)  # so small that the rounds look up the same
    layer.optimizer.fuse(layer)
    layer.rebuild()
    x = unit(rows[rng.integers(0, neurons, BATCH)] + 0.6 * unit(rng.standard_normal((BATCH, DIM), np.float32)))
    return layer, torch.from_numpy(x)


class Clock:
    """The least CPU milliseconds of each part."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}

    def __call__(self, name: str, part: Callable[[], Any]) -> Any:
        start = time.thread_time()
        result = part()
        taken = 1e3 * (time.thread_time() - start)
        self.ms[name] = min(taken, self.ms.get(name, taken))
        return result


def looked_up(layer: Any, x: torch.Tensor, active: int) -> dict[str, Any]:
    """Times of the parts of a step, and how much of the truly strongest is found."""
    clock = Clock()
    for _ in range(rounds()):
        found = clock("look up", lambda: layer.lookup(x, active))
        leaf = x.clone().requires_grad_()
        y = clock("forward", lambda found=found, leaf=leaf: layer(leaf, found))
        grad = torch.full_like(y.values, 1e-3)
        clock("backward", lambda y=y, grad=grad: torch.autograd.backward(y.values, grad))
        layer.optimizer.step()
    clock("rebuild", layer.index.refill)
    clock("build", layer.rebuild)
    step = sum(clock.ms[part] for part in ("look up", "forward", "backward"))
    strongest = torch.topk(x @ layer.weight.detach().T, active).indices.numpy()
    rows = found.ids.reshape(BATCH, -1)
    recall = np.mean([np.isin(best, own).mean() for best, own in zip(strongest, rows, strict=True)])
    return {
        "active": active,
        "ms": clock.ms,
        "step_ms": step + clock.ms["rebuild"] / rebuild_steps(),
        "recall": float(recall),
        "scored": float(layer.index.query(x.numpy(), active).found.mean() / layer.out_features),
    }


def check() -> None:
    """With all neurons looked up the layer is the dense one, forward and backward, and moves as it does."""
    layer, x = layer_and_inputs(1 << 10)
    dense = torch.nn.Linear(DIM, 1 << 10)
    dense.load_state_dict(layer.state_dict())
    adam = torch.optim.Adam(dense.parameters(), lr=1e-5)
    leaf, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    layer.index.probes, layer.index.branches = layer.index.num_clusters, layer.index.num_branches
    y, expected = layer(leaf, layer.lookup(leaf, 1 << 10)), dense(other)
    torch.testing.assert_close(y.to_dense(), expected, rtol=1e-4, atol=1e-4)
    (y.values * y.values).sum().backward()
    expected.square().sum().backward()
    layer.optimizer.step()
    adam.step()
    torch.testing.assert_close(leaf.grad, other.grad, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(layer.weight, dense.weight, rtol=1e-4, atol=1e-5)


def dense_step(neurons: int, x: torch.Tensor) -> dict[str, Any]:
    """The faster of products in fp32 and, weights and Adam in fp32 as before, in bf16."""
    return min((dense_in(kind, neurons, x) for kind in (torch.float32, torch.bfloat16)), key=lambda ms: ms["step"])


def dense_in(kind: torch.dtype, neurons: int, x: torch.Tensor) -> dict[str, Any]:
    layer, clock = torch.nn.Linear(DIM, neurons), Clock()
    adam = torch.optim.Adam(layer.parameters(), lr=1e-5, fused=True)
    grad = torch.full((BATCH, neurons), 1e-3, dtype=kind)
    for _ in range(1 + (rounds() if neurons < 1 << 16 else DENSE_ROUNDS)):
        leaf = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16):
            y = clock("forward", lambda leaf=leaf: layer(leaf))
        clock("backward", lambda y=y: torch.autograd.backward(y, grad))
        clock("adam", adam.step)
        adam.zero_grad()
    return clock.ms | {"step": sum(clock.ms.values()), "products": str(kind).removeprefix("torch.")}


def width_of(milliseconds: float, dense: dict[int, dict[str, Any]]) -> float:
    """How wide a dense layer takes so long, between those measured."""
    widths = sorted(dense)
    return float(np.interp(milliseconds, [dense[width]["step"] for width in widths], widths))


def main() -> None:
    from hashfold.kernels import native

    before = native.num_threads()
    torch.set_num_threads(1)
    native.set_num_threads(1)
    check()
    runs = []
    for neurons in sizes():
        layer, x = layer_and_inputs(neurons)
        runs.append({"neurons": neurons, "looked_up": [looked_up(layer, x, active) for active in ACTIVE]})
        del layer
    dense = {width: dense_step(width, x) for width in sorted({*WIDTHS, *sizes()})}
    for run in runs:
        for figures in run["looked_up"]:
            figures["dense_of_equal_time"] = width_of(figures["step_ms"], dense)
            figures["times_as_fast_as_dense"] = dense[run["neurons"]]["step"] / figures["step_ms"]
    write(
        "hidden_layers",
        {"dim": DIM, "batch": BATCH, "rebuild_steps": rebuild_steps(), "runs": runs, "dense": dense},
    )
    draw(runs, dense)
    native.set_num_threads(before)
    report(runs, dense)


def draw(runs: list[dict[str, Any]], dense: dict[int, dict[str, Any]]) -> None:
    curves: dict[str, list[tuple[float, float]]] = {}
    for position, active in enumerate(ACTIVE):
        curves[f"{active} looked up"] = [(r["neurons"], r["looked_up"][position]["step_ms"]) for r in runs]
    curves["dense, PyTorch"] = [(width, ms["step"]) for width, ms in dense.items()]
    title = f"A step of {BATCH} rows, {DIM} inputs, one thread"
    plot("hidden_layers", curves, "neurons", "CPU milliseconds", title, log_x=True, log_y=True)


def report(runs: list[dict[str, Any]], dense: dict[int, dict[str, Any]]) -> None:
    parts = ("look up", "forward", "backward", "rebuild", "build")
    rows = []
    for run in runs:
        for f in run["looked_up"]:
            size = f"2^{run['neurons'].bit_length() - 1}"
            cells = [size, f["active"], *(f["ms"][part] for part in parts), f["step_ms"]]
            step = dense[run["neurons"]]["step"]
            rows.append([*cells, step, f["times_as_fast_as_dense"], f["dense_of_equal_time"], f["recall"]])
    header = ["neurons", "active", *(f"{part}, ms" for part in parts), "step, ms", "dense step, ms"]
    table([*header, "dense / it", "dense of equal time", "recall of the strongest"], rows)


if __name__ == "__main__":
    main()
