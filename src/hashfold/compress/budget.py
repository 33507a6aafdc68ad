"""The best schemes for each layer under a budget of bytes for the whole file, by measurement."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from hashfold import checks
from hashfold.compress import sizes
from hashfold.compress.choice import Option, cheapest_loss, without_dominated
from hashfold.compress.config import CodebookConfig, Config, HashConfig, PruneConfig
from hashfold.compress.files import encode
from hashfold.compress.importance import Data, Loss, importances
from hashfold.compress.plan import DEFAULT, Configs, Target, make_plan
from hashfold.compress.rebuild import make_jobs, rebuild
from hashfold.compress.registry import scheme_of
from hashfold.errors import InputError
from hashfold.nn.folded import FoldedWeight

SCHEMES: tuple[Config, ...] = (
    *(CodebookConfig(bits=bits) for bits in (8, 6, 5, 4, 3, 2, 1)),
    *(
        CodebookConfig(bits=bits, prune=PruneConfig(fraction))
        for fraction in (0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
        for bits in (4, 3)
    ),
    *(CodebookConfig(bits=bits, dim=dim) for bits, dim in ((8, 2), (8, 4), (4, 2), (4, 4))),
    *(HashConfig(ratio=ratio) for ratio in (2, 4, 8, 16, 32)),
)
"""What is tried for each layer, beside leaving it dense."""
_UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "KI": 1024, "MI": 1024**2, "GI": 1024**3}
_TRIES = 20


@dataclass(frozen=True)
class Allocation:
    """What `allocate` found: the model; by layer what was chosen, as `compress` and `prepare` take it.

    file_bytes: of the entropy-coded file. loss: over the data, and the dense model's. layers: by the layer's name,
    the bytes and the loss added by its scheme with the others as chosen, each scheme that was worth a thought.
    """

    model: nn.Module
    config: dict[str, Config | None]
    file_bytes: int
    loss: float
    dense_loss: float
    layers: dict[str, list[tuple[Config | None, int, float]]]


def allocate(
    model: nn.Module,
    budget: int | str,
    data: Data,
    loss: Loss,
    *,
    config: Configs | None = None,
    schemes: Sequence[Config] = SCHEMES,
    half: str = "",
    rounds: int = 2,
) -> Allocation:
    """Folds `model` so that its file, entropy-coded, has at most `budget` bytes, and its loss rises least.

    Each scheme is tried for each layer by itself: how much the loss over the data rises, and how many bytes the
    encoder makes of it. Of all combinations that fit, the one whose rises sum up to the least is chosen (a
    knapsack, by dynamic programming over 4,096 sizes). Then each scheme is tried for each layer again, the others
    folded as chosen, and the choice is made anew as long as the loss falls.

    Args:
        model: float32, as `compress` takes it; it stays as it is.
        budget: bytes, or text such as "64KB" (64,000), "1.5MB", "64KiB" (65,536), of
            `save(model, path, entropy=True, half=half)`.
        data: batches that can be gone through again and again: a few hundred rows decide.
        loss: loss(model, batch) -> scalar, the mean over the batch.
        config: layers that are not searched, as in `compress`: None leaves them dense, a config is taken as it is.
        schemes: what is tried.
        half: tensors stored as float16, see `save`.
        rounds: how often to choose anew at most.

    Layers that share a weight are folded alike. Nothing is trained: to tune the result, `prepare` the model with
    its `config`. Raises InputError: a budget below what the file needs with the smallest schemes, which is told;
    what `compress` raises. Cost: for each layer, scheme and round one pass over the data.
    """
    op = "compress"
    capacity = parse_bytes(op, budget)
    search = _Search(op, model, list(data), loss, config or {}, schemes, half)
    least = search.real_bytes(search.smallest)
    if least > capacity:
        search.fail_budget(capacity, least)
    chosen = search.choose(search.smallest, capacity, alone=True)
    for _ in range(checks.integer(op, "rounds", rounds, low=0)):
        other = search.choose(chosen, capacity, alone=False)
        if search.loss_of(other) >= search.loss_of(chosen):
            break
        chosen = other
    return search.result(chosen)


def parse_bytes(op: str, budget: int | str) -> int:
    """Bytes, of text too: "64KB" is 64,000, "64KiB" 65,536."""
    if isinstance(budget, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([KMG]?I?)B?\s*", budget.upper())
        if not found or found[2] not in _UNITS:
            checks.fail(op, "budget must be bytes, or text such as 64KB or 1.5MiB", repr(budget))
        budget = int(float(found[1]) * _UNITS[found[2]])
    return checks.integer(op, "budget", budget, low=1)


@dataclass(frozen=True)
class _Unit:
    """Layers that share weights, and what can be done with them: options[i] is of schemes[i]."""

    names: list[str]
    targets: list[Target]
    schemes: list[Config | None]
    results: list[list[FoldedWeight | Tensor]]
    file_bytes: list[int]


Choice = tuple[int, ...]
"""Of each unit, which of its schemes."""


class _Search:
    """The layers, their schemes, and a copy of the model in which weights are swapped to try them."""

    def __init__(
        self,
        op: str,
        model: nn.Module,
        data: list[Any],
        loss: Loss,
        fixed: Configs,
        schemes: Sequence[Config],
        half: str,
    ) -> None:
        if not data:
            checks.fail(op, "data must hold at least one batch", "none")
        self.op, self.model, self.data, self.loss, self.half = op, model, data, loss, half
        copies: dict[int, Any] = {}
        self.work = copy.deepcopy(model, copies).eval().requires_grad_(False)
        self.copies = copies
        searched = CodebookConfig()
        plan = make_plan(op, model, {**_mapping(op, fixed), DEFAULT: searched})
        self.units = [self._unit(targets, schemes, searched) for targets in _sharing(plan)]
        self.smallest: Choice = tuple(unit.file_bytes.index(min(unit.file_bytes)) for unit in self.units)
        self._losses: dict[Choice, float] = {}
        self._real: dict[Choice, int] = {}
        self.dense_loss = self._measured()
        if not math.isfinite(self.dense_loss):
            checks.fail(op, "loss must be finite of the model as it is", "no finite loss")
        self._options: list[list[Option]] = []

    def choose(self, around: Choice, capacity: int, *, alone: bool) -> Choice:
        """The best choice that fits, by rises measured with all other layers dense, or folded as in `around`."""
        self._options = self._tried(around, alone)
        room = capacity - (self.real_bytes(around) - self._sum(around))
        for _ in range(_TRIES):
            found = cheapest_loss([without_dominated(options) for options in self._options], room)
            choice = self.smallest if found is None else tuple(found)
            excess = self.real_bytes(choice) - capacity
            if excess <= 0:
                return choice
            room -= excess  # names and tables are not shared out exactly
        return self.smallest

    def loss_of(self, choice: Choice) -> float:
        if choice not in self._losses:
            for unit, index in zip(self.units, choice, strict=True):
                self._swap_in(unit, index)
            self._losses[choice] = self._measured()
            self._swap_out()
        return self._losses[choice]

    def real_bytes(self, choice: Choice) -> int:
        """Of the file."""
        if choice not in self._real:
            self._real[choice] = len(encode(self.folded(choice), entropy=True, half=self.half))
        return self._real[choice]

    def folded(self, choice: Choice) -> nn.Module:
        """What `compress` makes of the model and this `config`; its folded weights are those that were tried."""
        layers: dict[int, nn.Module] = {}
        results: dict[int, FoldedWeight | Tensor] = {}
        for unit, index in zip(self.units, choice, strict=True):
            if unit.schemes[index] is not None:
                layers |= {id(layer): layer for target in unit.targets for _, layer in target.layers}
                made = zip(unit.targets, unit.results[index], strict=True)
                results |= {id(target.parameter): result for target, result in made}
        return rebuild(self.model, layers, results)

    def config(self, choice: Choice) -> dict[str, Config | None]:
        """As `compress` takes it: names are escaped."""
        found: dict[str, Config | None] = {
            re.escape(name): unit.schemes[index]
            for unit, index in zip(self.units, choice, strict=True)
            for name in unit.names
        }
        return {**found, DEFAULT: None}

    def result(self, choice: Choice) -> Allocation:
        layers = {
            unit.names[0]: [(unit.schemes[o.index], o.size, o.loss) for o in sorted(options, key=lambda o: o.size)]
            for unit, options in zip(self.units, map(without_dominated, self._options), strict=True)
        }
        figures = (self.real_bytes(choice), self.loss_of(choice), self.dense_loss)
        return Allocation(copy.deepcopy(self.folded(choice)), self.config(choice), *figures, layers)

    def fail_budget(self, capacity: int, least: int) -> NoReturn:
        folded = self._sum(self.smallest)
        checks.fail(
            self.op,
            f"budget must be at least {least:,} bytes, {least - folded:,} of them for biases, names and the like",
            f"{capacity:,}",
            "raise it, give smaller schemes, or store more in half",
        )

    def _unit(self, targets: list[Target], schemes: Sequence[Config], searched: Config) -> _Unit:
        names = list(dict.fromkeys(name for target in targets for name, _ in target.layers))
        given = [target.config for target in targets if target.config is not searched]
        unit = _Unit(names, targets, [], [], [])
        for scheme in given[:1] or (None, *schemes):
            results = self._results(targets, scheme, required=bool(given))
            if results is not None:
                unit.schemes.append(scheme)
                unit.results.append(results)
                unit.file_bytes.append(sum(map(self._file_bytes, results)))
        return unit

    def _results(
        self, targets: list[Target], scheme: Config | None, required: bool
    ) -> list[FoldedWeight | Tensor] | None:
        """What the scheme makes of the weights; None where it does not suit them."""
        if scheme is None:
            return [target.matrix for target in targets]
        asked = [replace(target, config=scheme) for target in targets]
        try:
            for target in asked:
                scheme_of(scheme).check(scheme, *target.matrix.shape)
        except InputError:
            if required:
                raise
            return None
        weights = importances(self.op, self.model, asked, self.data, self.loss)
        jobs = make_jobs(asked, weights, lambda prune: prune.fraction)
        return [scheme_of(scheme).compress(job) for job in jobs]

    def _file_bytes(self, result: FoldedWeight | Tensor) -> int:
        holder = nn.Module()
        if isinstance(result, FoldedWeight):
            holder.weight = result
        else:
            holder.register_buffer("weight", result.detach().contiguous())
        return math.ceil(sum(layer.file_bytes for layer in sizes.layer_sizes(holder, half=self.half)))

    def _tried(self, around: Choice, alone: bool) -> list[list[Option]]:
        """For each unit and scheme, bytes and by how much the loss is above that of no scheme (or of `around`)."""
        tried = []
        if not alone:
            for unit, index in zip(self.units, around, strict=True):
                self._swap_in(unit, index)
        base = self._measured()
        for unit, index in zip(self.units, around, strict=True):
            options = []
            for i, size in enumerate(unit.file_bytes):
                self._swap_in(unit, i)
                options.append(Option(i, size, self._measured() - base))
            self._swap_in(unit, None if alone else index)
            tried.append(options)
        self._swap_out()
        return tried

    def _swap_in(self, unit: _Unit, index: int | None) -> None:
        """Puts what a scheme makes of the unit's weights into the working copy; None: the dense ones."""
        for i, target in enumerate(unit.targets):
            made = target.matrix if index is None else unit.results[index][i]
            dense = made.dense() if isinstance(made, FoldedWeight) else made
            self.copies[id(target.parameter)].data = dense.detach().view_as(target.parameter)

    def _swap_out(self) -> None:
        for unit in self.units:
            self._swap_in(unit, None)

    @torch.no_grad()
    def _measured(self) -> float:
        """The mean loss of the working copy; infinite where it is no number."""
        values = [float(self.loss(self.work, batch)) for batch in self.data]
        mean = sum(values) / len(values)
        return mean if math.isfinite(mean) else math.inf

    def _sum(self, choice: Choice) -> int:
        return sum(unit.file_bytes[index] for unit, index in zip(self.units, choice, strict=True))


def _mapping(op: str, fixed: Configs) -> dict[str | type[nn.Module], Config | None]:
    if not isinstance(fixed, Mapping):
        checks.fail(op, "config beside a budget must be a mapping, of layers that are not searched", repr(fixed))
    return {key: config for key, config in fixed.items() if key != DEFAULT}


def _sharing(plan: Sequence[Target]) -> Iterator[list[Target]]:
    """Targets in groups that hold a layer in common: a recurrent layer's, those of tied layers."""
    groups: list[tuple[set[int], list[Target]]] = []
    for target in plan:
        layers, own = {id(layer) for _, layer in target.layers}, [target]
        apart = []
        for other, members in groups:
            if other & layers:
                layers, own = layers | other, [*members, *own]
            else:
                apart.append((other, members))
        groups = [*apart, (layers, own)]
    return iter(own for _, own in groups)
