"""A two-layer LSTM word model of Wikipedia: 4 bits untuned, hashed to 1/8, beside dense and narrow ones.

Embedding and output share one matrix in all of them. Perplexities are those of the packed model, saved and loaded
again. Settings were chosen on articles held out of train and test. HASHFOLD_DATA with enwiki-100mb; BENCH_SEEDS;
BENCH_SETS: which rows; FOLD_VALIDATION: those articles in place of test.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.common import data_folder, scratch
from benchmarks.fold.built import Built, Row, parameters, run_rows
from benchmarks.fold.words import Recipe, WordModel, dense_model, fit, initial_std, load, perplexity, start_bias
from hashfold.compress import CodebookConfig, compress, save
from hashfold.compress import load as load_compressed
from hashfold.nn import FoldedLinear, HashedEmbedding, HashedLSTM

NEEDS = ("HASHFOLD_DATA",)


@dataclass(frozen=True)
class Plan:
    """What is trained on what, and how."""

    words: int  # of the vocabulary
    train_words: int
    width: int  # of embedding and states
    narrow: int  # that of the model an eighth as large
    recipe: Recipe
    four_bits: CodebookConfig
    tile: int


PLAN = Plan(
    words=5_000,
    train_words=600_000,
    width=200,
    narrow=36,
    recipe=Recipe(epochs=1, rate=4e-3),
    four_bits=CodebookConfig(bits=4),
    tile=8,
)
TRAINED = ("words", "train_words", "recipe")
ROWS = {
    "dense": Row((*TRAINED, "width")),
    "4 bits": Row((*TRAINED, "width", "four_bits"), "dense", "<= +1 %"),
    "narrow": Row((*TRAINED, "narrow")),
    "hashed 1/8": Row((*TRAINED, "width", "narrow", "tile"), "narrow", "less"),
}


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
    return WordModel(embedding, lstm, FoldedLinear(plan.width, plan.words, weight=embedding.weight))


def models(plan: Plan, train: Tensor, seed: int, names: Sequence[str]) -> Iterator[tuple[str, nn.Module]]:
    """Of each row, as soon as it is there."""
    torch.manual_seed(seed)
    if not {"dense", "4 bits"}.isdisjoint(names):
        dense = start_bias(dense_model(plan.words, plan.width), train)
        yield "dense", fit(dense, train, plan.recipe, seed)
        if "4 bits" in names:
            yield "4 bits", compress(dense, plan.four_bits)
    torch.manual_seed(seed)
    if "narrow" in names:
        narrow = start_bias(dense_model(plan.words, plan.narrow), train)
        yield "narrow", fit(narrow, train, plan.recipe, seed)
    torch.manual_seed(seed)
    if "hashed 1/8" in names:
        hashed = start_bias(hashed_model(plan, seed), train)
        fit(Built(hashed), train, plan.recipe, seed)
        yield "hashed 1/8", hashed


def scored(model: nn.Module, stream: Tensor) -> dict[str, Any]:
    """Of the model as it is loaded from its file."""
    with scratch() as folder:
        found: dict[str, Any] = {"bytes": save(model, folder / "model"), "stored": parameters(model)}
        again = load_compressed(folder / "model", model)
    return found | {"perplexity": perplexity(again, stream)}


def main() -> None:
    validation = "FOLD_VALIDATION" in os.environ
    words = load(data_folder() / "enwiki-100mb" / "enwiki.txt.xz", PLAN.words, PLAN.train_words)
    stream = words.validation if validation else words.test
    run_rows(
        "fold_lstm" + "_validation" * validation,
        "perplexity",
        PLAN,
        ROWS,
        lambda seed, names: models(PLAN, words.train, seed, names),
        lambda model: scored(model, stream),
    )


if __name__ == "__main__":
    main()
