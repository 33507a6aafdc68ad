"""A model's architecture without its weights, and how saved tensors are put into it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hashfold import checks
from hashfold.compress.transform import PreparedLayer
from hashfold.errors import FileFormatError, InputError
from hashfold.nn.folded import FOLDED_LAYERS, FoldedWeight, fold_layer, weight_matrices
from hashfold.nn.folded.weight import KINDS

Architecture = nn.Module | Callable[[], nn.Module]


def folded_specs(model: nn.Module) -> dict[str, Any]:
    """Of each folded weight in `model` by name: its spec, or the name of the first one if it is tied to that."""
    if isinstance(model, FoldedWeight):
        checks.fail("save", "model must be a layer or more", "a folded weight alone", "put it into a layer")
    specs: dict[str, Any] = {}
    first: dict[int, str] = {}
    for name, part in model.named_modules(remove_duplicate=False):
        if isinstance(part, PreparedLayer):
            checks.fail("save", "model must be converted", f"{name or 'model'}, still prepared", "see convert")
        if isinstance(part, FoldedWeight) and not any(name.startswith(f"{outer}.") for outer in specs):
            if KINDS.get(getattr(part, "kind", "")) is not type(part):
                expected = "folded weights must be of a kind that files hold"
                checks.fail("save", expected, f"{type(part).__name__} as {name}", "give it a kind and a spec")
            specs[name] = first.get(id(part)) or part.spec()
            first.setdefault(id(part), name)
    return specs


def skeleton(architecture: Architecture) -> nn.Module:
    """A new model of the architecture, all that a state_dict holds on the meta device: without its memory."""
    if isinstance(architecture, nn.Module):
        try:
            return copy.deepcopy(architecture, _bare_copies(architecture))
        except (TypeError, RuntimeError) as cause:
            expected = "a module that is given must be one that can be copied"
            checks.fail("architecture", expected, _line(cause), "give a callable that makes it")
    try:
        with torch.device("meta"):
            return _made(architecture)
    except RuntimeError:  # it looks at the values of its weights
        return skeleton(_made(architecture))


def with_folded(path: str | Path, model: nn.Module, specs: Mapping[str, Any]) -> nn.Module:
    """`model` with folded weights, values yet zero, where `specs` says; dense layers become folded ones."""
    weights: dict[str, FoldedWeight] = {}
    for name, spec in specs.items():
        if isinstance(spec, str) and spec in weights:
            weights[name] = weights[spec]
            continue
        try:
            weights[name] = FoldedWeight.from_spec(spec)
        except (InputError, TypeError, AttributeError, RuntimeError) as cause:
            raise FileFormatError(path, f"weight {name} has a spec that is none ({_line(cause)}).") from cause
    owners: dict[str, dict[str, FoldedWeight]] = {}
    for name, weight in weights.items():
        owner, _, leaf = name.rpartition(".")
        owners.setdefault(owner, {})[leaf] = weight
    for owner, own in owners.items():
        layer = _with_weights(path, owner, _submodule(path, model, owner), own)
        if not owner:
            return layer
        parent, _, leaf = owner.rpartition(".")
        setattr(model.get_submodule(parent), leaf, layer)
    return model


def fill(
    path: str | Path,
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    same: Mapping[str, str],
    architecture: Architecture,
) -> nn.Module:
    """Puts the tensors into `model`, ties those that are the `same`; what no file holds is the architecture's."""
    expected = model.state_dict(keep_vars=True)
    _check_names(path, {name: tuple(t.shape) for name, t in expected.items()}, tensors, same)
    made: dict[str, Tensor] = {}
    for name, old in expected.items():
        source = same.get(name, name)
        if source not in made:
            value = tensors[source]
            trained = isinstance(old, nn.Parameter)
            made[source] = nn.Parameter(value, requires_grad=old.requires_grad) if trained else value
        owner, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(owner), leaf, made[source])
    _fill_unsaved(model, architecture)
    without_fused_kernels(model)
    model.load_state_dict(model.state_dict())  # for the hooks that derive values from loaded ones
    return model


