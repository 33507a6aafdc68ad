"""A wide looked-up hidden layer against dense narrow ones, at equal time: images of digits and of clothes.

784 pixels -> hidden -> 10 classes, Adam with a cosine rate, batches of 256. Every contender trains for
BENCH_SECONDS (30) of CPU of one thread, evaluation aside; its rate falls with that clock, so that each makes the
best of its time. Dense layers are PyTorch's, of 32 to 16,384 neurons. Looked-up ones have 1,024 to 16,384 and
compute 64 for a row, found in the index of the layer (tree of clusters; hash tables of DWTA), which follows the
weights every REBUILD_STEPS. BENCH_SETS: mnist, fashion-mnist. BENCH_SEEDS. Five minutes a
set and seed.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.common import chosen, data_folder, seeds, table, write
from benchmarks.fold.images import load

NEEDS = ("HASHFOLD_DATA",)
SETS = ("mnist", "fashion-mnist")
PIXELS, CLASSES, BATCH, REBUILD_STEPS, TEST_ROWS = 784, 10, 256, 100, 1000
DWTA = {"family": "dwta", "num_tables": 64, "hashes_per_table": 3, "family_options": {"bin_size": 4}}


@dataclass(frozen=True)
class Recipe:
    """active: neurons computed for a row; 0: all of them, by PyTorch's dense layer."""

    hidden: int
    rate: float
    active: int = 0
    index: str = "tree"
    options: dict[str, Any] = field(default_factory=dict)


RECIPES = {
    "dense, 32": Recipe(32, 8e-3),
    "dense, 64": Recipe(64, 6e-3),
    "dense, 256": Recipe(256, 4e-3),
    "dense, 1,024": Recipe(1024, 2e-3),
    "dense, 4,096": Recipe(4096, 1e-3),
    "dense, 16,384": Recipe(1 << 14, 5e-4),
    "looked up, 64 of 1,024, clusters": Recipe(1 << 10, 2e-3, 64),
    "looked up, 64 of 4,096, clusters": Recipe(1 << 12, 2e-3, 64),
    "looked up, 64 of 16,384, clusters": Recipe(1 << 14, 2e-3, 64),
    "looked up, 64 of 16,384, DWTA": Recipe(1 << 14, 6e-3, 64, "lsh", DWTA),
}


def budget_seconds() -> float:
    return float(os.environ.get("BENCH_SECONDS", "30"))


class Dense(nn.Module):
    """PyTorch's own."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(PIXELS, recipe.hidden), nn.ReLU(), nn.Linear(recipe.hidden, CLASSES))
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam(self.parameters(), lr=recipe.rate, fused=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y

    def rebuild(self) -> None:
        pass


class LookedUp(nn.Module):
    """The hidden neurons that the index finds, and a layer over those that fire."""

    def __init__(self, recipe: Recipe, seed: int) -> None:
        from hashfold.nn import LSHLinear, SparseLinear
        from hashfold.optim import RowAdam

        super().__init__()
        options = {**recipe.options, "seed": seed}
        self.hidden = LSHLinear(PIXELS, recipe.hidden, index=recipe.index, index_options=options)
        self.output = SparseLinear(recipe.hidden, CLASSES, init_std=recipe.active**-0.5)
        self.optimizer = RowAdam(self.parameters(), lr=recipe.rate)
        self.optimizer.fuse(self.hidden, self.output)
        self.active, self.built = recipe.active, False

    def forward(self, x: Tensor) -> Tensor:
        fired = self.hidden(x, self.hidden.lookup(x, self.active)).relu(drop_zeros=True)
        y: Tensor = self.output(fired)
        return y

    def rebuild(self) -> None:
        if self.built:  # clusters stay, neurons move
            self.hidden.index.refill()
        else:
            self.hidden.rebuild()
        self.built = True


def train(network: Any, recipe: Recipe, x: Tensor, y: Tensor, seed: int) -> dict[str, float]:
    """Until the CPU time is over; epochs done."""
    generator, seconds = torch.Generator().manual_seed(seed), budget_seconds()
    began, step, order = time.process_time(), 0, torch.empty(0, dtype=torch.int64)
    while (done := (time.process_time() - began) / seconds) < 1:
        for group in network.optimizer.param_groups:
            group["lr"] = recipe.rate * 0.5 * (1 + math.cos(math.pi * done))
        if step % REBUILD_STEPS == 0:
            network.rebuild()
        if len(order) < BATCH:
            order = torch.randperm(len(x), generator=generator)
        rows, order = order[:BATCH], order[BATCH:]
        network.optimizer.zero_grad()
        cross_entropy(network(x[rows]), y[rows]).backward()
        network.optimizer.step()
        step += 1
    network.rebuild()
    return {"steps": step, "epochs": step * BATCH / len(x)}


@torch.no_grad()
def accuracy(network: Any, x: Tensor, y: Tensor) -> float:
    predicted = torch.cat([network(rows).argmax(1) for rows in x.split(TEST_ROWS)])
    return float((predicted == y).float().mean())


def run(recipe: Recipe, images: Any, seed: int) -> dict[str, float]:
    torch.manual_seed(seed)
    network = LookedUp(recipe, seed) if recipe.active else Dense(recipe)
    x, test = (part.flatten(1) for part in (images.x_train, images.x_test))
    done = train(network, recipe, x, images.y_train, seed)
    return {**done, "accuracy": accuracy(network, test, images.y_test)}


def main() -> None:
    from hashfold.kernels import native

    before = native.num_threads()
    torch.set_num_threads(1)
    native.set_num_threads(1)
    result: dict[str, Any] = {}
    for name in chosen(SETS):
        images = load(data_folder() / name)
        runs = {label: [run(recipe, images, seed) for seed in seeds()] for label, recipe in RECIPES.items()}
        result[name] = runs
        rows = []
        for label, of_seeds in runs.items():
            errors = [100 * (1 - done["accuracy"]) for done in of_seeds]
            rows.append([name, label, mean(errors), max(errors), mean(done["epochs"] for done in of_seeds)])
        table(["set", "hidden layer", "% error", "highest", "epochs"], rows)
    write("wide_hidden", {"cpu_seconds": budget_seconds(), "seeds": seeds(), "sets": result})
    native.set_num_threads(before)


if __name__ == "__main__":
    main()
