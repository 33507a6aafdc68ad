"""Recurrent networks over folded weights."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from hashfold import checks
from hashfold.nn.folded.linear import uniform_parameter
from hashfold.nn.folded.weight import FoldedWeight, check_shape

States: TypeAlias = tuple[Tensor, ...]  # hidden (and cell) states, (rows, hidden_size) each
NONLINEARITIES = {"tanh": torch.tanh, "relu": torch.relu}


@dataclass(frozen=True)
class Steps:
    """All steps of a batch, one behind the other: (sum of sizes, features), `sizes[t]` rows of step t."""

    values: Tensor
    sizes: list[int]


class FoldedRecurrent(nn.Module, ABC):
    """What the three share: layers, directions, and the walk over the steps. Weight names are torch's.

    The input's part of all steps is one product; a step multiplies the hidden state by the recurrent weight, which
    is never built.
    """

    gates: ClassVar[int]
    states: ClassVar[int] = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        weights: Mapping[str, FoldedWeight],
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        op = type(self).__name__
        shapes = self.weight_shapes(input_size, hidden_size, num_layers, bidirectional)
        if set(weights) != set(shapes):
            checks.fail(op, f"weights must be {', '.join(shapes)}", ", ".join(weights))
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.bidirectional = bool(bias), bool(batch_first), bool(bidirectional)
        self.dropout = checks.number(op, "dropout", dropout, low=0.0, high=1.0)
        bound = 1.0 / math.sqrt(hidden_size)
        for name, (out_features, in_features) in shapes.items():
            self.add_module(name, check_shape(f"{op}.{name}", weights[name], out_features, in_features))
            if bias:
                offset = uniform_parameter(out_features, bound, generator)
                self.register_parameter(name.replace("weight", "bias"), offset)

    @classmethod
    def weight_shapes(
        cls, input_size: int, hidden_size: int, num_layers: int = 1, bidirectional: bool = False
    ) -> dict[str, tuple[int, int]]:
        """(out, in) of every folded weight by its name."""
        op = cls.__name__
        for name, value in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            checks.integer(op, name, value, low=1)
        out, directions, shapes = cls.gates * hidden_size, 1 + bool(bidirectional), {}
        for layer in range(num_layers):
            width = hidden_size * directions if layer else input_size
            for suffix in ("", "_reverse")[:directions]:
                shapes[f"weight_ih_l{layer}{suffix}"] = (out, width)
                shapes[f"weight_hh_l{layer}{suffix}"] = (out, hidden_size)
        return shapes

    def _run(self, x: Tensor | PackedSequence, hx: States | None) -> tuple[Tensor | PackedSequence, States]:
        """Outputs in the form of x, and the last states, (layers * directions, batch, hidden_size) each."""
        if isinstance(x, PackedSequence):
            steps = Steps(x.data, x.batch_sizes.tolist())
            self._check_input(x.data, 2)
            states = self._first_states(hx, x.data, steps.sizes[0], batched=True)
            y, last = self._layers(steps, _permuted(states, x.sorted_indices))
            packed = PackedSequence(y, x.batch_sizes, x.sorted_indices, x.unsorted_indices)
            return packed, _permuted(last, x.unsorted_indices)
        self._check_input(x, 2, 3)
        batched = x.dim() == 3
        by_step = (x.transpose(0, 1) if self.batch_first else x) if batched else x[:, None]
        length, rows = by_step.shape[:2]
        if not length or not rows:
            checks.fail(type(self).__name__, "x must have steps and rows", tuple(x.shape))
        steps = Steps(by_step.reshape(length * rows, -1), [rows] * length)
        y, last = self._layers(steps, self._first_states(hx, x, rows, batched))
        y = y.view(length, rows, -1)
        if not batched:
            return y[:, 0], tuple(state[:, 0] for state in last)
        return y.transpose(0, 1) if self.batch_first else y, last

    def _layers(self, steps: Steps, states: States) -> tuple[Tensor, States]:
        values, last = steps.values, []
        for layer in range(self.num_layers):
            outputs = []
            for direction, suffix in enumerate(("", "_reverse")[: 1 + self.bidirectional]):
                at = layer * (1 + self.bidirectional) + direction
                first = tuple(state[at] for state in states)
                y, end = self._walk(f"l{layer}{suffix}", Steps(values, steps.sizes), first, bool(direction))
                outputs.append(y)
                last.append(end)
            values = torch.cat(outputs, 1) if self.bidirectional else outputs[0]
            if self.dropout and self.training and layer + 1 < self.num_layers:
                values = F.dropout(values, self.dropout)
        return values, tuple(torch.stack(parts) for parts in zip(*last, strict=True))

    def _walk(self, suffix: str, steps: Steps, first: States, backwards: bool) -> tuple[Tensor, States]:
        """One layer in one direction: outputs (sum of sizes, hidden_size), and each row's last states."""
        from_x = self._offset(getattr(self, f"weight_ih_{suffix}").matmul(steps.values), f"bias_ih_{suffix}")
        parts, outputs, done = torch.split(from_x, steps.sizes), [], []
        recurrent = getattr(self, f"weight_hh_{suffix}")
        states = tuple(state[: steps.sizes[-1 if backwards else 0]] for state in first)
        for part in reversed(parts) if backwards else parts:
            rows = len(part)
            if rows < len(states[0]):  # sequences end
                done.append(tuple(state[rows:] for state in states))
                states = tuple(state[:rows] for state in states)
            elif rows > len(states[0]):  # walking backwards, sequences begin
                joining = slice(len(states[0]), rows)
                pairs = zip(states, first, strict=True)
                states = tuple(torch.cat((state, start[joining])) for state, start in pairs)
            from_h = self._offset(recurrent.matmul(states[0]), f"bias_hh_{suffix}")
            states = self._cell(part, from_h, states)
            outputs.append(states[0])
        ends = [states, *reversed(done)]
        y = torch.cat(outputs[::-1] if backwards else outputs)
        return y, tuple(torch.cat(pieces) for pieces in zip(*ends, strict=True))

    @abstractmethod
    def _cell(self, from_x: Tensor, from_h: Tensor, states: States) -> States:
        """The next states: from_x and from_h are (rows, gates * hidden_size), biases added."""

    def _offset(self, y: Tensor, name: str) -> Tensor:
        return y + getattr(self, name) if self.bias else y

    def _check_input(self, x: Tensor, *dims: int) -> None:
        if x.dim() not in dims or x.shape[-1] != self.input_size:
            expected = f"x must be (steps, batch, {self.input_size}), or of these without a batch"
            checks.fail(type(self).__name__, expected, tuple(x.shape))

    def _first_states(self, hx: States | None, x: Tensor, rows: int, batched: bool) -> States:
        """(layers * directions, rows, hidden_size) each: those given, or zero."""
        layers = self.num_layers * (1 + self.bidirectional)
        shape = (layers, rows, self.hidden_size)
        if hx is None:
            return (x.new_zeros(shape),) * self.states
        given = shape if batched else (layers, self.hidden_size)
        for state in hx:
            if state.shape != given:
                checks.fail(type(self).__name__, f"first states must be {given}", tuple(state.shape))
        return hx if batched else tuple(state[:, None] for state in hx)

    def extra_repr(self) -> str:
        names = ("num_layers", "bias", "batch_first", "dropout", "bidirectional")
        settings = ", ".join(f"{name}={getattr(self, name)}" for name in names)
        return f"{self.input_size}, {self.hidden_size}, {settings}"


