"""A two-layer LSTM word model of Wikipedia: 4 bits untuned, hashed to 1/8, beside dense and narrow ones.

Embedding and output share one matrix in all of them. Perplexities are those of the packed model, saved and loaded
again. Settings were chosen on articles held out of train and test. HASHFOLD_DATA with enwiki-100mb; BENCH_SEEDS;
BENCH_SETS: dense (and 4 bits), narrow, hashed; FOLD_VALIDATION: those articles in place of test.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.common import chosen, data_folder, scratch, seeds, table
from benchmarks.fold.built import Built, parameters
from benchmarks.fold.images import record
from benchmarks.fold.words import Recipe, WordModel, Words, dense_model, fit, initial_std, load, perplexity
from hashfold.compress import CodebookConfig, compress, save
from hashfold.compress import load as load_compressed
from hashfold.nn import FoldedLinear, HashedEmbedding, HashedLSTM

NEEDS = ("HASHFOLD_DATA",)
RECIPE = Recipe(epochs=1, rate=4e-3)
SETS = ("dense", "narrow", "hashed")
FIGURES = {"4 bits": "<= +1 %", "hashed 1/8": "below narrow"}


@dataclass(frozen=True)
class Plan:
    words: int = 5_000
    train_words: int = 600_000
    width: int = 200
    narrow: int = 36
    recipe: Recipe = RECIPE
    dropout: float = 0.0  # one epoch does not overfit
    tile: int = 8


PLAN = Plan()


def hashed_model(plan: Plan, seed: int) -> WordModel:
    """As many stored values, biases too, as the narrow model has, or a few less."""

    dense = dense_model(plan.words, plan.width)
    weights = sum(p.numel() for p in dense.parameters() if p.dim() > 1)
    budget = parameters(dense_model(plan.words, plan.narrow)) - (parameters(dense) - weights)
    ratio, tile = weights / (budget - 5 * plan.tile), plan.tile  # each weight rounds down to whole tiles
    std, first = initial_std(plan.width), 100 * seed
    embedding = HashedEmbedding(
        plan.words, plan.width, compression_ratio=ratio, tile=tile, seed=first, init_std=std
    )
    lstm = HashedLSTM(plan.width, plan.width, 2, compression_ratio=ratio, tile=tile, seed=first + 1)
    output = FoldedLinear(plan.width, plan.words, weight=embedding.weight)
    assert output.bias is not None
    nn.init.zeros_(output.bias)
    return WordModel(embedding, lstm, output)


def scored(model: nn.Module, stream: Tensor) -> dict[str, Any]:
    """Of the model as it is loaded from its file."""

    with scratch() as folder:
        found: dict[str, Any] = {"bytes": save(model, folder / "model"), "parameters": parameters(model)}
        again = load_compressed(folder / "model", model)
    return found | {"perplexity": perplexity(again, stream)}


def measured(
    plan: Plan, words: Words, stream: Tensor, seed: int, names: tuple[str, ...]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row and its figures, as soon as they are there."""

    start = time.perf_counter()
    torch.manual_seed(seed)
    if "dense" in names:
        dense = dense_model(plan.words, plan.width, plan.dropout)
        loss = fit(dense, words.train, plan.recipe, seed)
        base = scored(dense, stream)
        yield "dense", base | {"train_loss": loss, "seconds": time.perf_counter() - start}
        start = time.perf_counter()
        small = scored(compress(dense, CodebookConfig(bits=4, seed=seed)), stream)
        more = 100 * (small["perplexity"] / base["perplexity"] - 1)
        yield "4 bits", small | {"percent_more": more, "seconds": time.perf_counter() - start}
    narrow = None
    if "narrow" in names:
        start = time.perf_counter()
        torch.manual_seed(seed)
        model = dense_model(plan.words, plan.narrow)
        loss = fit(model, words.train, plan.recipe, seed)
        narrow = scored(model, stream)
        yield "narrow", narrow | {"train_loss": loss, "seconds": time.perf_counter() - start}
    if "hashed" in names:
        start = time.perf_counter()
        torch.manual_seed(seed)
        model = hashed_model(plan, seed)
        loss = fit(Built(model), words.train, plan.recipe, seed)
        small = scored(model.eval(), stream)
        more = {"percent_more": 100 * (small["perplexity"] / narrow["perplexity"] - 1)} if narrow else {}
        yield "hashed 1/8", small | more | {"train_loss": loss, "seconds": time.perf_counter() - start}


def main() -> None:
    validation = "FOLD_VALIDATION" in os.environ
    words = load(data_folder() / "enwiki-100mb" / "enwiki.txt.xz", PLAN.words, PLAN.train_words)
    stream = words.validation if validation else words.test
    file = "fold_lstm" + "_validation" * validation
    rows: dict[str, Any] = {}
    for seed in seeds():
        for name, run in measured(PLAN, words, stream, seed, tuple(chosen(SETS))):
            print(name, json.dumps(run), flush=True)
            rows[name] = record(file, name, asdict(PLAN), {"seed": seed, **run})
    lines = []
    for name, row in rows.items():
        middle = row["mean"]
        sizes = (len(row["runs"]), int(middle["parameters"]), int(middle["bytes"]), middle["seconds"])
        change = middle.get("percent_more", "-")
        lines.append(
            [name, middle["perplexity"], row["stdev"]["perplexity"], change, *sizes, FIGURES.get(name, "-")]
        )
    header = ["LSTM", "perplexity", "stdev", "% more than dense, or than narrow", "seeds", "stored", "bytes"]
    table([*header, "seconds", "figure to reach"], lines)


if __name__ == "__main__":
    main()
