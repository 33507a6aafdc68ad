"""prepare, Schedule, convert: a model that is trained while its weights are folded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from hashfold import checks
from hashfold.compress.config import PruneConfig
from hashfold.compress.importance import Data, Loss, importances
from hashfold.compress.plan import Configs, make_plan, naming
from hashfold.compress.prune import smallest
from hashfold.compress.rebuild import layers_of, make_jobs, rebuild
from hashfold.compress.registry import Result, scheme_of
from hashfold.compress.transform import PreparedLayer, Transform
from hashfold.nn.folded import FoldedWeight, folded_weights


def prepare(model: nn.Module, config: Configs, *, data: Data | None = None, loss: Loss | None = None) -> nn.Module:
    """A new model to be trained, which computes as the compressed one will; `convert` makes that of it.

    Arguments, and what is raised, as of `compress`. By config: `CodebookConfig` by its `tuning`, shared values
    with straight-through gradients or differentiable k-means; `PruneConfig` with masks; `HashConfig` with its
    buckets as parameters, as `compress` does. Layers become `PreparedLayer`s, which hold their torch layer: they
    run at its speed, and memory is that of dense training. Make the optimizer after this, of the new model's
    parameters, and a `Schedule` where something changes by steps.
    """
    plan = make_plan("prepare", model, config)
    weights = importances("prepare", model, plan, data, loss)
    jobs = make_jobs(plan, weights, lambda prune: prune.fraction_at(0))
    results: dict[int, Result | Transform] = {}
    for target, job in zip(plan, jobs, strict=True):
        with naming("prepare", target.name):
            result = scheme_of(job.config).prepare(job)
            if not target.parameter.requires_grad:
                result.requires_grad_(False)
            results[id(target.parameter)] = result
    return rebuild(model, {id(layer): layer for layer in layers_of(plan)}, results)


@torch.no_grad()
def convert(model: nn.Module) -> nn.Module:
    """The compressed model that a prepared one has become; `model` stays as it is and can be trained on.

    Raises InputError: nothing in it was prepared.
    """
    prepared = [part for part in model.modules() if isinstance(part, PreparedLayer)]
    if not prepared and not folded_weights(model):
        checks.fail("convert", "model must be a prepared one", type(model).__name__, "see hashfold.prepare")
    results: dict[int, Result | Transform] = {}
    for layer in prepared:
        for _, parameter, transform in layer.parts():
            if id(parameter) not in results:
                result = transform.convert(parameter.detach().flatten(1))
                if isinstance(result, FoldedWeight):
                    trained = parameter.requires_grad or any(p.requires_grad for p in transform.parameters())
                    result.requires_grad_(trained)
                results[id(parameter)] = result
    return rebuild(model, {id(layer): layer.layer for layer in prepared}, results)


class Schedule:
    """What changes with the steps of training: which weights are pruned, which have which value.

    Call `step()` after each of the optimizer's. `state_dict` and `load_state_dict` go into checkpoints, beside the
    model's, which holds masks and codes.
    """

    def __init__(self, model: nn.Module) -> None:
        parts: dict[int, tuple[nn.Parameter, Transform]] = {}
        for layer in model.modules():
            if isinstance(layer, PreparedLayer):
                parts |= {id(transform): (parameter, transform) for _, parameter, transform in layer.parts()}
        self.steps = 0
        self._parts = list(parts.values())

    @torch.no_grad()
    def step(self) -> None:
        self.steps += 1
        for config, parts in self._pools():
            first, last = config.steps
            if first < self.steps <= last and (self.steps % config.every == 0 or self.steps == last):
                masks = smallest([weight for weight, _ in parts], config.fraction_at(self.steps))
                for (weight, transform), mask in zip(parts, masks, strict=True):
                    transform.prune(weight, mask)
        for parameter, transform in self._parts:
            transform.step(parameter.detach().flatten(1), self.steps)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = checks.integer("Schedule", "steps", state.get("steps"), low=0)

    def _pools(self) -> Iterator[tuple[PruneConfig, list[tuple[Tensor, Transform]]]]:
        """The weights whose magnitudes are compared."""
        together: dict[Any, list[tuple[Tensor, Transform]]] = {}
        for parameter, transform in self._parts:
            config = transform.pruning
            if config is not None:
                pool = config if config.scope == "global" else (config, id(transform))
                together.setdefault(pool, []).append((parameter.detach().flatten(1), transform))
        for pool, parts in together.items():
            yield pool if isinstance(pool, PruneConfig) else pool[0], parts
