"""From a plan to jobs for its schemes, and from their results to a copy of the model."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from hashfold.compress.architecture import without_fused_kernels
from hashfold.compress.config import CodebookConfig, PruneConfig
from hashfold.compress.plan import Target
from hashfold.compress.prune import smallest
from hashfold.compress.registry import Job, Result
from hashfold.compress.transform import Transform, prepared
from hashfold.nn.folded import FoldedWeight, fold_layer
from hashfold.nn.neuron_lookup import NeuronLookup


def make_jobs(
    plan: Sequence[Target], importance: Mapping[str, torch.Tensor], fraction: Callable[[PruneConfig], float]
) -> list[Job]:
    """What is to be done for each target."""
    pruned = _pruned(plan, fraction)
    return [
        Job(
            t.name,
            t.matrix,
            t.config,
            (zlib.crc32(t.name.encode()) ^ getattr(t.config, "seed", 0)) & 0xFFFFFFFF,
            importance.get(t.name),
            pruned.get(t.name),
        )
        for t in plan
    ]


def _pruned(plan: Sequence[Target], fraction: Callable[[PruneConfig], float]) -> dict[str, torch.Tensor]:
    together: dict[Any, list[Target]] = {}
    for target in plan:
        config = target.config.prune if isinstance(target.config, CodebookConfig) else target.config
        if isinstance(config, PruneConfig):
            pool = config if config.scope == "global" else (config, target.name)
            together.setdefault(pool, []).append(target)
    masks: dict[str, torch.Tensor] = {}
    for pool, targets in together.items():
        config = pool if isinstance(pool, PruneConfig) else pool[0]
        found = smallest([t.matrix for t in targets], fraction(config))
        masks |= {t.name: mask for t, mask in zip(targets, found, strict=True)}
    return masks


def layers_of(plan: Sequence[Target]) -> list[nn.Module]:
    return list({id(layer): layer for target in plan for _, layer in target.layers}.values())


def rebuild(
    model: nn.Module, replaced: Mapping[int, nn.Module], results: Mapping[int, Result | Transform]
) -> nn.Module:
    """A deep copy of `model` in which others stand for some modules.

    replaced: torch layers by the id of the module in whose place they stand, folded. results: what stands for a
    parameter, by its id. deepcopy is told beforehand what the copies of both are, so that whatever was shared is.
    """
    copies: dict[int, Any] = {}
    for layer in replaced.values():
        for parameter in layer.parameters(recurse=False):
            result = results.get(id(parameter))
            if isinstance(result, torch.Tensor):
                dense = result.detach().view_as(parameter)
                copies[id(parameter)] = nn.Parameter(dense, requires_grad=parameter.requires_grad)
    for old, layer in replaced.items():
        copies[old] = _folded(layer, results, copies)
    made: nn.Module = copy.deepcopy(model, copies)
    without_fused_kernels(made)
    return made


def _folded(layer: nn.Module, results: Mapping[int, Result | Transform], copies: dict[int, Any]) -> nn.Module:
    own = {name: results.get(id(p)) for name, p in layer.named_parameters(recurse=False)}
    transforms = {name: result for name, result in own.items() if isinstance(result, Transform)}
    if transforms:
        return prepared(copy.deepcopy(layer, copies), transforms)
    folded = {name: result for name, result in own.items() if isinstance(result, FoldedWeight)}
    if not folded:
        return _with_new_weights(copy.deepcopy(layer, copies))
    made = fold_layer(layer, lambda name, _: folded[name])
    for name, parameter in layer.named_parameters(recurse=False):
        if name not in folded:
            made.register_parameter(name, copy.deepcopy(parameter, copies))
    return made


def _with_new_weights(layer: nn.Module) -> nn.Module:
    if isinstance(layer, NeuronLookup):
        layer.forget_tables()
    return layer
