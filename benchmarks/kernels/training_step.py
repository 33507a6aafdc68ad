"""One training step of the deep path: products in bf16, in fp32, and PyTorch with a row-wise Adam, both ways.

Three shapes: many labels with uniform negatives (as acl-authors), few labels, all computed (as eurlex57k), and
many labels a row (as citeulike-t). Synthetic rows with about as many nonzeros and distinct features a batch as
those sets have. Every contender takes the same steps from the same weights, in turn, on the same threads; their
losses are compared before the clock starts. PyTorch is given the batch's active set and is not charged for
choosing it. Times are the least, and the median, of BENCH_ROUNDS (40) steps; slicing the batch is in them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from benchmarks.common import table, write
from benchmarks.peers.torch_network import TorchNetwork, in_turn

BATCH, LR, CHECKED = 256, 5e-3, 3


@dataclass(frozen=True)
class Shape:
    features: int
    common: int  # of which so many occur
    nonzeros: int  # a row, repeats included
    labels: int
    labels_per_row: int
    hidden: int
    negatives: int  # 0: all labels are computed
    loss: str


SHAPES = {
    "103,602 labels, 4,096 negatives": Shape(37_499, 7_000, 70, 103_602, 4, 256, 4096, "softmax"),
    "4,271 labels, all": Shape(17_428, 5_200, 260, 4_271, 5, 512, 0, "sigmoid"),
    "52,946 labels, 4,096 negatives": Shape(20_000, 20_000, 22, 52_946, 11, 256, 4096, "sigmoid"),
}


def rounds() -> int:
    return int(os.environ.get("BENCH_ROUNDS", "40"))


def rows_of(shape: Shape, rows: int) -> tuple[Any, Any]:
    """Rows whose features are drawn with probability ~ 1 / rank, and uniform labels."""
    from hashfold.sparse import CsrBatch, RaggedIds

    random = np.random.default_rng(0)

    def ragged(most: int, draw: Callable[[int], Any]) -> tuple[Any, Any]:
        ids = [np.unique(draw(most)) for _ in range(rows)]
        indptr = np.concatenate([[0], np.cumsum([len(i) for i in ids])]).astype(np.int64)
        return indptr, np.concatenate(ids).astype(np.int32)

    order = random.permutation(shape.features)[: shape.common]
    indptr, ids = ragged(shape.nonzeros, lambda n: order[(shape.common ** random.random(n)).astype(np.int64) - 1])
    values = np.full(len(ids), shape.nonzeros**-0.5, np.float32)
    label_indptr, labels = ragged(shape.labels_per_row, lambda n: random.integers(0, shape.labels, n))
    return CsrBatch(indptr, ids, values, shape.features), RaggedIds(label_indptr, labels, shape.labels)


def network(shape: Shape, precision: str) -> Any:
    from hashfold.model import LookupNetwork, NetworkConfig

    return LookupNetwork(
        NetworkConfig(
            shape.features,
            shape.labels,
            hidden=shape.hidden,
            negatives=shape.negatives,
            loss=shape.loss,
            lr=LR,
            dropout=0.0,
            precision=precision,
        )
    )


class Race:
    """The contenders, each a function from the step's number to its loss; all start from the same weights."""

    def __init__(self, shape: Shape, steps: int) -> None:
        import torch

        self.x, self.y = rows_of(shape, BATCH * min(steps, 40))
        ours = {name: network(shape, name) for name in ("bf16", "fp32")}
        self.no_hidden = torch.zeros(BATCH, shape.hidden)
        self.sets = [ours["fp32"].select(self.no_hidden, self.batch(i)[1], i) for i in range(steps)]
        self.steps: dict[str, Callable[[int], float]] = {}
        for name, net in ours.items():
            self.steps[name] = partial(self._step, net)
        for name in ("fp32", "bf16"):
            peer = TorchNetwork(ours["fp32"], LR)
            self.steps[f"torch {name}"] = partial(self._torch_step, peer, name == "bf16")

    def _step(self, net: Any, i: int) -> float:
        return float(net.training_step(*self.batch(i), seed=i).loss)

    def _torch_step(self, net: TorchNetwork, bf16: bool, i: int) -> float:
        return net.step(self.batch(i)[0], self.sets[i], bf16, compact=True)

    def batch(self, step: int) -> tuple[Any, Any]:
        rows = np.arange(BATCH) + step * BATCH % len(self.x)
        return self.x.take(rows), self.y.take(rows)

    def check(self, steps: int) -> None:
        """The first losses agree, which after the first step says that the updates do."""
        for i in range(steps):
            losses = {name: step(i) for name, step in self.steps.items()}
            for name, loss in losses.items():
                tolerance = 2e-2 if "bf16" in name else 1e-3
                assert abs(loss / losses["torch fp32"] - 1) < tolerance, (i, losses)

    def run(self, first: int, last: int) -> dict[str, list[float]]:
        return in_turn(self.steps, first, last)


def measure(shape: Shape) -> dict[str, Any]:
    race = Race(shape, CHECKED + rounds())
    race.check(CHECKED)
    seconds = race.run(CHECKED, CHECKED + rounds())
    active = len(race.sets[-1].ids)
    return {
        "active": active,
        "nonzeros": race.batch(0)[0].nnz,
        "features": len(np.unique(race.batch(0)[0].indices)),
        "gflop_of_products": 6e-9 * BATCH * shape.hidden * active,
        "least_ms": {name: 1e3 * min(taken) for name, taken in seconds.items()},
        "median_ms": {name: 1e3 * median(taken) for name, taken in seconds.items()},
    }


def main() -> None:
    import torch

    from hashfold.kernels import native

    torch.set_num_threads(native.num_threads())
    runs = {name: measure(shape) for name, shape in SHAPES.items()}
    write("training_step", {"batch": BATCH, "runs": runs})
    rows = []
    for name, run in runs.items():
        ms = run["least_ms"]
        ratios = [ms[other] / ms["bf16"] for other in ("fp32", "torch fp32", "torch bf16")]
        rows.append([name, run["active"], run["nonzeros"], run["features"], *ms.values(), *ratios])
    header = [
        "shape",
        "active",
        "nonzeros",
        "features",
        "bf16, ms",
        "fp32, ms",
        "torch fp32, ms",
        "torch bf16, ms",
    ]
    table([*header, "fp32 / bf16", "torch fp32 / bf16", "torch bf16 / bf16"], rows)


if __name__ == "__main__":
    main()
