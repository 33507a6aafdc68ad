"""A slice of enwiki as word ids, and the two-layer LSTM language model that is trained on it."""

from __future__ import annotations

import itertools
import lzma
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.fold.images import rate_at

WORD = re.compile(r"[a-z]+|[0-9]+")
END, UNKNOWN = "</doc>", "<unknown>"
State = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Words:
    """int64 ids of three streams of articles; ids fall with frequency in train, after that of UNKNOWN."""

    train: Tensor
    validation: Tensor
    test: Tensor
    vocabulary: list[str]


def load(path: Path, vocabulary: int, train_words: int, held_out: int = 65_536, begin: int = 2_048) -> Words:
    """The first articles of the file: of each ten, the `begin` of one is for validation, of another for test.

    The vocabulary is UNKNOWN and the most frequent words of train.
    """
    streams: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    sizes = {"train": train_words, "validation": held_out, "test": held_out}
    for number, article in enumerate(_articles(path)):
        name = {8: "validation", 9: "test"}.get(number % 10, "train")
        streams[name] += article if name == "train" else article[:begin]
        if all(len(streams[name]) >= size for name, size in sizes.items()):
            break
    cut = {name: streams[name][:size] for name, size in sizes.items()}
    known = [UNKNOWN, *(word for word, _ in Counter(cut["train"]).most_common(vocabulary - 1))]
    ids = {word: at for at, word in enumerate(known)}
    encoded = {name: torch.tensor([ids.get(word, 0) for word in words]) for name, words in cut.items()}
    return Words(**encoded, vocabulary=known)


def _articles(path: Path) -> Iterator[list[str]]:
    """Words of each article, END last."""
    article: list[str] = []
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("</doc"):
                yield [*article, END]
                article = []
            elif not line.startswith("<doc"):
                article += WORD.findall(line.lower())


class WordModel(nn.Module):
    """Logits of the next word: (steps, rows) ids -> (steps, rows, words), and the last states.

    `output` holds the weight of `embedding` (tied: Press and Wolf, EACL 2017).
    """

    def __init__(self, embedding: nn.Module, lstm: nn.Module, output: nn.Module) -> None:
        super().__init__()
        self.embedding, self.lstm, self.output = embedding, lstm, output

    def forward(self, ids: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        y, state = self.lstm(self.embedding(ids), state)
        return self.output(y), state


def dense_model(words: int, width: int) -> WordModel:
    embedding, output = nn.Embedding(words, width), nn.Linear(width, words)
    nn.init.normal_(embedding.weight, std=initial_std(width))
    output.weight = embedding.weight
    return WordModel(embedding, nn.LSTM(width, width, 2), output)


@torch.no_grad()
def start_bias(model: WordModel, stream: Tensor) -> WordModel:
    """`model`, whose output biases start at the logarithms of the words' frequencies: it need not learn them."""
    bias = model.output.get_parameter("bias")
    counts = torch.bincount(stream, minlength=len(bias)) + 1
    bias.copy_((counts / counts.sum()).log())
    return model


def initial_std(width: int) -> float:
    """Of the tied matrix: logits start at about a tenth."""
    return 1 / math.sqrt(width)


@dataclass(frozen=True)
class Recipe:
    """Adam, `rate` as in `images.Recipe`; sequences of `steps` words, whose gradient goes no further back."""

    epochs: int
    rate: float
    rows: int = 32
    steps: int = 32
    clip: float = 0.5  # of the gradient's norm
    hold: float = 0.05
    bfloat16: bool = True  # in training


def fit(model: nn.Module, stream: Tensor, recipe: Recipe, seed: int) -> nn.Module:
    """Trains `model`. The stream starts at another word in each epoch."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.rate, fused=True)
    offsets = torch.randint(len(stream) // 8, (recipe.epochs,), generator=generator).tolist()
    batches = [list(_sequences(stream.roll(at), recipe.rows, recipe.steps)) for at in offsets]
    total, step = sum(map(len, batches)), 0
    for epoch in batches:
        state: State | None = None
        for ids, following in epoch:
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate * rate_at(step / total, recipe.hold)
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
                logits, state = model(ids, state)
            loss = F.cross_entropy(logits.flatten(0, 1).float(), following.flatten())
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimizer.step()
            state = (state[0].detach(), state[1].detach())
            step += 1
    return model.eval()


@torch.no_grad()
def perplexity(model: nn.Module, stream: Tensor, rows: int = 64) -> float:
    """exp of the mean loss, states carried on from sequence to sequence."""
    model.eval()
    state: State | None = None
    total, count = 0.0, 0
    for ids, following in _sequences(stream, rows, 16):
        logits, state = model(ids, state)
        total += float(F.cross_entropy(logits.flatten(0, 1), following.flatten(), reduction="sum"))
        count += following.numel()
    return math.exp(total / count)


def _sequences(stream: Tensor, rows: int, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Ids and the ids that follow, (steps, rows) each: `rows` parts of the stream side by side."""
    length = (len(stream) - 1) // rows
    ids, following = (stream[at : at + rows * length].view(rows, length).T for at in (0, 1))
    for at in itertools.count(0, steps):
        if at + steps > length:
            return
        yield ids[at : at + steps], following[at : at + steps]
