"""The deep path: sparse input -> hidden vector -> the labels that it looks up."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hashfold import checks, functional
from hashfold.index import INDEXES, Candidates, DriftMeter, NeuronIndex, index_options, make_index, make_schedule
from hashfold.kernels.active_step import PRECISIONS
from hashfold.model.storage import check_storage, round_weights
from hashfold.nn import LSHLinear, SampledSigmoidLoss, SampledSoftmaxLoss, SparseLinear
from hashfold.optim import RowAdam
from hashfold.sparse import ActiveSet, CsrBatch, Float32, Int32, LookupStats, RaggedIds

LOSSES = {"softmax": SampledSoftmaxLoss, "sigmoid": SampledSigmoidLoss}


@dataclass(frozen=True)
class NetworkConfig:
    """Everything that fixes a `LookupNetwork` but its weights.

    hidden: width of the hidden vector. loss: "softmax" (rows with few of many labels) or "sigmoid"
    (many labels a row). dropout: share of hidden units dropped in training. negatives: uniform negative
    labels a batch; 0 computes all labels. hard_negatives: labels looked up by each row's hidden vector
    and added to the batch's active set. index, index_options: of the output layer. rebuild: when
    training rebuilds that index, see `hashfold.index.make_schedule`. search, search_options: of the index
    that predicts by lookup, built over the trained weights. lr: Adam's peak rate. input_std,
    output_std: of the initial weights. unit_hidden, label_norm: hidden vectors scaled to length 1 and
    label vectors held to a length (0: free), which makes the layer easy to look up. label_bias: labels
    have biases, started at their log prior. precision: of the output layer's products in training, "fp32", "bf16"
    (operands rounded, weights and sums in float32), or "auto": bf16 where the machine multiplies it natively.
    storage: of the weights of both layers once trained, in the model folder and in predicting: "fp32", "fp16", or
    "int8", which also scores labels in 8 bits (see `hashfold.model.storage`).
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
    search: str = "tree"
    search_options: dict[str, Any] = field(default_factory=dict)
    lr: float = 5e-3
    input_std: float = 0.06
    output_std: float = 0.02
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
        checks.one_of(op, "loss", self.loss, LOSSES)
        checks.one_of(op, "precision", self.precision, PRECISIONS)
        check_storage(op, self.storage, self.hidden)
        checks.number(op, "dropout", self.dropout, low=0.0, high=0.95)
        for name in ("lr", "input_std", "output_std"):
            checks.number(op, name, getattr(self, name), above=0.0)
        checks.number(op, "label_norm", self.label_norm, low=0.0)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> NetworkConfig:
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(config) - known)
        if unknown:
            checks.fail("NetworkConfig", "known settings only", ", ".join(unknown), "update hashfold")
        return cls(**config)


@dataclass(frozen=True)
class StepResult:
    """What one training step did: mean loss over `rows`, and what the lookup found."""

    loss: float
    rows: int
    stats: LookupStats


