"""ResNet-20 on Fashion-MNIST: 4 bits untuned, 2 bits tuned, hashed to 1/10, beside dense and narrow nets.

No augmentation, no other data; errors are those of the packed model, saved and loaded again. Settings were chosen
on the last 10,000 rows of train. HASHFOLD_DATA with fashion-mnist; BENCH_SEEDS; BENCH_SETS: which rows;
FOLD_VALIDATION: those of train in place of test.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.common import data_folder, scratch
from benchmarks.fold.built import Built, Row, parameters, run_rows
from benchmarks.fold.images import Images, Recipe, error, fit, load, logits_of
from benchmarks.fold.resnet import resnet
from hashfold.compress import CodebookConfig, Schedule, StraightThrough, compress, convert, prepare, save
from hashfold.compress import load as load_compressed
from hashfold.nn import HashedConv2d, HashedLinear
from hashfold.nn.folded import HashOptions

NEEDS = ("HASHFOLD_DATA",)
DENSE = Recipe(epochs=5, rate=4e-3, batch=128, weight_decay=5e-2, hold=0.2, bfloat16=True)


@dataclass(frozen=True)
class Plan:
    """How the nets are trained, and what they store."""

    dense: Recipe
    four_bits: CodebookConfig
    two_bits: CodebookConfig
    tuning: Recipe
    small: Recipe  # of the narrow and of the hashed net
    narrow: tuple[int, ...]
    power: float  # of a layer's weights, to which its buckets are in proportion
    tile: int


PLAN = Plan(
    dense=DENSE,
    four_bits=CodebookConfig(bits=4, group_rows=4, weighting="fisher"),
    two_bits=CodebookConfig(bits=2, tuning=StraightThrough(refresh_steps=1)),
    tuning=replace(DENSE, epochs=2, rate=2e-3, weight_decay=0.0, hold=0.05, distil=0.7, temperature=2.0),
    small=DENSE,
    narrow=(5, 10, 20),
    power=0.5,
    tile=1,
)
ROWS = {
    "dense": Row(("dense",)),
    "4 bits": Row(("dense", "four_bits"), "dense", "<= 0.3 more"),
    "2 bits tuned": Row(("dense", "two_bits", "tuning"), "dense", "<= 1.0 more"),
    "narrow": Row(("small", "narrow")),
    "hashed 1/10": Row(("small", "narrow", "power", "tile"), "narrow", ">= 1 less"),
}


def hashed_resnet(plan: Plan, seed: int) -> nn.Sequential:
    """As many stored values, of batch normalisation and biases too, as the narrow net has, or a few less.

    A layer's buckets are in proportion to a power of its weights: below 1, small layers are folded less.
    """
    dense = resnet()
    sizes = [p.numel() for p in dense.parameters() if p.dim() > 1]
    budget = parameters(resnet(plan.narrow)) - (parameters(dense) - sum(sizes))
    buckets, hashes = iter(shares(budget, sizes, plan.power)), itertools.count(100 * seed)

    def options() -> HashOptions:
        return {"num_buckets": next(buckets), "tile": plan.tile, "seed": next(hashes)}

    return resnet(
        convolution=lambda i, o, stride: HashedConv2d(i, o, 3, stride, 1, bias=False, **options()),
        output=lambda i, o: HashedLinear(i, o, **options()),
    )


def shares(budget: int, sizes: Sequence[int], power: float) -> list[int]:
    """Parts of `budget` in proportion to size ** power, none larger than its size."""
    low, high = 0.0, float(max(sizes))
    for _ in range(60):
        middle = (low + high) / 2
        parts = [min(size, int(middle * size**power)) for size in sizes]
        low, high = (middle, high) if sum(parts) <= budget else (low, middle)
    return [min(size, int(low * size**power)) for size in sizes]


def untuned(dense: nn.Module, plan: Plan, images: Images) -> nn.Module:
    """Shared values nearest to the weights, weighed by what 1,024 rows of train say of their importance."""
    batches = zip(torch.split(images.x_train[:1024], 8), torch.split(images.y_train[:1024], 8), strict=True)
    return compress(
        dense, plan.four_bits, data=list(batches), loss=lambda net, b: F.cross_entropy(net(b[0]), b[1])
    )


def tuned(dense: nn.Module, plan: Plan, images: Images, seed: int) -> nn.Module:
    """The shared values of `dense` trained, taught by it."""
    model = prepare(dense, plan.two_bits)
    teacher = logits_of(dense, images.x_train)
    schedule = Schedule(model)
    fit(model, images.x_train, images.y_train, plan.tuning, seed, teacher=teacher, after_step=schedule.step)
    return convert(model)


def nets(plan: Plan, images: Images, seed: int, names: Sequence[str]) -> Iterator[tuple[str, nn.Module]]:
    """Of each row, as soon as it is there."""
    x, y = images.x_train, images.y_train
    torch.manual_seed(seed)
    if not {"dense", "4 bits", "2 bits tuned"}.isdisjoint(names):
        dense = fit(resnet(), x, y, plan.dense, seed)
        yield "dense", dense
        if "4 bits" in names:
            yield "4 bits", untuned(dense, plan, images)
        if "2 bits tuned" in names:
            yield "2 bits tuned", tuned(dense, plan, images, seed)
    torch.manual_seed(seed)
    if "narrow" in names:
        yield "narrow", fit(resnet(plan.narrow), x, y, plan.small, seed)
    torch.manual_seed(seed)
    if "hashed 1/10" in names:
        hashed = hashed_resnet(plan, seed)
        fit(Built(hashed), x, y, plan.small, seed)
        yield "hashed 1/10", hashed


def scored(model: nn.Module, images: Images) -> dict[str, Any]:
    """Of the model as it is loaded from its file."""
    with scratch() as folder:
        found: dict[str, Any] = {"bytes": save(model, folder / "model"), "stored": parameters(model)}
        again = load_compressed(folder / "model", model)
    return found | {"error": error(again, images.x_test, images.y_test)}


def main() -> None:
    validation = "FOLD_VALIDATION" in os.environ
    images = load(data_folder() / "fashion-mnist", validation=validation)
    run_rows(
        "fold_convnet" + "_validation" * validation,
        "error",
        PLAN,
        ROWS,
        lambda seed, names: nets(PLAN, images, seed, names),
        lambda model: scored(model, images),
    )


if __name__ == "__main__":
    main()
