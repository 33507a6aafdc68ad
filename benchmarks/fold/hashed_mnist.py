"""784-1000-10 on MNIST with hashed weights, 1/8 and 1/64, against dense nets of the same size.

HashedNets (Chen et al., ICML 2015), without augmentation or other data; distilled from a dense LeNet-5 that saw
the same rows, and not. Settings were chosen on the last 10,000 rows of train. HASHFOLD_DATA with mnist;
BENCH_SEEDS; BENCH_SETS: which nets; FOLD_VALIDATION: those rows in place of test.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.common import chosen, data_folder, seeds, table
from benchmarks.fold.images import Images, Recipe, error, fit, load, record, size
from benchmarks.fold.nets import teacher

NEEDS = ("HASHFOLD_DATA",)
HIDDEN = 1000
SIZES = ("weights", "biases", "seconds")


@dataclass(frozen=True)
class Net:
    """One row of the table."""

    recipe: Recipe
    dropout: tuple[float, float]  # of pixels, of hidden units
    activation: str
    buckets: tuple[int, int] | None = None  # of the first and of the second layer; None: dense
    hidden: int = HIDDEN
    tile: int = 1  # of the first layer
    figure: str = ""

    def make(self, seed: int) -> nn.Sequential:
        torch.manual_seed(seed)
        return nn.Sequential(
            *(nn.Flatten(), nn.Dropout(self.dropout[0]), self._layer(784, self.hidden, 0, seed)),
            *(getattr(nn, self.activation)(), nn.Dropout(self.dropout[1]), self._layer(self.hidden, 10, 1, seed)),
        )

    def _layer(self, inputs: int, outputs: int, which: int, seed: int) -> nn.Module:
        from hashfold.nn import HashedLinear

        if self.buckets is None:
            return nn.Linear(inputs, outputs)
        hashing: Any = {"num_buckets": self.buckets[which], "seed": 2 * seed + which}
        return HashedLinear(inputs, outputs, tile=1 if which else self.tile, **hashing)


EIGHTH = Recipe(epochs=25, rate=6e-3, distil=0.7, temperature=2.0)
SIXTY_FOURTH = replace(EIGHTH, rate=8e-3)
NETS = {
    "hashed 1/8": Net(EIGHTH, (0.15, 0.25), "ReLU", (95_875, 2_500), figure="<= 1.35; HashedNets 1.45"),
    "hashed 1/64": Net(SIXTY_FOURTH, (0.1, 0.0), "GELU", (8_433, 4_000), figure="<= 2.00; HashedNets 2.79"),
    "dense as 1/8": Net(EIGHTH, (0.1, 0.1), "ReLU", hidden=125, figure="1.75 in the paper"),
    "dense as 1/64": Net(SIXTY_FOURTH, (0.0, 0.0), "GELU", hidden=15, figure="5.91 in the paper"),
}
NETS |= {
    "hashed 1/8 tile 8": replace(NETS["hashed 1/8"], tile=8, buckets=(95_872, 2_500), figure=""),
    "hashed 1/64 tile 8": replace(NETS["hashed 1/64"], tile=8, buckets=(8_432, 4_000), figure=""),
}
NETS |= {
    f"{name} undistilled": replace(net, recipe=replace(net.recipe, distil=0.0), figure="")
    for name, net in NETS.items()
    if "tile" not in name
}
"""99,385 parameters at most, biases too, of those of 1/8; 12,433 weights beside their biases of those of 1/64."""


def measure(net: Net, images: Images, seed: int, labels: Tensor | None) -> dict[str, Any]:
    start = time.perf_counter()
    model = fit(net.make(seed), images.x_train, images.y_train, net.recipe, seed, teacher=labels)
    biases = size(p for name, p in model.named_parameters() if name.endswith("bias"))
    return {
        "seed": seed,
        "error": error(model, images.x_test, images.y_test),
        "weights": size(model.parameters()) - biases,
        "biases": biases,
        "seconds": time.perf_counter() - start,
    }


def main() -> None:
    validation = "FOLD_VALIDATION" in os.environ
    images = load(data_folder() / "mnist", validation=validation)
    names = chosen(tuple(NETS))
    labels = teacher(images, 0) if any(NETS[name].recipe.distil for name in names) else None
    file = "fold_hashed_mnist" + "_validation" * validation
    rows: dict[str, Any] = {}
    for seed in seeds():
        for name in names:
            run = measure(NETS[name], images, seed, labels)
            print(name, json.dumps(run), flush=True)
            rows[name] = record(file, name, asdict(NETS[name]), run)
    lines = []
    for name, row in rows.items():
        middle = row["mean"]
        figures = (middle["error"], row["stdev"]["error"], len(row["runs"]), *(middle[k] for k in SIZES))
        lines.append([name, *figures, NETS[name].figure])
    table(["784-1000-10", "% error", "stdev", "seeds", *SIZES, "figure to reach, %"], lines)


if __name__ == "__main__":
    main()