def without_fused_kernels(model: nn.Module) -> None:
    """Keeps torch from taking the weights out of folded or prepared layers within a transformer's."""
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer) and any(
            isinstance(p, (FoldedWeight, PreparedLayer)) for p in module.modules()
        ):
            module.activation_relu_or_gelu = 0


def _with_weights(path: str | Path, name: str, layer: nn.Module, weights: dict[str, FoldedWeight]) -> nn.Module:
    """The layer with these folded weights: itself if it is folded, else the folded form of it."""
    if type(layer) not in FOLDED_LAYERS:
        for leaf, weight in weights.items():
            old = getattr(layer, leaf, None)
            if not isinstance(old, FoldedWeight):
                expected = f"layer {name} must be one that can be folded, for its {leaf}"
                raise FileFormatError(path, f"{expected}; got {type(layer).__name__} in the architecture.")
            _check_shape(path, f"{name}.{leaf}", (old.out_features, old.in_features), weight)
            setattr(layer, leaf, weight)
        return layer
    shapes = {leaf: tuple(matrix.shape) for leaf, matrix in weight_matrices(layer).items()}
    if set(shapes) != set(weights):
        raise FileFormatError(path, f"layer {name} must have {', '.join(weights)}; got {', '.join(shapes)}.")
    for leaf, weight in weights.items():
        _check_shape(path, f"{name}.{leaf}", shapes[leaf], weight)
    return fold_layer(layer, lambda leaf, _: weights[leaf])


def _check_shape(path: str | Path, name: str, shape: tuple[int, ...], weight: FoldedWeight) -> None:
    saved = (weight.out_features, weight.in_features)
    if shape != saved:
        raise FileFormatError(path, f"weight {name} is {saved} (out, in) there; got {shape} in the architecture.")


def _check_names(
    path: str | Path,
    expected: Mapping[str, tuple[int, ...]],
    tensors: Mapping[str, Tensor],
    same: Mapping[str, str],
) -> None:
    there = {**{name: tensors[name] for name in tensors}, **{name: tensors[first] for name, first in same.items()}}
    for name in expected:
        if name not in there:
            raise FileFormatError(path, f"tensor {name} {expected[name]} of the architecture is not in the file.")
    for name, tensor in there.items():
        if name not in expected:
            raise FileFormatError(path, f"tensor {name} is no part of the architecture.")
        if tuple(tensor.shape) != expected[name]:
            raise FileFormatError(
                path, f"tensor {name} is {tuple(tensor.shape)} there; got {expected[name]} in the architecture."
            )


def _fill_unsaved(model: nn.Module, architecture: Architecture) -> None:
    """Buffers that are in no state_dict and were made on the meta device: of the architecture, made for real."""
    lacking = [name for name, buffer in model.named_buffers() if buffer.is_meta]
    if lacking:
        real = dict((architecture if isinstance(architecture, nn.Module) else _made(architecture)).named_buffers())
        for name in lacking:
            owner, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(owner), leaf, real[name].clone())


def _bare_copies(model: nn.Module) -> dict[int, Any]:
    """What `copy.deepcopy` is to put in the place of the parameters and the buffers that files hold."""
    copies: dict[int, Any] = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=p.requires_grad)
        for p in model.parameters()
    }
    for part in model.modules():
        for name, buffer in part.named_buffers(recurse=False):
            if name not in part._non_persistent_buffers_set:
                copies[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copies


def _submodule(path: str | Path, model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError as cause:
        raise FileFormatError(path, f"layer {name} is no part of the architecture.") from cause


def _made(factory: Callable[[], nn.Module]) -> nn.Module:
    model = factory()
    if not isinstance(model, nn.Module):
        checks.fail("load", "architecture must be a module, or make one", type(model).__name__)
    return model


def _line(cause: BaseException) -> str:
    return " ".join(str(cause).split())
