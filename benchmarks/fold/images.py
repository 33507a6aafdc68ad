"""28 x 28 images in the idx format, and what trains a network on them: distillation, averaging, the schedule."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.common import RESULTS, write

VALIDATION = 10_000
"""The last rows of train, on which the settings were chosen."""


@dataclass(frozen=True)
class Images:
    """float32 (n, 1, 28, 28) in [0, 1] and int64 (n,)."""

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor


def load(folder: Path, validation: bool = False) -> Images:
    """Train and test; with `validation`, the first rows of train and its last 10,000 in place of test."""

    def part(name: str) -> tuple[Tensor, Tensor]:
        x, y = (read_idx(folder / f"{name}-{kind}-ubyte.gz") for kind in ("images-idx3", "labels-idx1"))
        return x[:, None].float() / 255, y.long()

    x, y = part("train")
    if validation:
        return Images(x[:-VALIDATION], y[:-VALIDATION], x[-VALIDATION:], y[-VALIDATION:])
    return Images(x, y, *part("t10k"))


def read_idx(path: Path) -> Tensor:
    """uint8, of the file's shape."""
    raw = gzip.decompress(path.read_bytes())
    dims = raw[3]
    shape = np.frombuffer(raw, ">i4", dims, 4)
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=4 + 4 * dims).reshape(shape).copy())


@dataclass(frozen=True)
class Recipe:
    """Adam; `rate` rises over the first twentieth of the steps, then falls to zero as a cosine."""

    epochs: int
    rate: float
    batch: int = 256
    weight_decay: float = 0.0
    hold: float = 0.05  # share of the steps after which the rate begins to fall
    distil: float = 0.0  # weight of the teacher's soft labels in the loss
    temperature: float = 3.0
    bfloat16: bool = False  # products of training, as in mixed precision; weights and testing stay float32


def rate_at(done: float, hold: float) -> float:
    """Of the highest rate, after `done` of the steps."""
    if done < hold:
        return min(1.0, done / 0.05)
    return 0.5 * (1 + math.cos(math.pi * (done - hold) / (1 - hold)))


def fit(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    seed: int,
    *,
    teacher: Tensor | None = None,
    after_step: Callable[[], None] = lambda: None,
) -> nn.Module:
    """Trains `model` on x, y. `teacher`: logits (n, classes) for `distil`."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model.train()
    optimizer = torch.optim.AdamW(groups(model, recipe.weight_decay), lr=recipe.rate, fused=True)
    steps, step = recipe.epochs * (len(x) // recipe.batch), 0
    for _ in range(recipe.epochs):
        for rows in torch.split(torch.randperm(len(x), generator=generator), recipe.batch):
            if len(rows) < recipe.batch:
                continue
            done = step / steps
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate * rate_at(done, recipe.hold)
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
                logits = model(channels_last(x[rows]) if recipe.bfloat16 else x[rows])
            loss = loss_of(logits.float(), y[rows], None if teacher is None else teacher[rows], recipe)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            step += 1
            after_step()
    return model.eval()


def channels_last(x: Tensor) -> Tensor:
    """The same image of one channel, with the strides from which torch takes that convolutions are to use this
    layout, in which they take half the time."""
    return x.as_strided(x.shape, (x[0].numel(), 1, x.shape[3], 1))


def groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Biases do not decay."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    plain = [p for name, p in named if name.endswith("bias")]
    rest = [p for name, p in named if not name.endswith("bias")]
    return [{"params": rest, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def loss_of(logits: Tensor, y: Tensor, teacher: Tensor | None, recipe: Recipe) -> Tensor:
    """Cross-entropy, mixed with that to the teacher's labels at the temperature (Hinton et al., 2015)."""
    loss = F.cross_entropy(logits, y)
    if teacher is None or not recipe.distil:
        return loss
    t = recipe.temperature
    soft = F.kl_div(F.log_softmax(logits / t, 1), F.softmax(teacher / t, 1), reduction="batchmean") * t * t
    return (1 - recipe.distil) * loss + recipe.distil * soft


@torch.no_grad()
def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    model.eval()
    return torch.cat([model(part) for part in torch.split(x, 500)])


def error(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Per cent of the rows."""
    return 100.0 * float((logits_of(model, x).argmax(1) != y).float().mean())


def record(name: str, row: str, settings: Mapping[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    """Adds a run to a row of results/NAME.json, beside those of other seeds with the same settings; the row.

    A row: `settings`, `runs`, and of every figure the `mean` and the standard deviation of a run, `stdev`.
    """
    path = RESULTS / f"{name}.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else {}
    settings = json.loads(json.dumps(settings))
    old = rows.get(row, {})
    runs = old["runs"] if old.get("settings") == settings else []
    runs = sorted([r for r in runs if r["seed"] != run["seed"]] + [run], key=lambda r: r["seed"])
    figures = [key for key in run if key != "seed"]
    middle = {key: mean(r[key] for r in runs) for key in figures}
    spread = {key: stdev(r[key] for r in runs) if len(runs) > 1 else 0.0 for key in figures}
    rows[row] = {"settings": settings, "mean": middle, "stdev": spread, "runs": runs}
    write(name, {"rows": rows})
    return rows[row]


def size(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)
