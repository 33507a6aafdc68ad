"""16 x 16 pixels -> 512 hidden neurons, looked up by hashing -> 10 digits.

The image's hash looks up a tenth of the hidden neurons; only those are multiplied, and only those that
fire are passed on. The hash multiplies nothing: each of 256 DWTA codes says which of four pixels is the
brightest, two codes are a bucket, and the neurons that share most of the 128 buckets with the image are
computed. The lookup is on from the first training step and the tables are built anew every epoch, so
that neurons specialise in what looks them up: tables built over a network that was trained without them
find far too few of the neurons that matter. The same network with all neurons computed, trained in the
same way, is the comparison.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from hashfold.demos.images import CLASSES, SIDE, Images, load_digits, load_npz
from hashfold.index import NeuronIndex
from hashfold.index.clustered import ClusteredIndex
from hashfold.index.lsh import LshIndex
from hashfold.nn import ActiveValues, LSHLinear, SparseLinear
from hashfold.optim import RowAdam

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

TABLES: dict[str, Any] = {
    "family": "dwta",
    "num_tables": 128,
    "hashes_per_table": 2,
    "family_options": {"bin_size": 4},
}


@dataclass(frozen=True)
class Recipe:
    """How the network is built and trained."""

    hidden: int = 512
    active_fraction: float = 0.1
    index: str = "lsh"
    index_options: Mapping[str, Any] = field(default_factory=lambda: TABLES)
    epochs: int = 30
    batch: int = 128
    lr: float = 8e-3
    weight_decay: float = 1e-4

    @property
    def budget(self) -> int:
        """Hidden neurons computed for an image."""
        return max(1, round(self.active_fraction * self.hidden))


class DigitNetwork(nn.Module):
    """The network, with its hidden neurons looked up (`budget` an image) or all computed (None)."""

    def __init__(self, recipe: Recipe, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        options = {"seed": seed, **recipe.index_options}
        self.hidden = LSHLinear(
            SIDE * SIDE, recipe.hidden, index=recipe.index, index_options=options, generator=generator
        )
        self.output = SparseLinear(recipe.hidden, CLASSES, generator=generator)

    def forward(self, x: Tensor, budget: int | None) -> Tensor:
        if budget is None:
            y = torch.relu(self.hidden(x)) @ self.output.weight
            return y if self.output.bias is None else y + self.output.bias
        scores: Tensor = self.output(self.activations(x, budget))
        return scores

    def activations(self, x: Tensor, budget: int) -> ActiveValues:
        """The looked-up neurons that fire."""
        computed = self.hidden(x, self.hidden.lookup(x, budget))
        assert isinstance(computed, ActiveValues)
        return computed.relu(drop_zeros=True)


def run(data: str | Path | None = None, seed: int = 0, recipe: Recipe | None = None) -> dict[str, Any]:
    """Trains the network with and without hashing and compares them on the test images.

    Args:
        data: an .npz file with x_train, y_train, x_test, y_test (256 pixels an image), such as usps; None
            for scikit-learn's digits enlarged to 16 x 16.
        seed: of the split, the weights, the hashes and the order of training.
        recipe: sizes and training settings.

    Returns: a JSON-able dict: `hashed` and `dense` (accuracy, and multiplications an image of hashing, hidden
    and output layer, measured; for hash tables also the collisions counted), `neurons_computed`,
    `multiplications_saved`, and `example`: a test image, the neurons that its hash looked up, which of
    them fired, and how many of the truly strongest they are.
    """
    recipe = recipe or Recipe()
    images = load_digits(seed) if data is None else load_npz(Path(data))
    hashed = train(DigitNetwork(recipe, seed), images, recipe, recipe.budget, seed)
    dense = train(DigitNetwork(recipe, seed), images, recipe, None, seed)
    with_hashing, without = measure(hashed, images, recipe.budget), measure(dense, images, None)
    saved = 1 - with_hashing["multiplications"]["total"] / without["multiplications"]["total"]
    return {
        "demo": "digits",
        "data": images.name,
        "train_images": len(images.x_train),
        "test_images": len(images.x_test),
        "hidden": recipe.hidden,
        "neurons_computed": recipe.budget,
        "index": hashed.hidden.index.config(),
        "hashed": with_hashing,
        "dense": without,
        "multiplications_saved": saved,
        "example": example(hashed, images, recipe.budget, seed),
    }


def train(network: DigitNetwork, images: Images, recipe: Recipe, budget: int | None, seed: int) -> DigitNetwork:
    """Adam with a cosine rate; the index follows the weights once an epoch and after the last step."""
    optimizer = RowAdam(network.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    optimizer.fuse(network.hidden)
    steps = recipe.epochs * math.ceil(len(images.x_train) / recipe.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 0.5 * (1 + math.cos(math.pi * t / steps)))
    for epoch in range(recipe.epochs):
        network.hidden.rebuild()
        for x, y in batches(images, recipe.batch, np.random.default_rng((seed, epoch))):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(x, budget), y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    network.hidden.rebuild()
    return network


def batches(images: Images, size: int, random: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    order = random.permutation(len(images.x_train))
    for at in range(0, len(order), size):
        rows = order[at : at + size]
        yield torch.from_numpy(images.x_train[rows]), torch.from_numpy(images.y_train[rows])


@torch.no_grad()
def measure(network: DigitNetwork, images: Images, budget: int | None) -> dict[str, Any]:
    """Test accuracy, and multiplications an image: of the hashing itself, the hidden and the output layer."""
    x = torch.from_numpy(images.x_test)
    predicted = network(x, budget).argmax(1).numpy()
    accuracy = float((predicted == images.y_test).mean())
    hidden = network.hidden.out_features
    if budget is None:
        cost = {"hashing": 0.0, "hidden": float(hidden * SIDE * SIDE), "output": float(hidden * CLASSES)}
        return {"accuracy": accuracy, "multiplications": cost | {"total": sum(cost.values())}}
    looked_up = network.hidden.lookup(x, budget)
    fired = network.activations(x, budget)
    index = network.hidden.index
    cost = {
        "hashing": float(hashing_multiplications(index)),
        "hidden": len(looked_up.ids) / len(x) * SIDE * SIDE,
        "output": len(fired.values) / len(x) * CLASSES,
    }
    return {
        "accuracy": accuracy,
        "computed_fraction": looked_up.stats.active_fraction,
        "fired_fraction": len(fired.values) / (len(x) * hidden),
        "multiplications": cost | {"total": sum(cost.values())},
        "collisions": float(index.query(images.x_test, hidden).scores.sum()) / len(x)
        if isinstance(index, LshIndex)
        else 0.0,
    }


def hashing_multiplications(index: NeuronIndex) -> int:
    """Multiplications to hash one dense input. Sparse projections only add, DWTA and MinHash only compare."""
    if isinstance(index, ClusteredIndex):
        return int(index.centroids.size)
    if isinstance(index, LshIndex):
        return index.family.dim * index.family.num_hashes if index.family.name == "simhash" else 0
    return index.num_items * index.dim  # the exact scan


@torch.no_grad()
def example(network: DigitNetwork, images: Images, budget: int, seed: int) -> dict[str, Any]:
    """One test image, and which hidden neurons its hash looked up."""
    row = int(np.random.default_rng(seed).integers(len(images.x_test)))
    x = torch.from_numpy(images.x_test[row : row + 1])
    found, fired = network.hidden.lookup(x, budget), network.activations(x, budget)
    every = network.hidden(x)
    assert isinstance(every, Tensor)
    strongest = every[0].topk(budget).indices.tolist()
    return {
        "digit": int(images.y_test[row]),
        "predicted": int(network(x, budget).argmax()),
        "pixels": [round(float(v), 3) for v in images.x_test[row]],
        "looked_up": sorted(found.ids.tolist()),
        "fired": sorted(fired.active.ids.tolist()),
        "strongest_found": len(set(strongest) & set(found.ids.tolist())) / budget,
    }


def show(result: Mapping[str, Any], console: Console) -> None:
    """Prints what `run` returned."""
    train, test = result["train_images"], result["test_images"]
    console.print(f"{result['data']}: {train:,} images to learn from, {test:,} to test")
    console.print(_comparison(result))
    console.print(f"multiplications saved: {result['multiplications_saved']:.1%}\n")
    _show_example(result["example"], result["hidden"], console)


def _comparison(result: Mapping[str, Any]) -> Table:
    from rich.table import Table

    sides = result["hashed"], result["dense"]
    table = Table("per image", title="16 x 16 pixels -> hidden neurons -> 10 digits")
    table.add_column("looked up by hashing", justify="right")
    table.add_column("all neurons", justify="right")
    table.add_row("accuracy", *(f"{side['accuracy']:.4f}" for side in sides))
    table.add_row("hidden neurons computed", str(result["neurons_computed"]), str(result["hidden"]))
    parts = {
        "hashing": "multiplications: hash",
        "hidden": "hidden layer",
        "output": "output layer",
        "total": "in all",
    }
    for part, name in parts.items():
        table.add_row(name, *(f"{side['multiplications'][part]:,.0f}" for side in sides))
    table.add_row("collisions counted", f"{result['hashed']['collisions']:,.0f}", "0")
    return table


def _show_example(drawn: Mapping[str, Any], hidden: int, console: Console) -> None:
    from rich.table import Table

    picture = Table.grid(padding=(0, 4))
    picture.add_row(_picture(drawn["pixels"]), _neurons(drawn, hidden))
    console.print(picture)
    count, names = len(drawn["looked_up"]), ", ".join(map(str, drawn["looked_up"]))
    console.print(f"The hash of this {drawn['digit']} (answer: {drawn['predicted']}) looked up neurons {names}.")
    strongest = f"{drawn['strongest_found']:.0%} of the {count} strongest of all are among them."
    console.print(f"{len(drawn['fired'])} of these {count} fired (●; silent: ○); {strongest}")


def _picture(pixels: list[float]) -> str:
    """Two characters a pixel, five shades."""
    shades = " ░▒▓█"
    rows = np.asarray(pixels).reshape(SIDE, SIDE)
    return "\n".join("".join(2 * shades[min(4, int(5 * v))] for v in row) for row in rows)


def _neurons(drawn: Mapping[str, Any], hidden: int) -> str:
    """The hidden layer, 32 neurons a line."""
    marks = ["·"] * hidden
    for mark, group in (("○", drawn["looked_up"]), ("●", drawn["fired"])):
        for neuron in group:
            marks[neuron] = mark
    return "\n".join("".join(marks[at : at + 32]) for at in range(0, hidden, 32))
