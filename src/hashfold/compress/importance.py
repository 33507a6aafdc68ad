"""How much each weight matters, measured on data: for codebooks that spend their values where it counts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from hashfold import checks
from hashfold.compress.config import CodebookConfig
from hashfold.compress.plan import Target
from hashfold.functional import csr_tensors
from hashfold.nn import ActiveValues, LSHLinear, SparseLinear
from hashfold.nn.neuron_lookup import dense_rows
from hashfold.sparse import CsrBatch

Data: TypeAlias = Iterable[Any]
Loss: TypeAlias = Callable[[nn.Module, Any], Tensor]

FLOOR = 1e-3
"""Of the mean importance; no weight matters less, so that those which the data never used stay near as well."""


def importances(
    op: str, model: nn.Module, targets: Sequence[Target], data: Data | None, loss: Loss | None
) -> dict[str, Tensor]:
    """(out, in) of each target whose config asks for it, by its name. The model is copied, not touched."""
    kinds = {t.name: t.config.weighting for t in targets if isinstance(t.config, CodebookConfig)}
    fisher = [t for t in targets if kinds.get(t.name) == "fisher"]
    activation = [t for t in targets if kinds.get(t.name) == "activation"]
    if not fisher and not activation:
        return {}
    if data is None or (fisher and loss is None):
        needed = (
            "data and loss must be given for weighting 'fisher'" if fisher else "data must be given for weighting"
        )
        checks.fail(op, needed, "none", "data: batches; loss: loss(model, batch), a scalar")
    found = _Measured(model, fisher, activation).over(op, data, loss)
    return {name: value + FLOOR * value.mean() for name, value in found.items()}


class _Measured:
    """A copy of the model in eval mode that sums squared gradients and squared inputs of its weights."""

    def __init__(self, model: nn.Module, fisher: Sequence[Target], activation: Sequence[Target]) -> None:
        copies: dict[int, Any] = {}
        self.model = copy.deepcopy(model, copies).eval()
        self.sums: dict[str, Tensor] = {t.name: torch.zeros(t.matrix.shape) for t in (*fisher, *activation)}
        self.parameters = {t.name: copies[id(t.parameter)] for t in fisher}
        self.model.requires_grad_(False)
        for parameter in self.parameters.values():
            parameter.requires_grad_(True)
        for target in activation:
            for name, layer in target.layers:
                self._watch(copies[id(layer)], target, target.name.removeprefix(name).lstrip("."))

    def over(self, op: str, data: Data, loss: Loss | None) -> dict[str, Tensor]:
        batches = 0
        for batch in data:
            with torch.set_grad_enabled(bool(self.parameters)):
                value = loss(self.model, batch) if loss else self.model(_inputs(batch))
            if self.parameters:
                self._add_gradients(op, value)
            batches += 1
        if not batches:
            checks.fail(op, "data must hold at least one batch", "none")
        for name, value in self.sums.items():
            if not bool(value.isfinite().all()) or not bool(value.any()):
                came = "only zeros, or numbers that are not finite"
                checks.fail(op, f"data must reach {name}", came, "weigh it by nothing, or give other data")
        return {name: value / batches for name, value in self.sums.items()}

    def _add_gradients(self, op: str, value: Tensor) -> None:
        if not isinstance(value, Tensor) or value.numel() != 1 or not bool(value.isfinite()):
            checks.fail(op, "loss(model, batch) must be a finite scalar tensor", repr(value))
        parameters = list(self.parameters.values())
        gradients = torch.autograd.grad(value, parameters, allow_unused=True)
        for name, gradient in zip(self.parameters, gradients, strict=True):
            if gradient is not None:
                self.sums[name] += gradient.flatten(1).square()

    def _watch(self, layer: nn.Module, target: Target, leaf: str) -> None:
        def add(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], result: Any) -> None:
            x = arguments[0] if arguments else named["input"]
            self.sums[target.name] += mean_squares(layer, leaf, x).to(torch.float32)

        layer.register_forward_hook(add, with_kwargs=True)


def _inputs(batch: Any) -> Any:
    return batch[0] if isinstance(batch, (tuple, list)) else batch


@torch.no_grad()
def mean_squares(layer: nn.Module, leaf: str, x: Any) -> Tensor:
    """What each column (or row) of a weight is multiplied by, squared, in the mean: broadcasts to (out, in).

    Of a convolution the mean over each input channel; of an embedding how often each row is used; of a recurrent
    layer its inputs, and its outputs for the recurrent weights (first states zero); of sparse rows each feature.
    """
    if isinstance(layer, (nn.Embedding, nn.EmbeddingBag)):
        counts = torch.bincount(x.flatten(), minlength=layer.num_embeddings)
        return counts[:, None] / max(1, x.numel())
    if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        kernel = layer.weight[0, 0].numel()
        channels = x.square().movedim(1 - layer.weight.dim(), 0)
        by_group = channels.flatten(1).mean(1).view(layer.groups, -1).repeat_interleave(kernel, 1)
        return by_group.repeat_interleave(layer.out_channels // layer.groups, 0)
    if isinstance(layer, nn.RNNBase):
        return _recurrent(layer, leaf, x)
    if isinstance(layer, SparseLinear):
        return _column_squares(x)[:, None] / max(1, len(x) if isinstance(x, CsrBatch) else x.num_rows)
    if isinstance(layer, LSHLinear):
        x = dense_rows(x)
    return x.square().flatten(0, -2).mean(0)[None] if x.dim() > 1 else x.square()[None]


def _column_squares(x: CsrBatch | ActiveValues) -> Tensor:
    """Of the values of each column, summed."""
    columns, values = csr_tensors(x)[1:] if isinstance(x, CsrBatch) else (x.ids, x.values)
    width = x.num_cols if isinstance(x, CsrBatch) else x.num_items
    return torch.zeros(width).index_add(0, columns, values.square())


def _recurrent(layer: nn.RNNBase, leaf: str, x: Tensor | PackedSequence) -> Tensor:
    """Runs the layers below by themselves, one at a time."""
    depth, backwards = int(leaf.split("_l")[1].split("_")[0]), leaf.endswith("_reverse")
    for at in range(depth + leaf.startswith("weight_hh")):
        x = _single(layer, at)(x)[0]
    values = x.data if isinstance(x, PackedSequence) else x
    if leaf.startswith("weight_hh") and layer.bidirectional:
        values = values[..., layer.hidden_size :] if backwards else values[..., : layer.hidden_size]
    return values.square().flatten(0, -2).mean(0)[None]


def _single(layer: nn.RNNBase, at: int) -> nn.RNNBase:
    """Layer `at` alone, with the same parameters."""
    inputs = layer.input_size if at == 0 else layer.hidden_size * (1 + layer.bidirectional)
    settings = {"bias": layer.bias, "batch_first": layer.batch_first, "bidirectional": layer.bidirectional}
    if isinstance(layer, nn.RNN):
        settings["nonlinearity"] = layer.nonlinearity
    with torch.device("meta"):
        single: nn.RNNBase = type(layer)(inputs, layer.hidden_size, **settings)  # type: ignore[arg-type]
    for name, _ in list(single.named_parameters()):
        setattr(single, name, getattr(layer, name.replace("_l0", f"_l{at}")))
    return single
