"""ResNet-20 on Fashion-MNIST: 4 bits untuned, 2 bits tuned, hashed to 1/10, beside dense and narrow nets.

No augmentation, no other data; errors are those of the packed model, saved and loaded again. Settings were chosen
on the last 10,000 rows of train. HASHFOLD_DATA with fashion-mnist; BENCH_SEEDS; BENCH_SETS: dense (with the nets
made of it), hashed, narrow; FOLD_VALIDATION: those rows in place of test.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.common import chosen, data_folder, scratch, seeds, table
from benchmarks.fold.built import Built, parameters
from benchmarks.fold.images import Images, Recipe, error, fit, load, logits_of, record
from benchmarks.fold.resnet import DEPTH, WIDTHS, resnet
from hashfold.compress import CodebookConfig, Schedule, StraightThrough, compress, convert, prepare, save
from hashfold.compress import load as load_compressed
from hashfold.nn import HashedConv2d, HashedLinear
from hashfold.nn.folded import HashOptions

NEEDS = ("HASHFOLD_DATA",)
NARROW = (5, 10, 20)
DENSE = Recipe(epochs=5, rate=4e-3, batch=128, weight_decay=5e-2, hold=0.2, bfloat16=True)
TUNING = replace(DENSE, epochs=1, rate=1e-3, weight_decay=0.0, hold=0.05, distil=0.7, temperature=2.0)
SETS = ("dense", "narrow", "hashed")


@dataclass(frozen=True)
class Plan:
    """How the nets are trained, and what they store."""

    dense: Recipe = DENSE
    tuning: Recipe = TUNING
    small: Recipe = DENSE
    refresh_steps: int = 20
    end_ratio: float = 2.0  # weights to buckets of the first and the last layer, which have few
    tile: int = 1
    narrow: tuple[int, ...] = NARROW


PLAN = Plan()
FIGURES = {
    "4 bits": "<= 0.3 lost",
    "2 bits tuned": "<= 1.0 lost",
    "hashed 1/10": ">= 1 better than narrow",
}


def hashed_resnet(plan: Plan, seed: int) -> nn.Sequential:
    """As many stored values, of batch normalisation and biases too, as the narrow net has, or a few less."""

    dense, ends = resnet(), 9 * WIDTHS[0] + 10 * WIDTHS[-1]
    weights = sum(p.numel() for p in dense.parameters() if p.dim() > 1)
    budget = parameters(resnet(plan.narrow)) - (parameters(dense) - weights)
    others = budget - ends / plan.end_ratio - DEPTH * plan.tile  # each layer rounds down to whole tiles
    ratio, hashes = (weights - ends) / others, itertools.count(100 * seed)

    def options(ratio: float) -> HashOptions:
        return {"compression_ratio": ratio, "tile": plan.tile, "seed": next(hashes)}

    def convolution(inputs: int, outputs: int, stride: int) -> nn.Module:
        hashing = options(plan.end_ratio if inputs == 1 else ratio)
        return HashedConv2d(inputs, outputs, 3, stride, 1, bias=False, **hashing)

    return resnet(
        convolution=convolution,
        output=lambda inputs, outputs: HashedLinear(inputs, outputs, **options(plan.end_ratio)),
    )


def two_bits(dense: nn.Module, plan: Plan, images: Images, seed: int, teacher: Tensor) -> nn.Module:

    model = prepare(dense, CodebookConfig(bits=2, tuning=StraightThrough(plan.refresh_steps), seed=seed))
    schedule = Schedule(model)
    fit(model, images.x_train, images.y_train, plan.tuning, seed, teacher=teacher, after_step=schedule.step)
    return convert(model)


def scored(model: nn.Module, images: Images) -> dict[str, Any]:
    """Of the model as it is loaded from its file."""

    with scratch() as folder:
        found: dict[str, Any] = {"bytes": save(model, folder / "model"), "parameters": parameters(model)}
        again = load_compressed(folder / "model", model)
    return found | {"error": error(again, images.x_test, images.y_test)}


def measured(
    plan: Plan, images: Images, seed: int, names: tuple[str, ...]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row and its figures, as soon as they are there. `lost`: points, against this seed's dense net."""

    x, y = images.x_train, images.y_train
    if "dense" in names:
        start = time.perf_counter()
        torch.manual_seed(seed)
        dense = fit(resnet(), x, y, plan.dense, seed)
        base = scored(dense, images)
        yield "dense", base | {"seconds": time.perf_counter() - start}
        start = time.perf_counter()
        small = scored(compress(dense, CodebookConfig(bits=4, seed=seed)), images)
        yield "4 bits", small | {"lost": small["error"] - base["error"], "seconds": time.perf_counter() - start}
        start = time.perf_counter()
        small = scored(two_bits(dense, plan, images, seed, logits_of(dense, x)), images)
        yield (
            "2 bits tuned",
            small | {"lost": small["error"] - base["error"], "seconds": time.perf_counter() - start},
        )
    narrow = None
    if "narrow" in names:
        start = time.perf_counter()
        torch.manual_seed(seed)
        narrow = scored(fit(resnet(plan.narrow), x, y, plan.small, seed), images)
        yield "narrow", narrow | {"seconds": time.perf_counter() - start}
    if "hashed" in names:
        start = time.perf_counter()
        torch.manual_seed(seed)
        model = hashed_resnet(plan, seed)
        fit(Built(model), x, y, plan.small, seed)
        small = scored(model.eval(), images)
        better = {"better": narrow["error"] - small["error"]} if narrow else {}
        yield "hashed 1/10", small | better | {"seconds": time.perf_counter() - start}


def main() -> None:
    validation = "FOLD_VALIDATION" in os.environ
    images = load(data_folder() / "fashion-mnist", validation=validation)
    file = "fold_convnet" + "_validation" * validation
    rows: dict[str, Any] = {}
    for seed in seeds():
        for name, run in measured(PLAN, images, seed, tuple(chosen(SETS))):
            print(name, json.dumps(run), flush=True)
            rows[name] = record(file, name, asdict(PLAN), {"seed": seed, **run})
    lines = []
    for name, row in rows.items():
        middle = row["mean"]
        change = middle.get("lost", middle.get("better", "-"))
        sizes = (int(middle["parameters"]), int(middle["bytes"]), middle["seconds"])
        lines.append(
            [
                name,
                middle["error"],
                row["stdev"]["error"],
                change,
                len(row["runs"]),
                *sizes,
                FIGURES.get(name, "-"),
            ]
        )
    header = ["ResNet-20", "% error", "stdev", "points lost, or better", "seeds", "stored", "bytes", "seconds"]
    table([*header, "figure to reach"], lines)


if __name__ == "__main__":
    main()
