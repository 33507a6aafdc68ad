"""One training step of the deep path: products in bf16, in fp32, and PyTorch with a row-wise Adam, both ways.

Three shapes: many labels with uniform negatives (as acl-authors), few labels, all computed (as eurlex57k), and
many labels a row (as citeulike-t). Synthetic rows with about as many nonzeros and distinct features a batch as
those sets have. Every contender takes the same steps from the same weights, in turn, on the same threads; their
losses are compared before the clock starts. PyTorch is given the batch's active set and is not charged for
choosing it. Times are the least, and the median, of BENCH_ROUNDS (40) steps; slicing the batch is in them.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from benchmarks.common import table, write

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


class TorchNetwork:
    """The same network in PyTorch: embedding bag with SparseAdam, gathered rows, Adam on those rows."""

    def __init__(self, like: Any, bf16: bool) -> None:
        import torch

        self.embedding, self.shift, self.weight, self.bias = (
            torch.nn.Parameter(p.detach().clone())
            for p in (like.input.weight, like.input.bias, like.output.weight, like.output.bias)
        )
        self.loss, self.bf16, self.steps = like.config.loss, bf16, 0
        self.sparse = torch.optim.SparseAdam([self.embedding], lr=LR)
        self.small = torch.optim.Adam([self.shift], lr=LR)
        self.dense = torch.optim.Adam([self.weight, self.bias], lr=LR, fused=True)
        self.moments = [[torch.zeros_like(p) for _ in range(2)] for p in (self.weight, self.bias)]

    def step(self, x: Any, active: Any) -> float:
        import torch

        self.steps += 1
        indices, offsets, values = (torch.from_numpy(a) for a in (x.indices, x.indptr[:-1], x.values))
        h = torch.nn.functional.embedding_bag(
            indices, self.embedding, offsets.int(), mode="sum", per_sample_weights=values, sparse=True
        )
        h = torch.relu(h + self.shift)
        with torch.no_grad():
            loss, grad_h = self._output(h.detach(), active)
        self.sparse.zero_grad()
        self.small.zero_grad()
        torch.autograd.backward(h, grad_h)
        self.sparse.step()
        self.small.step()
        return loss

    def _output(self, h: Any, active: Any) -> tuple[float, Any]:
        import torch

        ids = None if active.covers_all else torch.from_numpy(active.ids).long()
        rows, shift = (p.detach() if ids is None else p.detach()[ids] for p in (self.weight, self.bias))
        kind = torch.bfloat16 if self.bf16 else torch.float32
        narrow_h, narrow_rows = h.to(kind), rows.to(kind)
        loss, grad = self._loss((narrow_h @ narrow_rows.T).float() + shift, active)
        narrow_grad = grad.to(kind)
        grad_h = (narrow_grad @ narrow_rows).float()
        self._move(ids, (narrow_grad.T @ narrow_h).float(), grad.sum(0))
        return loss, grad_h

    def _loss(self, z: Any, active: Any) -> tuple[float, Any]:
        """The mean loss and its gradient, written out: leaner than autograd."""
        import torch

        starts = torch.from_numpy(active.label_indptr)
        rows = torch.repeat_interleave(torch.arange(len(z)), starts.diff())
        columns, weights = torch.from_numpy(active.label_positions), torch.from_numpy(active.weights)
        if self.loss == "softmax":
            log_p = torch.log_softmax(z.add_(weights.log()), dim=1)
            share = 1.0 / starts.diff()[rows]
            loss = -(log_p[rows, columns] * share).sum()
            grad = log_p.exp_()
            grad[rows, columns] -= share
        else:
            loss = torch.nn.functional.softplus(z) @ weights
            loss = loss.sum() - z[rows, columns].sum()
            grad = torch.sigmoid_(z).mul_(weights)
            grad[rows, columns] -= 1.0
        return float(loss) / len(z), grad.div_(len(z))

    def _move(self, ids: Any, *grads: Any) -> None:
        parameters = (self.weight, self.bias)
        if ids is None:
            self.weight.grad, self.bias.grad = grads
            self.dense.step()
            return
        root, rate = math.sqrt(1 - 0.999**self.steps), 1 - 0.9**self.steps
        for p, moments, grad in zip(parameters, self.moments, grads, strict=True):
            first = moments[0][ids].mul_(0.9).add_(grad, alpha=0.1)
            second = moments[1][ids].mul_(0.999).addcmul_(grad, grad, value=0.001)
            moments[0].index_copy_(0, ids, first)
            moments[1].index_copy_(0, ids, second)
            p.index_add_(0, ids, first.div_(second.sqrt_().add_(1e-8)), alpha=-LR * root / rate)


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
            self.steps[f"torch {name}"] = partial(self._torch_step, TorchNetwork(ours["fp32"], name == "bf16"))

    def _step(self, net: Any, i: int) -> float:
        return float(net.training_step(*self.batch(i), seed=i).loss)

    def _torch_step(self, net: TorchNetwork, i: int) -> float:
        return net.step(self.batch(i)[0], self.sets[i])

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
        seconds: dict[str, list[float]] = {name: [] for name in self.steps}
        for i in range(first, last):
            for name, step in self.steps.items():
                start = time.perf_counter()
                step(i)
                seconds[name].append(time.perf_counter() - start)
        return seconds


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