class FoldedRNN(FoldedRecurrent):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh): `torch.nn.RNN` whose weights are `FoldedWeight`s.

    Args:
        input_size, hidden_size, num_layers, nonlinearity, bias, batch_first, dropout, bidirectional: as of
            `nn.RNN`.
        weights: the folded weights by torch's names (`weight_ih_l0`, ...), of the shapes `weight_shapes` tells.
        generator: of the initial biases; torch's own if None.

    x (steps, batch, input_size), with `batch_first` (batch, steps, input_size), unbatched, or a `PackedSequence`;
    first states as there. Results as of `nn.RNN`. Gradients for x, first states, stored values and biases.
    Cost: the recurrent weight is decoded anew in every step.
    """

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        weights: Mapping[str, FoldedWeight],
        generator: torch.Generator | None = None,
    ) -> None:
        settings = (num_layers, bias, batch_first, dropout, bidirectional)
        super().__init__(input_size, hidden_size, *settings, weights=weights, generator=generator)
        self.nonlinearity = checks.one_of(type(self).__name__, "nonlinearity", nonlinearity, NONLINEARITIES)

    def forward(
        self, x: Tensor | PackedSequence, hx: Tensor | None = None
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        y, (hidden,) = self._run(x, None if hx is None else (hx,))
        return y, hidden

    def _cell(self, from_x: Tensor, from_h: Tensor, states: States) -> States:
        return (NONLINEARITIES[self.nonlinearity](from_x + from_h),)


class FoldedLSTM(FoldedRecurrent):
    """`torch.nn.LSTM` (without projections) whose weights are `FoldedWeight`s: arguments as of `FoldedRNN`.

    Returns y, (h, c) as `nn.LSTM` does; takes first states (h, c).
    """

    gates, states = 4, 2

    def forward(
        self, x: Tensor | PackedSequence, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor | PackedSequence, tuple[Tensor, Tensor]]:
        if hx is not None and len(hx) != 2:
            checks.fail("FoldedLSTM", "first states must be (h, c)", f"{len(hx)} of them")
        y, (hidden, cell) = self._run(x, hx)
        return y, (hidden, cell)

    def _cell(self, from_x: Tensor, from_h: Tensor, states: States) -> States:
        enter, forget, new, show = (from_x + from_h).chunk(4, 1)
        cell = torch.sigmoid(forget) * states[1] + torch.sigmoid(enter) * torch.tanh(new)
        return torch.sigmoid(show) * torch.tanh(cell), cell


class FoldedGRU(FoldedRecurrent):
    """`torch.nn.GRU` whose weights are `FoldedWeight`s: arguments and results as of `FoldedRNN`."""

    gates = 3

    def forward(
        self, x: Tensor | PackedSequence, hx: Tensor | None = None
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        y, (hidden,) = self._run(x, None if hx is None else (hx,))
        return y, hidden

    def _cell(self, from_x: Tensor, from_h: Tensor, states: States) -> States:
        width = 2 * self.hidden_size
        reset, update = torch.sigmoid(from_x[:, :width] + from_h[:, :width]).chunk(2, 1)
        new = torch.tanh(from_x[:, width:] + reset * from_h[:, width:])
        return (new + update * (states[0] - new),)


def _permuted(states: States, order: Tensor | None) -> States:
    return states if order is None else tuple(state.index_select(1, order) for state in states)
