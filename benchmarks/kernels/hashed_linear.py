"""Folded weights at chosen pairs: training and scoring, beside the same in torch by gathering buckets.

Made-up rows and pairs of citeulike-t's shape: 60,000 rows of 19 features, 20 labels a row of 100,000, both
skewed; 2^24 and 2^26 buckets. torch scores and trains in pieces of 64 Ki pairs, with its Adagrad over all
buckets, and does one epoch over a twentieth of the pairs. Figures are nonzeros (of pairs) a second, the best of
BENCH_ROUNDS (5) taken in turn; scores are compared before the clock starts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.common import table, write

ROWS, FEATURES, LABELS, PER_ROW, NONZEROS = 60_000, 22_000, 100_000, 20, 19
BUCKETS = (2**24, 2**26)
PIECE, SHARE, EPOCHS = 1 << 16, 20, 4


def rounds() -> int:
    return int(os.environ.get("BENCH_ROUNDS", "5"))


def made_up() -> tuple[Any, Any, Any]:
    """Rows of length 1, pairs, targets."""
    import scipy.sparse as sp

    from hashfold.sparse import CsrBatch, Ragged

    rng = np.random.default_rng(0)
    ids = (FEATURES * rng.random((ROWS, NONZEROS)) ** 2).astype(np.int32)
    ones, indptr = np.ones(ids.size, np.float32), np.arange(0, ids.size + 1, NONZEROS)
    x = CsrBatch.from_scipy(sp.csr_array((ones, ids.ravel(), indptr), shape=(ROWS, FEATURES)))
    counts = np.diff(x.indptr)
    x = CsrBatch(x.indptr, x.indices, np.repeat(1 / np.sqrt(counts), counts).astype(np.float32), FEATURES)
    labels = np.sort((LABELS * rng.random((ROWS, PER_ROW)) ** 2).astype(np.int32), 1)
    pairs = Ragged(np.arange(0, labels.size + 1, PER_ROW, dtype=np.int64), labels.ravel())
    return x, pairs, (rng.random(labels.size) < 0.25).astype(np.float32)


class Gathered:
    """The same model in torch: places of all nonzeros of a piece of pairs, a gather, a sum by pair."""

    def __init__(self, x: Any, pairs: Any, wide: Any) -> None:
        import torch

        state = wide.state()
        self.x, self.pairs, self.sizes = x, pairs, torch.from_numpy(state["sizes"])
        self.offsets = self.sizes.long().cumsum(0) - self.sizes
        scale = np.repeat(state["scales"], state["sizes"])
        self.buckets = torch.from_numpy(state["codes"] * scale).requires_grad_()
        self.bias = torch.from_numpy(state["bias"].copy()).requires_grad_()
        self.rows = torch.repeat_interleave(torch.arange(len(x)), torch.from_numpy(pairs.counts))

    def scores(self, first: int, last: int) -> Any:
        import torch

        from hashfold.kernels.hashed_linear import places_and_signs

        indptr, labels = torch.from_numpy(self.x.indptr), torch.from_numpy(self.pairs.ids[first:last])
        rows = self.rows[first:last]
        counts = indptr.diff()[rows]
        pair = torch.repeat_interleave(torch.arange(last - first), counts)
        entry = torch.arange(len(pair)) - (counts.cumsum(0) - counts - indptr[rows])[pair]
        outputs = labels[pair].long()
        places, _ = places_and_signs(torch.from_numpy(self.x.indices)[entry], outputs, self.sizes[outputs], 0)
        terms = self.buckets[self.offsets[outputs] + places] * torch.from_numpy(self.x.values)[entry]
        return torch.zeros(last - first).index_add(0, pair, terms) + self.bias[labels.long()]

    def score(self, count: int) -> Any:
        import torch

        with torch.no_grad():
            return torch.cat([self.scores(s, min(count, s + PIECE)) for s in range(0, count, PIECE)])

    def fit(self, count: int, targets: Any) -> None:
        import torch

        optimizer = torch.optim.Adagrad([self.buckets, self.bias], 0.1)
        for first in range(0, count, PIECE):
            last = min(count, first + PIECE)
            signs = torch.from_numpy(targets[first:last]) * 2 - 1
            loss = torch.relu(1 - signs * self.scores(first, last)).square().sum() / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def best_of(contenders: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    least = dict.fromkeys(contenders, float("inf"))
    for _ in range(rounds()):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            least[name] = min(least[name], time.perf_counter() - start)
    return least


def measure(num_buckets: int) -> dict[str, Any]:
    from hashfold.model import Wide

    x, pairs, targets = made_up()
    wide = Wide(FEATURES, LABELS, budget_buckets=num_buckets)
    wide.fit(x, pairs, targets)
    gathered, part = Gathered(x, pairs, wide), len(pairs.ids) // SHARE
    np.testing.assert_allclose(wide.scores(x, pairs)[:part], gathered.score(part).numpy(), atol=1e-4)
    seconds = best_of(
        {
            "fit": lambda: wide.fit(x, pairs, targets),
            "score": lambda: wide.scores(x, pairs),
            "torch_fit": lambda: gathered.fit(part, targets),
            "torch_score": lambda: gathered.score(part),
        }
    )
    nonzeros = int(np.diff(x.indptr).repeat(pairs.counts).sum())
    work = {
        "fit": EPOCHS * nonzeros,
        "score": nonzeros,
        "torch_fit": nonzeros / SHARE,
        "torch_score": nonzeros / SHARE,
    }
    return {
        "buckets": wide.num_buckets,
        "pairs": len(pairs.ids),
        "seconds": seconds,
        "nonzeros_per_second": {name: work[name] / s for name, s in seconds.items()},
    }


def main() -> None:
    import torch

    from hashfold.kernels import native

    torch.set_num_threads(native.num_threads())
    runs = [measure(num_buckets) for num_buckets in BUCKETS]
    write("hashed_linear", {"rows": ROWS, "labels": LABELS, "epochs": EPOCHS, "runs": runs})
    rows: list[list[object]] = []
    for run in runs:
        rates = {name: rate / 1e6 for name, rate in run["nonzeros_per_second"].items()}
        for name in ("fit", "score"):
            ours, theirs = rates[name], rates[f"torch_{name}"]
            rows.append([f"{name}, {run['buckets']:,} buckets", ours, theirs, ours / theirs])
    table(["million nonzeros a second", "hashfold", "torch", "ratio"], rows)


if __name__ == "__main__":
    main()