class LookupNetwork(nn.Module):
    """logits(x) = W h(x) + b, h = dropout(relu(x V + c)), at the labels that are looked up.

    In training a batch shares one active set: its labels, the hard negatives that its hidden vectors
    look up, and uniform negatives. Both big layers are updated row by row inside the backward pass
    (Adam); no gradient of their size is ever built. An ordinary `nn.Module` with an ordinary state_dict.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        generator = torch.Generator().manual_seed(config.seed)
        self.input = SparseLinear(
            config.num_features, config.hidden, init_std=config.input_std, generator=generator
        )
        self.output = LSHLinear(
            config.hidden,
            config.num_labels,
            bias=config.label_bias,
            index=config.index,
            index_options=config.index_options,
            precision=config.precision,
            init_std=config.output_std,
            generator=generator,
        )
        self.loss = LOSSES[config.loss]()
        self.schedule = make_schedule(config.rebuild)
        self.drift = DriftMeter(config.num_labels, seed=config.seed)
        self.steps = 0
        self._searchers: dict[str, NeuronIndex] = {}
        self.register_load_state_dict_post_hook(_forget_searchers)  # type: ignore[no-untyped-call]
        self.optimizer = self._make_optimizer()
        if config.label_norm:
            with torch.no_grad():
                self.output.weight.mul_(config.label_norm / self.output.weight.norm(dim=1, keepdim=True))
        self.drift.mark(self.output.weight.detach().numpy())

    def _make_optimizer(self) -> RowAdam:
        others = [p for p in self.parameters() if p is not self.output.weight]
        groups: list[dict[str, Any]] = [
            {"params": others},
            {"params": [self.output.weight], "row_norm": self.config.label_norm},
        ]
        optimizer = RowAdam(groups, lr=self.config.lr)
        optimizer.fuse(self.input, self.output)
        return optimizer

    @torch.no_grad()
    def set_label_prior(self, counts: npt.NDArray[np.int64], num_rows: int) -> None:
        """Starts the label biases at the log of the labels' share of rows; counts (num_labels,)."""
        if self.output.bias is not None:
            prior = np.log(np.maximum(counts, 0.1) / max(1, num_rows))
            self.output.bias.copy_(torch.from_numpy(prior.astype(np.float32)))

    def optimizers(self) -> list[RowAdam]:
        return [self.optimizer]

    def set_lr(self, factor: float) -> None:
        """The rate of the next steps: `factor` times the peak rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * factor

    def hidden(self, x: CsrBatch, dropout_seed: int | None = None) -> Tensor:
        """h(x), (rows, hidden); with a seed, dropped out as in training."""
        h = self.input(x)
        if dropout_seed is not None and self.config.dropout:
            h = functional.relu_dropout(h, self.config.dropout, dropout_seed)
        else:
            h = torch.relu(h)
        return nn.functional.normalize(h, dim=1) if self.config.unit_hidden else h

    def select(self, h: Tensor, y: RaggedIds, seed: int) -> ActiveSet:
        """The labels that a training batch computes."""
        if self.computes_all:
            return self.output.all_active(y, len(h))
        hard, uniform = self.config.hard_negatives, self.config.negatives
        return self.output.lookup_shared(h.detach(), y, hard_negatives=hard, uniform=uniform, seed=seed)

    @property
    def computes_all(self) -> bool:
        """Training computes every label: no lookup is asked for, or it would not save anything."""
        return self.config.negatives == 0 or self.config.negatives >= self.config.num_labels

    def training_step(self, x: CsrBatch, y: RaggedIds, seed: int) -> StepResult:
        """Forward, backward and update for one batch; `seed` fixes dropout and negatives."""
        self._searchers.clear()
        h = self.hidden(x, dropout_seed=seed)
        active = self.select(h, y, seed)
        loss, grad = self.output.loss_step(h.detach(), active, self.config.loss)
        torch.autograd.backward(h, grad)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._after_step()
        return StepResult(loss, len(x), active.stats)

    def _after_step(self) -> None:
        """Counts the step, and rebuilds the index when it is due: the one place where training does."""
        self.steps += 1
        if not self.config.hard_negatives or self.computes_all:
            return
        weight = self.output.weight.detach().numpy()
        drift = self.drift.measure(weight) if self.schedule.needs_drift else None
        if self.schedule.due(self.steps, drift):
            self.output.rebuild()
            self.drift.mark(weight)

    def resume_state(self) -> dict[str, Any]:
        """What training depends on beside weights and optimizer: see `hashfold.train.Resumable`."""
        return {
            "config": self.config.to_dict(),
            "steps": self.steps,
            "index": self.output.index_state(),
            "marked_rows": self.drift.state(),
        }

    def load_resume_state(self, state: dict[str, Any]) -> None:
        """Goes on as the network that gave `resume_state()`; weights are loaded before (they reset the index).

        Raises InputError: a network of other settings, or arrays that do not fit.
        """
        for name, value in self.config.to_dict().items():
            if state["config"].get(name) != value:
                saved = repr(state["config"].get(name))
                checks.fail("network", f"to resume, setting {name} must be {saved}", repr(value))
        self.output.load_index_state(state["index"])
        self.drift.load_state(state["marked_rows"], self.config.hidden)
        self.steps = state["steps"]

    @torch.no_grad()
    def round_weights(self) -> None:
        """Rounds both layers to what `config.storage` holds: a saved copy then predicts the same bits.

        Called when training ends. Raises InputError: weights that the storage cannot hold.
        """
        for layer in (self.input, self.output):
            round_weights(layer.weight.detach().numpy(), self.config.storage)
        self._searchers.clear()

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
            bias = self.output.bias
            index.build(self.output.weight.detach().numpy(), None if bias is None else bias.detach().numpy())
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


def _forget_searchers(network: nn.Module, _: object) -> None:
    """New weights: predictions build their index anew."""
    assert isinstance(network, LookupNetwork)
    network._searchers.clear()
