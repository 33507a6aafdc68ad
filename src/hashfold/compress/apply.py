"""compress: a model whose weights are folded."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

import hashfold.compress.schemes  # noqa: F401 - it registers them
from hashfold import checks
from hashfold.compress.architecture import without_fused_kernels
from hashfold.compress.config import CodebookConfig, PruneConfig
from hashfold.compress.importance import Data, Loss, importances
from hashfold.compress.plan import Configs, Target, make_plan, naming
from hashfold.compress.prune import smallest
from hashfold.compress.registry import Job, Result, scheme_of
from hashfold.compress.transform import Transform, prepared
from hashfold.nn.folded import FoldedWeight, fold_layer
from hashfold.nn.neuron_lookup import NeuronLookup


def compress(
    model: nn.Module,
    config: Configs | None = None,
    *,
    budget: int | str | None = None,
    data: Data | None = None,
    loss: Loss | None = None,
) -> nn.Module:
    """A new model whose weights are folded as `config` says, or within a budget; `model` stays as it is.

    Args:
        model: any module. Layers of the types in `hashfold.nn.folded.FOLDED_LAYERS`, torch's, `LSHLinear` and
            `SparseLinear` (exactly: subclasses may do something else) can be folded: their weight matrices, not
            their biases. The index of an `LSHLinear` keeps its settings and is built anew when it is asked.
        config: a `HashConfig`, `CodebookConfig` or `PruneConfig` for all these layers; or a mapping to configs, or
            to None for layers that stay dense: of names (regular expressions that match a layer's whole name, as
            in `named_modules()`), which go before module types, which go before "default". Of several names or
            types the first counts. Layers that nothing fits stay dense. With a budget: a mapping of the layers
            that are not searched.
        budget: in place of config, bytes of the file (or text: "64KB") that `save(..., entropy=True)` writes. The
            schemes are searched for by `data` and `loss`, both needed: see `budget.allocate`, which tells more.
        data: batches, for configs that weigh weights: what `loss` takes, or without it what the model takes, or
            tuples of which that is the first.
        loss: loss(model, batch) -> scalar, the mean over the batch, for weighting by gradients: the smaller the
            batches, the nearer to the Fisher information of single rows. The model is a copy in eval mode.

    Parameters that several layers share are folded once and stay shared. Buckets and codebooks are parameters, to
    be trained on if that is wanted; the state_dict holds ordinary tensors. Raises InputError, which names the
    layer: a type that cannot be folded, an index that copies its rows, a layer fused with an optimizer, weights
    that are not finite, fewer weights than the ratio needs, a weight shared with something that is not folded
    alike. Cost: clustering, a fraction of a second a million weights.
    """
    if budget is not None:
        from hashfold.compress.budget import allocate

        if data is None or loss is None:
            checks.fail("compress", "data and loss must be given beside a budget", "one or none of them")
        return allocate(model, budget, data, loss, config=config).model
    if config is None:
        checks.fail("compress", "config or budget must be given", "neither")
    plan = make_plan("compress", model, config)
    weights = importances("compress", model, plan, data, loss)
    jobs = make_jobs(plan, weights, lambda prune: prune.fraction)
    results: dict[int, Result | Transform] = {}
    for target, job in zip(plan, jobs, strict=True):
        with naming("compress", target.name):
            result = scheme_of(job.config).compress(job)
            if isinstance(result, FoldedWeight):
                result.requires_grad_(target.parameter.requires_grad)
            results[id(target.parameter)] = result
    return rebuild(model, {id(layer): layer for layer in layers_of(plan)}, results)


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
