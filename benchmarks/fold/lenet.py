"""LeNet-300-100 and LeNet-5 on MNIST, pruned, with shared values, in one entropy-coded file: bytes and error.

Train, prune gradually (Zhu and Gupta, 2017), share values and train them (Deep Compression: Han et al., ICLR
2016), save, load, predict from what was loaded. Distilled from a dense LeNet-5 of the same rows. Settings
were chosen on the last 10,000 rows of train.
HASHFOLD_DATA with mnist; BENCH_SEEDS; BENCH_SETS: which nets; FOLD_VALIDATION: those rows in place of test.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.common import chosen, data_folder, scratch, seeds, table
from benchmarks.fold.images import Images, Recipe, error, fit, load, logits_of, record, size
from benchmarks.fold.nets import LENET_5, lenet_5, lenet_300_100, trained_lenet_5, with_dropout
from hashfold.compress.plan import Configs

NEEDS = ("HASHFOLD_DATA",)
FIGURES = ("error_dense", "error_pruned", "error", "bytes_dense", "bytes_plain", "bytes", "kept")


@dataclass(frozen=True)
class Plan:
    """How a net is made small."""

    dense: Recipe
    pruning: Recipe
    tuning: Recipe
    dropout: tuple[float, float]  # of the dense net, and from pruning on
    keep: dict[str, float]  # of the weights of each layer
    bits: int  # of a shared value
    target_bytes: int
    target_error: float
    theirs: str


PLAIN = Recipe(epochs=10, rate=4e-3, distil=0.7, temperature=2.0)
MIXED = replace(PLAIN, bfloat16=True)
PLANS = {
    "LeNet-300-100": Plan(
        dense=PLAIN,
        pruning=replace(PLAIN, epochs=8, rate=3e-3, hold=0.6),
        tuning=replace(PLAIN, epochs=3, rate=1e-3),
        dropout=(0.2, 0.05),
        keep={"2": 0.04, "5": 0.12, "8": 0.6},
        bits=3,
        target_bytes=16_384,
        target_error=1.58,
        theirs="27 KB, 1.58 %",
    ),
    "LeNet-5": Plan(
        dense=LENET_5,
        pruning=replace(MIXED, epochs=5, rate=2e-3, hold=0.6),
        tuning=replace(MIXED, epochs=2, rate=5e-4),
        dropout=(0.4, 0.1),
        keep={"0": 0.6, "3": 0.12, "8": 0.015, "11": 0.2},
        bits=3,
        target_bytes=14_336,
        target_error=0.74,
        theirs="44 KB, 0.74 %",
    ),
}
"""The teacher is the dense LeNet-5 of the same seed, which saw the same images; LeNet-5 is its own."""
NETS: dict[str, Callable[..., nn.Sequential]] = {"LeNet-300-100": lenet_300_100, "LeNet-5": lenet_5}


def pruned(net: nn.Module, plan: Plan, images: Images, seed: int, teacher: Tensor | None) -> nn.Module:
    from hashfold.compress import PruneConfig, Schedule, convert, prepare

    steps = plan.pruning.epochs * (len(images.x_train) // plan.pruning.batch)
    until = int(plan.pruning.hold * steps)
    config: Configs = {
        layer: PruneConfig(1 - keep, steps=(0, until), every=50) for layer, keep in plan.keep.items()
    }
    model = prepare(net, config)
    schedule = Schedule(model)
    fit(model, images.x_train, images.y_train, plan.pruning, seed, teacher=teacher, after_step=schedule.step)
    return convert(model)


def shared(net: nn.Module, plan: Plan, images: Images, seed: int, teacher: Tensor | None) -> nn.Module:
    from hashfold.compress import CodebookConfig, PruneConfig, Schedule, StraightThrough, convert, prepare

    tuning = StraightThrough(refresh_steps=20)
    config: Configs = {
        layer: CodebookConfig(bits=plan.bits, prune=PruneConfig(1 - keep), tuning=tuning, seed=seed)
        for layer, keep in plan.keep.items()
    }
    model = prepare(net, config)
    schedule = Schedule(model)
    fit(model, images.x_train, images.y_train, plan.tuning, seed, teacher=teacher, after_step=schedule.step)
    return convert(model)


def measure(name: str, images: Images, seed: int, teacher_net: nn.Module) -> dict[str, Any]:
    from hashfold.compress import load as load_compressed
    from hashfold.compress import save

    plan, start = PLANS[name], time.perf_counter()
    x, y = images.x_test, images.y_test
    teacher = logits_of(teacher_net, images.x_train)
    dense = teacher_net
    if name != "LeNet-5":
        torch.manual_seed(seed)
        dense = NETS[name](plan.dropout[0])
        fit(dense, images.x_train, images.y_train, plan.dense, seed, teacher=teacher)
    sparse = pruned(with_dropout(dense, plan.dropout[1]), plan, images, seed, teacher)
    small = shared(sparse, plan, images, seed, teacher)
    with scratch() as folder:
        path = folder / "small.safetensors"
        found = {"bytes": save(small, path, entropy=True, half="."), "bytes_plain": save(small, folder / "plain")}
        again = load_compressed(path, NETS[name])
        assert path.stat().st_size == found["bytes"]
        reloaded = error(again, x, y)
        assert torch.equal(logits_of(again, x), logits_of(load_compressed(path, NETS[name]), x))
    weights = [p for p in sparse.parameters() if p.dim() > 1]
    return found | {
        "error_dense": error(dense, x, y),
        "error_pruned": error(sparse, x, y),
        "error_unsaved": error(small, x, y),
        "error": reloaded,
        "weights": size(weights),
        "kept": sum(int((w != 0).sum()) for w in weights),
        "bytes_dense": 4 * size(dense.parameters()),
        "seconds": time.perf_counter() - start,
    }


def measured(images: Images, seed: int) -> dict[str, dict[str, Any]]:
    """Of each net."""
    start = time.perf_counter()
    teacher = trained_lenet_5(images, seed)
    seconds = {"teacher_seconds": time.perf_counter() - start}
    return {n: {"seed": seed, **measure(n, images, seed, teacher), **seconds} for n in chosen(tuple(PLANS))}


def main() -> None:
    validation = "FOLD_VALIDATION" in os.environ
    images = load(data_folder() / "mnist", validation=validation)
    file = "fold_lenet" + "_validation" * validation
    rows: dict[str, Any] = {}
    for seed in seeds():
        for name, run in measured(images, seed).items():
            print(name, json.dumps(run), flush=True)
            rows[name] = record(file, name, asdict(PLANS[name]), run)
    lines = []
    for name, row in rows.items():
        plan, middle = PLANS[name], row["mean"]
        reach = f"<= {plan.target_bytes:,} bytes, {plan.target_error} %"
        lines.append([name, len(row["runs"]), *(middle[key] for key in FIGURES), reach, plan.theirs])
    header = ["net", "seeds", *(key.replace("_", " ") for key in FIGURES), "figure to reach", "Deep Compression"]
    table(header, lines)


if __name__ == "__main__":
    main()
