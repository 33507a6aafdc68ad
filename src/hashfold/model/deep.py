"""The deep path as predictions see it, whatever holds its weights."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hashfold import checks
from hashfold.index import INDEXES, Candidates, NeuronIndex, index_options, make_index
from hashfold.index.virtual import Vectors
from hashfold.kernels.active_step import PRECISIONS
from hashfold.model.phases import check_phases
from hashfold.model.storage import check_storage
from hashfold.nn import SampledSigmoidLoss, SampledSoftmaxLoss
from hashfold.optim import OPTIMIZERS
from hashfold.sparse import CsrBatch, Float32, Int32

LOSSES: dict[str, type[SampledSoftmaxLoss] | type[SampledSigmoidLoss]] = {
    "softmax": SampledSoftmaxLoss,
    "sigmoid": SampledSigmoidLoss,
}


@dataclass(frozen=True)
class NetworkConfig:
    """Everything that fixes a `LookupNetwork` but its weights.

    hidden: width of the hidden vector. loss: "softmax" (rows with few of many labels) or "sigmoid" (many labels
    a row). dropout: share of hidden units dropped in training. negatives: uniform negative labels a batch; 0
    computes all labels. hard_negatives: labels looked up by each row's hidden vector and added to the batch's
    active set. phases: [[until, hard_negatives, negatives], ...], so many of each up to that share of a run's
    steps, in place of the two settings; 0 of both are the labels of the batch alone. index, index_options: of
    the output layer. rebuild: when training rebuilds that index, reinsert: when it moves labels whose vectors
    have moved to where they belong, counted in steps that look up; see `hashfold.index.make_schedule`. search,
    search_options: of the index that predicts by lookup, built over the trained weights. lr: the peak rate.
    optimizer: "adam", which keeps two moments of each weight in float32; "rowwise_adam", one, and one second
    moment a row; "compact_adam", so too, the former in bfloat16; or "rowwise_adagrad", one number a row in all,
    with rates twenty times as high (see `hashfold.optim`).
    input_std, output_std: of the initial weights. label_start: the length of label vectors that start at the
    mean of their rows' hidden vectors (see `LookupNetwork.start_labels`; 0: at random). unit_hidden,
    label_norm: hidden vectors scaled to length 1 and label vectors held to a length (0: free), which makes the
    layer easy to look up. label_bias: labels have biases, started at their log prior. precision: of the output
    layer's products in training, "fp32", "bf16" (operands rounded, weights and sums in float32), or "auto":
    bf16 where the machine multiplies it natively. storage: of the weights of both layers once trained, in the
    model folder and in predicting: "fp32", "fp16", or "int8", which also scores labels in 8 bits (see
    `hashfold.model.storage`).
    """

    num_features: int
    num_labels: int
    hidden: int = 256
    loss: str = "softmax"
    dropout: float = 0.3
    negatives: int = 4096
    hard_negatives: int = 0
    index: str = "exact"
    index_options: dict[str, Any] = field(default_factory=dict)
    rebuild: str = "growing:100:1.5"
    phases: list[list[float]] = field(default_factory=list)
    reinsert: str = "never"
    search: str = "tree"
    search_options: dict[str, Any] = field(default_factory=dict)
    lr: float = 5e-3
    optimizer: str = "adam"
    input_std: float = 0.06
    output_std: float = 0.02
    label_start: float = 0.0
    unit_hidden: bool = False
    label_norm: float = 0.0
    label_bias: bool = True
    precision: str = "auto"
    storage: str = "fp32"
    seed: int = 0

    def __post_init__(self) -> None:
        op = "NetworkConfig"
        for name in ("num_features", "num_labels", "hidden"):
            checks.integer(op, name, getattr(self, name), low=1)
        for name in ("negatives", "hard_negatives", "seed"):
            checks.integer(op, name, getattr(self, name), low=0)
        check_phases(op, self.phases)
        checks.one_of(op, "loss", self.loss, LOSSES)
        checks.one_of(op, "precision", self.precision, PRECISIONS)
        checks.one_of(op, "optimizer", self.optimizer, OPTIMIZERS)
        check_storage(op, self.storage, self.hidden)
        checks.number(op, "dropout", self.dropout, low=0.0, high=0.95)
        for name in ("lr", "input_std", "output_std"):
            checks.number(op, name, getattr(self, name), above=0.0)
        for name in ("label_start", "label_norm"):
            checks.number(op, name, getattr(self, name), low=0.0)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> NetworkConfig:
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(config) - known)
        if unknown:
            checks.fail("NetworkConfig", "known settings only", ", ".join(unknown), "update hashfold")
        return cls(**config)


class DeepPath(nn.Module, ABC):
    """logits(x) = W h(x) + b, h = relu(x V + c): what is asked of it once it is trained."""

    config: NetworkConfig

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self._searchers: dict[str, NeuronIndex] = {}

    @abstractmethod
    def sums(self, x: CsrBatch) -> Tensor:
        """x V + c, (rows, hidden)."""

    @abstractmethod
    def feature_rows(self, ids: Int32) -> Float32:
        """Rows of V: (features, hidden)."""

    @abstractmethod
    def label_rows(self) -> tuple[Vectors, Float32 | None]:
        """W (num_labels, hidden) as an index takes it, and b."""

    def label_row(self, label: int) -> Float32:
        """A row of W, (hidden,)."""
        row: Float32 = self.label_rows()[0][np.array([label])][0]
        return row

    def hidden(self, x: CsrBatch) -> Tensor:
        """h(x), (rows, hidden)."""
        h = torch.relu(self.sums(x))
        return nn.functional.normalize(h, dim=1) if self.config.unit_hidden else h

    def searcher(self, lookup: bool) -> NeuronIndex:
        """The index that predictions ask: every label scored, or `config.search` over the weights as they are.

        Built when first asked for after the weights have moved. Rows are in 8 bits where storage is.
        """
        name = self.config.search if lookup else "exact"
        if name not in self._searchers:
            options = dict(self.config.search_options) if lookup else {}
            if self.config.storage == "int8" and "precision" in index_options(INDEXES.get(name, NeuronIndex)):
                options = {"precision": "int8", **options}
            index = make_index(name, self.config.num_labels, self.config.hidden, **options)
            index.build(*self.label_rows())
            self._searchers[name] = index
        return self._searchers[name]

    @torch.no_grad()
    def candidates(self, x: CsrBatch, k: int, lookup: bool = False) -> Candidates:
        """The k labels of each row with the highest logits, best first, and how many were scored (`found`)."""
        return self.searcher(lookup).query(self.hidden(x).numpy(), k)

    def top_k(self, x: CsrBatch, k: int, lookup: bool = False, block_rows: int = 1024) -> tuple[Int32, Float32]:
        """The k highest-scored labels of each row and their logits, best first: (rows, k) each.

        With `lookup` the search index proposes the labels; else all are scored. Rows for which fewer than
        k labels were found end in id -1 with score -inf.
        """
        k = min(k, self.config.num_labels)
        ids, scores = np.full((len(x), k), -1, np.int32), np.full((len(x), k), -math.inf, np.float32)
        for at in range(0, len(x), block_rows):
            rows = slice(at, min(len(x), at + block_rows))
            _fill_top(self.candidates(x.take(np.arange(len(x))[rows]), k, lookup), ids[rows], scores[rows])
        return ids, scores


def _fill_top(found: Candidates, ids: Int32, scores: Float32) -> None:
    counts = found.counts
    columns = np.arange(len(found.ids)) - np.repeat(found.indptr[:-1], counts)
    rows = np.repeat(np.arange(len(counts)), counts)
    ids[rows, columns], scores[rows, columns] = found.ids, found.scores
