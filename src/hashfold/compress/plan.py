"""Which weights of a model get which config, found and checked before anything is done."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor, nn

from hashfold import checks
from hashfold.compress.config import Config
from hashfold.compress.registry import scheme_of
from hashfold.compress.transform import PreparedLayer
from hashfold.errors import InputError
from hashfold.nn.folded import FOLDED_LAYERS, weight_matrices
from hashfold.nn.row_layer import RowLayer

Configs: TypeAlias = Config | Mapping[str | type[nn.Module], Config | None]

DEFAULT = "default"


@dataclass
class Target:
    """A weight to fold: the first of its names, all layers that hold it, and what it is."""

    name: str
    parameter: nn.Parameter
    matrix: Tensor
    config: Config
    layers: list[tuple[str, nn.Module]] = field(default_factory=list)


def make_plan(op: str, model: nn.Module, configs: Configs) -> list[Target]:
    """The weights to fold, one target for each parameter however many layers hold it.

    Raises InputError: settings or weights that cannot be used, by the layer's name.
    """
    if not isinstance(model, nn.Module):
        checks.fail(op, "model must be a torch module", type(model).__name__)
    for name, part in model.named_modules():
        if isinstance(part, PreparedLayer):
            checks.fail(op, "model must not be a prepared one", f"{name or 'model'} prepared", "convert it first")
        if isinstance(part, RowLayer) and part.fused:  # the optimizer's copy would keep the dense weights
            expected = f"layer {name or 'model'} must not be fused with an optimizer"
            checks.fail(op, expected, "one that is", "call its unfuse()")
    chosen = _chosen(op, model, _checked(op, configs))
    targets: dict[int, Target] = {}
    for name, (layer, config) in chosen.items():
        for leaf, matrix in _matrices(op, name, layer).items():
            parameter = layer.get_parameter(leaf)
            full = _join(name, leaf)
            known = targets.setdefault(id(parameter), Target(full, parameter, matrix, config))
            if known.config != config or known.matrix.shape != matrix.shape:
                _fail_tied(op, full, f"{known.name} has another config or shape", known.name)
            known.layers.append((name, layer))
    _check_holders(op, model, chosen, targets)
    for target in targets.values():
        _check_values(op, target)
        with naming(op, target.name):
            scheme_of(target.config).check(target.config, *target.matrix.shape)
    return list(targets.values())


class naming:  # noqa: N801 - read as a statement
    """What is raised in the body is raised with the weight's name in front."""

    def __init__(self, op: str, name: str) -> None:
        self.op, self.name = op, name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, InputError) and not str(error).startswith(f"{self.op}: {self.name}"):
            raise InputError(f"{self.op}: {self.name}: {error}") from error


def _checked(op: str, configs: Configs) -> dict[str | type, Config | None]:
    """A mapping of names, types and "default"."""
    if isinstance(configs, Config):
        return {DEFAULT: configs}
    if not isinstance(configs, Mapping) or not configs:
        checks.fail(
            op, "config must be a config, or a mapping of names, types or 'default' to configs", repr(configs)
        )
    for key, config in configs.items():
        if config is not None and not isinstance(config, Config):
            checks.fail(op, f"the config of {key!r} must be a config or None", repr(config))
        if isinstance(key, str):
            try:
                re.compile(key)
            except re.error as cause:
                checks.fail(op, "names must be regular expressions", f"{key!r} ({cause})")
        elif not (isinstance(key, type) and issubclass(key, nn.Module)):
            checks.fail(op, "keys must be regular expressions, module types or 'default'", repr(key))
    return dict(configs)


def _chosen(
    op: str, model: nn.Module, configs: dict[str | type, Config | None]
) -> dict[str, tuple[nn.Module, Config]]:
    """The layers to fold, by the first of their names, with their configs."""
    names: dict[int, list[str]] = {}
    layers: dict[int, nn.Module] = {}
    for name, layer in model.named_modules(remove_duplicate=False):
        names.setdefault(id(layer), []).append(name)
        layers[id(layer)] = layer
    unused = {key for key in configs if key != DEFAULT}
    chosen = {}
    for own, layer in zip(names.values(), layers.values(), strict=True):
        fitting = _fitting(layer, own, configs)
        unused.difference_update(fitting)
        key = fitting[0] if fitting else None
        config = None if key is None else configs[key]
        if config is None or (key == DEFAULT and type(layer) not in FOLDED_LAYERS):
            continue
        chosen[own[0]] = (layer, config)
    if unused:
        listed = ", ".join(repr(key) if isinstance(key, str) else key.__name__ for key in unused)
        checks.fail(op, "every name and type must be that of a layer", f"none for {listed}", "see named_modules()")
    if not chosen:
        checks.fail(op, "model must have a layer to fold", "none", "see hashfold.nn.folded.FOLDED_LAYERS")
    return chosen


def _fitting(layer: nn.Module, names: list[str], configs: dict[str | type, Config | None]) -> list[str | type]:
    """The keys that fit a layer: names before types before the default."""
    patterns = [key for key in configs if isinstance(key, str) and key != DEFAULT]
    by_name = [key for key in patterns if any(re.fullmatch(key, name) for name in names)]
    by_type = [key for key in configs if isinstance(key, type) and isinstance(layer, key)]
    return [*by_name, *by_type, *(key for key in configs if key == DEFAULT)]


def _matrices(op: str, name: str, layer: nn.Module) -> dict[str, Tensor]:
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    if any(hooks):
        checks.fail(op, f"layer {name or 'model'} must have no hooks", "some", "remove them, or give None for it")
    with naming(op, f"layer {name or 'model'}"):
        return weight_matrices(layer)


def _check_values(op: str, target: Target) -> None:
    p = target.parameter
    if p.dtype not in (torch.float32, torch.float64) or p.device.type != "cpu":
        came = f"{p.dtype} on {p.device}"
        checks.fail(op, f"{target.name} must be float32 or float64 on the CPU", came, "move the model there first")
    if not bool(p.detach().isfinite().all()):
        bad = p.detach()[~p.detach().isfinite()][0]
        checks.fail(op, f"{target.name} must be finite", float(bad), "repair the layer, or give None for it")


def _check_holders(
    op: str, model: nn.Module, chosen: Mapping[str, tuple[nn.Module, Config]], targets: Mapping[int, Target]
) -> None:
    """Nobody else holds a weight that is folded."""
    folding = {id(layer) for layer, _ in chosen.values()}
    for name, module in model.named_modules():
        if id(module) in folding:
            continue
        for leaf, parameter in module.named_parameters(recurse=False):
            if id(parameter) in targets:
                first = targets[id(parameter)].name
                _fail_tied(op, first, f"{_join(name, leaf)} is the same parameter and is not folded", first)


def _fail_tied(op: str, name: str, came: str, other: str) -> None:
    checks.fail(
        op, f"{name} must be folded in all layers that share it, alike", came, "give both one config, or None"
    )


def _join(name: str, leaf: str) -> str:
    return f"{name}.{leaf}" if name else leaf
