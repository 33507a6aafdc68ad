"""The same network in PyTorch, as lean as its operators allow: the baselines that training is timed against."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


class TorchNetwork:
    """Embedding bag -> relu -> the batch's active labels by gathered rows; Adam on the rows that were touched.

    It starts with the weights of `like`, a LookupNetwork. A step's products are in float32 or, with `bf16`, in
    bfloat16; with `compact` the input layer's gradient and its Adam touch the batch's features only (gathered
    first, so that the gradient is dense), else they go through `torch.optim.SparseAdam`. The ways share one
    state, so a step of one may follow a step of another. dropout: share of hidden units dropped.
    """

    def __init__(self, like: Any, lr: float, dropout: float = 0.0) -> None:
        self.embedding, self.shift, self.weight, self.bias = (
            torch.nn.Parameter(p.detach().clone())
            for p in (like.input.weight, like.input.bias, like.output.weight, like.output.bias)
        )
        self.loss, self.lr, self.dropout, self.steps = like.config.loss, lr, dropout, 0
        self.sparse = torch.optim.SparseAdam([self.embedding], lr=lr)
        self.small = torch.optim.Adam([self.shift], lr=lr)
        self.dense = torch.optim.Adam([self.weight, self.bias], lr=lr, fused=True)
        self.moments = [[torch.zeros_like(p.detach()) for _ in range(2)] for p in (self.weight, self.bias)]
        self.input_moments = [torch.zeros_like(self.embedding.detach()) for _ in range(2)]

    def set_lr(self, lr: float) -> None:
        self.lr = lr
        for optimizer in (self.sparse, self.small, self.dense):
            optimizer.param_groups[0]["lr"] = lr

    def step(self, x: Any, active: Any, bf16: bool = False, compact: bool = False) -> float:
        """One training step on a CsrBatch and a shared ActiveSet: the mean loss."""
        self.steps += 1
        table, features, indices = self._table(x, compact)
        h = self.hidden(x, table, indices, sparse=not compact)
        if self.dropout:
            h = torch.nn.functional.dropout(h, self.dropout)
        with torch.no_grad():
            loss, grad_h = self._output(h.detach(), active, torch.bfloat16 if bf16 else torch.float32)
        self.small.zero_grad()
        torch.autograd.backward(h, grad_h)
        self.small.step()
        if features is None:
            self._step_sparse()
        else:
            with torch.no_grad():
                move_rows(self.embedding, self.input_moments, features, table.grad, self._rate())
        return loss

    def hidden(
        self, x: Any, table: Tensor | None = None, indices: Tensor | None = None, sparse: bool = True
    ) -> Tensor:
        offsets, values = torch.from_numpy(x.indptr[:-1]), torch.from_numpy(x.values)
        indices = torch.from_numpy(x.indices) if indices is None else indices
        table = self.embedding if table is None else table
        h = embedding_bag(
            indices, table, offsets.to(indices.dtype), mode="sum", per_sample_weights=values, sparse=sparse
        )
        return torch.relu(h + self.shift)

    @torch.no_grad()
    def copy_to(self, net: Any) -> None:
        """Gives its weights to a LookupNetwork of the same shape."""
        theirs = (net.input.weight, net.input.bias, net.output.weight, net.output.bias)
        for mine, other in zip((self.embedding, self.shift, self.weight, self.bias), theirs, strict=True):
            other.copy_(mine)
        net._searchers.clear()

    def _table(self, x: Any, compact: bool) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What the batch's nonzeros point into: the whole embedding, or its rows of the batch's features."""
        if not compact:
            return self.embedding, None, None
        features, places = torch.unique(torch.from_numpy(x.indices), return_inverse=True)
        features = features.long()
        return self.embedding.detach()[features].requires_grad_(), features, places

    def _step_sparse(self) -> None:
        state = self.sparse.state[self.embedding]
        if not state:  # the moments of the other way, so that both go on from the same
            state.update(exp_avg=self.input_moments[0], exp_avg_sq=self.input_moments[1])
        state["step"] = self.steps - 1
        self.sparse.step()
        self.sparse.zero_grad()

    def _rate(self) -> float:
        return self.lr * math.sqrt(1 - BETA2**self.steps) / (1 - BETA1**self.steps)

    def _output(self, h: Tensor, active: Any, kind: torch.dtype) -> tuple[float, Tensor]:
        ids = None if active.covers_all else torch.from_numpy(active.ids).long()
        rows, shift = (p.detach() if ids is None else p.detach()[ids] for p in (self.weight, self.bias))
        narrow_h, narrow_rows = h.to(kind), rows.to(kind)
        loss, grad = self._loss((narrow_h @ narrow_rows.T).float() + shift, active)
        narrow_grad = grad.to(kind)
        grad_h = (narrow_grad @ narrow_rows).float()
        self._move(ids, (narrow_grad.T @ narrow_h).float(), grad.sum(0))
        return loss, grad_h

    def _loss(self, z: Tensor, active: Any) -> tuple[float, Tensor]:
        """The mean loss and its gradient, written out and in place: leaner than autograd."""
        starts = torch.from_numpy(active.label_indptr)
        rows = torch.repeat_interleave(torch.arange(len(z)), starts.diff())
        columns, weights = torch.from_numpy(active.label_positions), torch.from_numpy(active.weights)
        if self.loss == "softmax":
            z.add_(weights.log())
            z.sub_(z.amax(1, keepdim=True))
            share = 1.0 / starts.diff()[rows]
            scores = z[rows, columns]
            sums = z.exp_().sum(1)
            loss = sums.log().sum() - (scores * share).sum()
            grad = z.mul_((1.0 / sums).unsqueeze(1))
            grad[rows, columns] -= share
        else:
            loss = (torch.nn.functional.softplus(z) @ weights).sum() - z[rows, columns].sum()
            grad = torch.sigmoid_(z).mul_(weights)
            grad[rows, columns] -= 1.0
        return float(loss) / len(z), grad.div_(len(z))

    def _move(self, ids: Tensor | None, *grads: Tensor) -> None:
        parameters = (self.weight, self.bias)
        if ids is None:
            self.weight.grad, self.bias.grad = grads
            self.dense.step()
            return
        for p, moments, grad in zip(parameters, self.moments, grads, strict=True):
            move_rows(p, moments, ids, grad, self._rate())


def move_rows(p: Tensor, moments: list[Tensor], ids: Tensor, grad: Tensor, rate: float) -> None:
    """Adam on distinct rows: the leanest of gathering, moving and scattering in PyTorch's operators."""
    first = moments[0][ids].mul_(BETA1).add_(grad, alpha=1 - BETA1)
    second = moments[1][ids].mul_(BETA2).addcmul_(grad, grad, value=1 - BETA2)
    moments[0].index_copy_(0, ids, first)
    moments[1].index_copy_(0, ids, second)
    p.index_add_(0, ids, first.div_(second.sqrt_().add_(EPS)), alpha=-rate)


def in_turn(steps: dict[str, Callable[[int], object]], first: int, last: int) -> dict[str, list[float]]:
    """Seconds of every contender's steps [first, last), each contender's step i before anyone's step i + 1."""
    import time

    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(first, last):
        for name, step in steps.items():
            start = time.perf_counter()
            step(i)
            seconds[name].append(time.perf_counter() - start)
    return seconds
