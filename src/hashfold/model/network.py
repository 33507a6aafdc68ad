"""The deep path: sparse input -> hidden vector -> the labels that it looks up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hashfold import checks, functional
from hashfold.index import DriftMeter, make_schedule, select_shared
from hashfold.index.virtual import Vectors
from hashfold.model.deep import LOSSES, DeepPath, NetworkConfig
from hashfold.model.hidden_step import HiddenStep
from hashfold.model.phases import Phase, phase_at
from hashfold.model.storage import round_weights
from hashfold.nn import LSHLinear, SparseLinear
from hashfold.optim import OPTIMIZERS, RowOptimizer
from hashfold.sparse import ActiveSet, CsrBatch, Float32, Int32, LookupStats, RaggedIds


@dataclass(frozen=True)
class StepResult:
    """What one training step did: mean loss over `rows`, and what the lookup found."""

    loss: float
    rows: int
    stats: LookupStats


@dataclass(frozen=True)
class Prepared:
    """What of a training step does not depend on the weights. active: None where hidden vectors are looked up, or
    phases decide."""

    groups: Any
    active: ActiveSet | None


class LookupNetwork(DeepPath):
    """logits(x) = W h(x) + b, h = dropout(relu(x V + c)), at the labels that are looked up.

    In training a batch shares one active set: its labels, the hard negatives that its hidden vectors
    look up, and uniform negatives. Both big layers are updated row by row inside the backward pass
    (by `config.optimizer`); no gradient of their size is ever built. An ordinary `nn.Module` with an
    ordinary state_dict.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
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
        self.schedule, self.reinserts = make_schedule(config.rebuild), make_schedule(config.reinsert)
        self.drift = DriftMeter(config.num_labels, seed=config.seed)
        self.steps = 0
        self.progress = 0.0
        self._looked_up = 0  # steps that did
        self._moved = np.zeros(config.num_labels, np.bool_)  # since the index saw their vectors
        self.register_load_state_dict_post_hook(_forget_searchers)  # type: ignore[no-untyped-call]
        self.optimizer = self._make_optimizer()
        if config.label_norm:
            with torch.no_grad():
                self.output.weight.mul_(config.label_norm / self.output.weight.norm(dim=1, keepdim=True))
        self.drift.mark(self.output.weight.detach().numpy())

    def _make_optimizer(self) -> RowOptimizer:
        others = [p for p in self.parameters() if p is not self.output.weight]
        groups: list[dict[str, Any]] = [
            {"params": others},
            {"params": [self.output.weight], "row_norm": self.config.label_norm},
        ]
        optimizer = OPTIMIZERS[self.config.optimizer](groups, lr=self.config.lr)
        optimizer.fuse(self.input, self.output)
        return optimizer

    @torch.no_grad()
    def set_label_prior(self, counts: npt.NDArray[np.int64], num_rows: int) -> None:
        """Starts the label biases at the log of the labels' share of rows; counts (num_labels,)."""
        if self.output.bias is not None:
            prior = np.log(np.maximum(counts, 0.1) / max(1, num_rows))
            self.output.bias.copy_(torch.from_numpy(prior.astype(np.float32)))

    @torch.no_grad()
    def start_labels(self, x: CsrBatch, y: RaggedIds, block_rows: int = 8192) -> None:
        """Starts label vectors where their rows are (`label_directions` of the same arguments).

        Vectors get the length `config.label_start`, or `config.label_norm` if that holds them to one; labels
        without rows stay at their random start. Training then has less far to go, and fewer epochs will do.
        """
        directions = self.label_directions(x, y, block_rows)
        found = directions.any(dim=1).nonzero()[:, 0]
        self.output.weight[found] = directions[found] * (self.config.label_norm or self.config.label_start)
        self.output.forget_tables()
        self._searchers.clear()

    @torch.no_grad()
    def label_directions(self, x: CsrBatch, y: RaggedIds, block_rows: int = 8192) -> Tensor:
        """Where the rows of each label are: the mean of their h(x), less that of all rows, scaled to length 1.

        x: training rows (rows, num_features); y: their labels, (rows, num_labels). Returns (num_labels, hidden),
        zeros for labels without rows. Cost: one forward pass, and a row added for each label of each row.
        """
        sums, mean = torch.zeros_like(self.output.weight), torch.zeros(self.config.hidden)
        for at in range(0, len(x), block_rows):
            rows = np.arange(at, min(len(x), at + block_rows))
            h, labels = self.hidden(x.take(rows)), y.take(rows)
            mean += h.sum(0) / len(x)
            own = torch.from_numpy(np.repeat(rows - at, labels.counts))
            sums.index_add_(0, torch.from_numpy(labels.ids), h[own])
        counts = torch.from_numpy(np.bincount(y.ids, minlength=self.config.num_labels).astype(np.float32))
        sums.addcmul_(counts[:, None], mean, value=-1.0)
        lengths = sums.norm(dim=1, keepdim=True)
        return sums.div_(lengths.clamp_min(1e-6)).mul_(lengths > 1e-6)

    def optimizers(self) -> list[RowOptimizer]:
        return [self.optimizer]

    def set_lr(self, factor: float) -> None:
        """The rate of the next steps: `factor` times the peak rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * factor

    def set_progress(self, done: float) -> None:
        """The share of the run's steps that were made: the next ones are of the phase that this says."""
        self.progress = done

    @property
    def phase(self) -> Phase:
        """How many labels the next step looks up and draws."""
        if self.config.phases:
            return phase_at(self.config.phases, self.progress)
        return Phase(1.0, self.config.hard_negatives, self.config.negatives)

    def sums(self, x: CsrBatch) -> Tensor:
        h: Tensor = self.input(x)
        return h

    def hidden(self, x: CsrBatch, dropout_seed: int | None = None) -> Tensor:
        """h(x), (rows, hidden); with a seed, dropped out as in training."""
        if dropout_seed is None or not self.config.dropout:
            return super().hidden(x)
        h = functional.relu_dropout(self.sums(x), self.config.dropout, dropout_seed)
        return nn.functional.normalize(h, dim=1) if self.config.unit_hidden else h

    def feature_rows(self, ids: Int32) -> Float32:
        rows: Float32 = self.input.weight.detach().numpy()[ids]
        return rows

    def label_rows(self) -> tuple[Vectors, Float32 | None]:
        bias = self.output.bias
        return self.output.weight.detach().numpy(), None if bias is None else bias.detach().numpy()

    def select(self, h: Tensor | None, y: RaggedIds, seed: int) -> ActiveSet:
        """The labels that a training batch computes; h: None if it `looks_up` none."""
        if self.computes_all:
            return self.output.all_active(y, len(y))
        _, hard, uniform = self.phase
        if not hard or h is None:
            return select_shared(None, y, self.config.num_labels, uniform, seed, len(y))
        return self.output.lookup_shared(h.detach(), y, hard_negatives=hard, uniform=uniform, seed=seed)

    @property
    def looks_up(self) -> bool:
        """Training asks the index for hard negatives."""
        return self.phase.hard_negatives > 0 and not self.computes_all

    @property
    def computes_all(self) -> bool:
        """Training computes every label: no lookup is asked for, or it would not save anything."""
        uniform = self.phase.negatives
        return uniform >= self.config.num_labels or (uniform == 0 and not self.config.phases)

    def prepare(self, x: CsrBatch, y: RaggedIds, seed: int) -> Prepared:
        """What `training_step` with these arguments needs and no weights decide: a thread may do it ahead."""
        later = self.looks_up or bool(self.config.phases)  # which of them the step is in, only the step knows
        return Prepared(self.input.group(x), None if later else self.select(None, y, seed))

    def training_step(self, x: CsrBatch, y: RaggedIds, seed: int, prepared: Prepared | None = None) -> StepResult:
        """Forward, backward and update for one batch; `seed` fixes dropout and negatives.

        prepared: what `prepare` gave for the same arguments; the result is the same without.
        """
        self._searchers.clear()
        prepared = prepared if prepared is not None else self.prepare(x, y, seed)
        step = HiddenStep(self.input, self.config.dropout, self.config.unit_hidden)
        h = step.forward(x, seed)
        active = prepared.active if prepared.active is not None else self.select(h, y, seed)
        loss, grad = self.output.loss_step(h, active, self.config.loss)
        step.backward(prepared.groups, grad)
        self.optimizer.count_step()
        self._after_step(active)
        return StepResult(loss, len(x), active.stats)

    def _after_step(self, active: ActiveSet) -> None:
        """Counts the step, and brings the index up to date when that is due: the one place where training does."""
        self.steps += 1
        if self.output.is_built:
            self._moved[active.ids] = True
        if not self.looks_up:
            return
        self._looked_up += 1
        weight = self.output.weight.detach().numpy()
        drift = self.drift.measure(weight) if self.schedule.needs_drift else None
        if self.schedule.due(self._looked_up, drift):
            self.output.rebuild()
            self.drift.mark(weight)
        elif self.reinserts.due(self._looked_up):
            self.output.reinsert(np.flatnonzero(self._moved).astype(np.int32))
        else:
            return
        self._moved[:] = False

    def resume_state(self) -> dict[str, Any]:
        """What training depends on beside weights and optimizer: see `hashfold.train.Resumable`."""
        return {
            "config": self.config.to_dict(),
            "steps": self.steps,
            "looked_up": self._looked_up,
            "moved": np.packbits(self._moved),
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
        self.steps, self._looked_up = state["steps"], state["looked_up"]
        moved = checks.array("network", "moved", state["moved"], np.uint8, (-(-self.config.num_labels // 8),))
        self._moved = np.unpackbits(moved, count=self.config.num_labels).astype(np.bool_)

    @torch.no_grad()
    def round_weights(self) -> None:
        """Rounds both layers to what `config.storage` holds: a saved copy then predicts the same bits.

        Called when training ends. Raises InputError: weights that the storage cannot hold.
        """
        for layer in (self.input, self.output):
            round_weights(layer.weight.detach().numpy(), self.config.storage)
        self._searchers.clear()


def _forget_searchers(network: nn.Module, _: object) -> None:
    """New weights: predictions build their index anew."""
    assert isinstance(network, LookupNetwork)
    network._searchers.clear()
