"""From torch's layers to folded ones, and back."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from hashfold import checks
from hashfold.nn.folded.conv import FoldedConv1d, FoldedConv2d, FoldedConv3d
from hashfold.nn.folded.embedding import FoldedEmbedding, FoldedEmbeddingBag
from hashfold.nn.folded.linear import FoldedLinear
from hashfold.nn.folded.rnn import FoldedGRU, FoldedLSTM, FoldedRNN
from hashfold.nn.folded.weight import FoldedWeight

Fold: TypeAlias = Callable[[str, Tensor], FoldedWeight]

FOLDED_LAYERS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: FoldedLinear,
    nn.Conv1d: FoldedConv1d,
    nn.Conv2d: FoldedConv2d,
    nn.Conv3d: FoldedConv3d,
    nn.Embedding: FoldedEmbedding,
    nn.EmbeddingBag: FoldedEmbeddingBag,
    nn.RNN: FoldedRNN,
    nn.LSTM: FoldedLSTM,
    nn.GRU: FoldedGRU,
}
"""The layer over folded weights that stands for each of torch's, and of ours that hold dense ones."""

_NOT_SETTINGS = ("weight", "weights", "generator", "index_options")


def register_folded(dense: type[nn.Module], folded: type[nn.Module]) -> None:
    """From now on `folded` stands for `dense` once its weights are folded.

    Its constructor takes `weight` (or `weights`), and beside it settings that are attributes of both.
    """
    FOLDED_LAYERS[dense] = folded


def weight_matrices(layer: nn.Module) -> dict[str, Tensor]:
    """The weights of a layer that can be folded, by name, as matrices (out, in) over the same memory.

    A convolution's rows are its filters, those of a `SparseLinear` its features. Raises InputError: a layer that
    has no folded form.
    """
    _check_foldable(layer)
    named = layer.named_parameters(recurse=False)
    return {name: p.detach().flatten(1) for name, p in named if name.startswith("weight")}


def fold_layer(layer: nn.Module, fold: Fold) -> nn.Module:
    """A folded layer in the place of a dense one, which stays as it is.

    Args:
        layer: of a type in `FOLDED_LAYERS`.
        fold: called with each weight's name and matrix (out, in); gives the folded weight to use for it.

    Biases are copied, everything else is the layer's: dtype, mode, whether parameters are trained; an index has
    its settings, and is built from the folded rows when it is first asked. Raises InputError: a layer of another
    type, or with settings that the folded one lacks.
    """
    weights = {name: fold(name, matrix) for name, matrix in weight_matrices(layer).items()}
    recurrent = isinstance(layer, nn.RNNBase)
    given: dict[str, Any] = {"weights": weights} if recurrent else {"weight": weights["weight"]}
    folded = FOLDED_LAYERS[type(layer)](**_settings(layer, FOLDED_LAYERS[type(layer)]), **given)
    for name, parameter in layer.named_parameters(recurse=False):
        if name.startswith("bias"):
            copy = parameter.detach().clone()
            folded.register_parameter(name, nn.Parameter(copy, requires_grad=parameter.requires_grad))
    if isinstance(folded, FoldedEmbedding) and folded.padding_idx is not None:
        assert isinstance(layer, nn.Embedding)
        folded.padding = layer.weight.detach()[folded.padding_idx].clone()
    return folded.train(layer.training)


@torch.no_grad()
def unfold_layer(folded: nn.Module) -> nn.Module:
    """The dense layer that computes what a folded layer does: its virtual weights built, everything copied."""
    kind = next((dense for dense, ours in FOLDED_LAYERS.items() if isinstance(folded, ours)), None)
    if kind is None:
        checks.fail("unfold_layer", "layer must be a folded one", type(folded).__name__)
    layer = kind(**_settings(folded, kind))
    values: dict[str, Tensor] = dict(folded.named_parameters(recurse=False))
    values |= {name: part.dense() for name, part in folded.named_children() if isinstance(part, FoldedWeight)}
    for name, parameter in layer.named_parameters():
        parameter.data = values[name].detach().clone().view(parameter.shape)
    if isinstance(folded, FoldedEmbedding) and folded.padding is not None:
        layer.get_parameter("weight")[folded.padding_idx] = folded.padding
    return layer.train(folded.training)


def _settings(layer: nn.Module, kind: type[nn.Module]) -> dict[str, Any]:
    """The constructor arguments that a dense layer and its folded form share, read off either's attributes."""
    ours = inspect.signature(FOLDED_LAYERS.get(kind, kind)).parameters
    settings = {name: getattr(layer, name) for name in ours if name not in _NOT_SETTINGS}
    if "index" in settings:
        settings["index"] = copy.deepcopy(settings["index"])
    if isinstance(settings.get("bias"), nn.Parameter) or settings.get("bias", False) is None:
        settings["bias"] = settings["bias"] is not None
    return settings


def _check_foldable(layer: nn.Module) -> None:
    op = "fold_layer"
    if type(layer) not in FOLDED_LAYERS:
        known = ", ".join(kind.__name__ for kind in FOLDED_LAYERS)
        checks.fail(op, f"layer must be one of {known}", type(layer).__name__, "leave it out")
    index = getattr(layer, "index", None)
    if index is not None and not (index.takes_virtual and index.config().get("precision") != "int8"):
        expected = "the index of a looked-up layer must take virtual rows"
        checks.fail(op, expected, f"{index.name} over a copy in 8 bits", "make the layer with another index")
    if getattr(layer, "max_norm", None) is not None:
        checks.fail(op, "an embedding must have no max_norm", layer.max_norm, "shared values have no rows to clip")
    if getattr(layer, "sparse", False):
        checks.fail(op, "an embedding must have sparse=False", True, "a folded gradient is small and dense")
    if getattr(layer, "proj_size", 0):
        checks.fail(op, "an LSTM must have no proj_size", layer.proj_size)
    if nn.utils.parametrize.is_parametrized(layer):
        checks.fail(op, "a layer's weight must be its own parameter", "a parametrized one", "remove that first")
