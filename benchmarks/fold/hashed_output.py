"""A hashed output layer of 103,602 classes (acl-authors) in 1/16 of the values, beside the dense one.

The same network, recipe, epochs and batches; only the output layer differs: `LSHLinear`, or `FoldedLSHLinear` over
hashed weights with 16 virtual weights to a stored value, in one table or in four: labels are numbered by how often
they occur, and frequent ones share less ("by frequency"). "narrow" is dense with a hidden vector of 1/16.

"frequent": only labels of five rows or more are learned; all others are never proposed. The hashed layer spends
all its values on the former; "narrow" has as many in a dense matrix of theirs.

HASHFOLD_DATA: folder of the data sets; BENCH_SEEDS; BENCH_SETS: which rows of the table. The file is written after
each run, and keeps the rows that were not asked for.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.common import RESULTS, chosen, data_folder, seeds, table, write
from hashfold import functional, metrics
from hashfold.data import Dataset, TfIdf, drop_unusable, label_counts, read
from hashfold.nn import FoldedLSHLinear, FoldedWeight, HashedWeight, LSHLinear, SparseLinear
from hashfold.nn.folded import StackedWeight
from hashfold.optim import RowAdam
from hashfold.sparse import CsrBatch, Float32, Int32, LookupStats, RaggedIds
from hashfold.train import TrainConfig, fit

NEEDS = ("HASHFOLD_DATA",)

RATIO, TILE = 16, 8
HIDDEN, NEGATIVES, EPOCHS, BATCH = 256, 4096, 12, 256
RATE, DROPOUT, INPUT_STD, OUTPUT_STD = 5e-3, 0.3, 0.06, 0.05
FREQUENT, FREQUENT_ROWS = 13_584, 5
NEVER = -1e4
"""The bias of what is not learned: a softmax over the others leaves open at what level their scores lie."""
Tables = list[tuple[int | None, float | None]]
"""(labels, virtual weights to a stored value), the most frequent labels first; None: all the others; zeros."""
RUNS: dict[str, dict[str, Any]] = {
    "dense": {},
    "by frequency": {"tables": [(6000, 2), (8000, 4), (24000, 24), (None, 140)]},
    "one table": {"tables": [(None, RATIO)]},
    "narrow": {"hidden": HIDDEN // RATIO},
    "frequent dense": {"learned": FREQUENT},
    "frequent hashed": {"learned": FREQUENT, "tables": [(FREQUENT, 2.1), (None, None)], "bucket_rate": 2.0},
    "frequent narrow": {"learned": FREQUENT, "tables": [(FREQUENT, 1), (None, None)], "hidden": 122},
}


@dataclass(frozen=True)
class Step:
    loss: float
    rows: int
    stats: LookupStats


class Network(nn.Module):
    """Sparse rows -> relu -> labels: softmax over a batch's labels and uniform negatives."""

    def __init__(
        self,
        features: int,
        labels: int,
        seed: int,
        hidden: int = HIDDEN,
        tables: Tables | None = None,
        learned: int | None = None,
        bucket_rate: float = 1.0,
    ) -> None:
        """learned: the first so many labels take part in training; None: all. bucket_rate: times the others'."""
        super().__init__()
        self.learned = learned
        generator = torch.Generator().manual_seed(seed)
        self.input = SparseLinear(features, hidden, init_std=INPUT_STD, generator=generator)
        self.output = make_output(hidden, labels, generator, tables)
        if isinstance(self.output, LSHLinear) and learned is not None:
            nn.init.zeros_(self.output.weight[learned:])
        buckets = [] if isinstance(self.output, LSHLinear) else list(self.output.weight.parameters())
        others = [p for p in self.parameters() if all(p is not bucket for bucket in buckets)]
        groups = [{"params": others, "times": 1.0}, {"params": buckets, "times": bucket_rate}]
        self.optimizer = RowAdam([group for group in groups if group["params"]], lr=RATE)
        self.optimizer.fuse(self.input)
        if isinstance(self.output, LSHLinear):
            self.optimizer.fuse(self.output)

    def training_step(self, x: CsrBatch, y: RaggedIds, seed: int) -> Step:
        h = functional.relu_dropout(self.input(x), DROPOUT, seed)
        active = self.output.lookup_shared(
            h.detach(), y, hard_negatives=0, uniform=NEGATIVES, seed=seed, among=self.learned
        )
        loss, grad = self.output.loss_step(h.detach(), active, "softmax")
        torch.autograd.backward(h, grad)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return Step(loss, len(x), active.stats)

    @torch.no_grad()
    def top_k(self, x: CsrBatch, k: int, lookup: bool = False) -> tuple[Int32, Float32]:
        self.output.rebuild()
        found = self.output.candidates(torch.relu(self.input(x)), k)
        return found.ids.reshape(-1, k), found.scores.reshape(-1, k)

    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        return [self.optimizer]

    def set_lr(self, factor: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = RATE * factor * group["times"]

    def figures(self) -> dict[str, float]:
        """Megabytes of the output layer's values (biases apart), and of the optimizer's state for them."""
        values = [p for name, p in self.output.named_parameters() if name != "bias"]
        states: list[Tensor | None] = [s for p in values for s in self.optimizer.states(p)]
        return {
            "output_mb": sum(p.nbytes for p in values) / 1e6,
            "state_mb": sum(s.nbytes for s in states if s is not None) / 1e6,
        }


def make_output(
    hidden: int, labels: int, generator: torch.Generator, tables: Tables | None
) -> LSHLinear | FoldedLSHLinear:
    if tables is None:
        return LSHLinear(hidden, labels, index="exact", init_std=OUTPUT_STD, generator=generator)
    parts: list[FoldedWeight] = []
    for asked, ratio in tables:
        rows = asked if asked is not None else labels - sum(part.out_features for part in parts)
        buckets = TILE if ratio is None else int(rows * hidden / ratio) // TILE * TILE
        seed, std = len(parts), 0.0 if ratio is None else OUTPUT_STD
        made = {"identity": True} if ratio == 1 else {"tile": TILE, "seed": seed}
        parts.append(HashedWeight(rows, hidden, buckets, init_std=std, generator=generator, **made))
    return FoldedLSHLinear(hidden, labels, weight=StackedWeight(parts), index="exact")


def load() -> tuple[Dataset, Dataset]:
    """Training and test rows as tf-idf, labels numbered from the most frequent one."""
    folder = data_folder() / "acl-authors"
    train, _ = drop_unusable(read(folder / "train.txt.xz"))
    test = read(folder / "test.txt.xz")
    weighting = TfIdf.fit(train.x, "auto")
    labels = max(train.y.num_ids, test.y.num_ids)
    counts = np.bincount(train.y.ids, minlength=labels)
    assert int((counts >= FREQUENT_ROWS).sum()) == FREQUENT
    place = np.argsort(np.argsort(-counts, kind="stable")).astype(np.int32)
    sets = []
    for part in (train, test):
        lists = [np.sort(place[ids]).tolist() for ids in np.split(part.y.ids, part.y.indptr[1:-1])]
        y = RaggedIds.from_lists(lists, labels)
        sets.append(replace(part, x=weighting.transform(part.x), y=y, label_names=None))
    return sets[0], sets[1]


def measure(train: Dataset, test: Dataset, seed: int, options: dict[str, Any]) -> dict[str, float]:
    network = Network(train.x.num_cols, train.y.num_ids, seed, **options)
    prior = np.log(np.maximum(label_counts(train.y), 0.1) / len(train)).astype(np.float32)
    if network.learned is not None:
        prior[network.learned :] = NEVER
    with torch.no_grad():
        assert network.output.bias is not None
        network.output.bias.copy_(torch.from_numpy(prior))
    began = time.perf_counter()
    result = fit(network, train, None, TrainConfig(epochs=EPOCHS, batch_size=BATCH, seed=seed))
    seconds = time.perf_counter() - began
    hits = metrics.are_true(network.top_k(test.x, 5)[0], test.y)
    accuracy = {f"P@{k}": float(hits[:, :k].mean()) for k in (1, 3, 5)}
    return accuracy | {"loss": result.history[-1]["loss"], "train_seconds": seconds} | network.figures()


def mean(runs: list[dict[str, float]]) -> dict[str, float]:
    return {key: fmean(run[key] for run in runs) for key in runs[0]}


def not_asked(names: list[str]) -> dict[str, Any]:
    """What the file says of the other rows of the table, if they are the same ones."""
    file = RESULTS / "hashed_output.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    same = {name: known[name] for name in RUNS if name in known and name not in names}
    return {name: row for name, row in same.items() if row["settings"] == json.loads(json.dumps(RUNS[name]))}


def main() -> None:
    train, test = load()
    names = chosen(list(RUNS))
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for seed in seeds():
        for name in names:
            runs[name].append(measure(train, test, seed, RUNS[name]))
            print(f"seed {seed}, {name}: {runs[name][-1]}", file=sys.stderr, flush=True)
            means = {name: mean(of) for name, of in runs.items() if of}
            result = {name: {"settings": RUNS[name], "runs": runs[name], "mean": means[name]} for name in means}
            write("hashed_output", {"ratio": RATIO, **not_asked(names), **result})
    keys = ("P@1", "P@3", "P@5", "output_mb", "state_mb", "train_seconds")
    rows = [[name, *(means[name][key] for key in keys), min(r["P@1"] for r in runs[name])] for name in names]
    table(["output layer", "P@1", "P@3", "P@5", "MB", "optimizer MB", "train s", "lowest P@1"], rows)


if __name__ == "__main__":
    main()
