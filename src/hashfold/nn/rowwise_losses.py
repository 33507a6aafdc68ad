"""Losses of an output layer whose rows each computed neurons of their own.

`values` (pairs,) are the logits of the neurons in `active`, a per-row set with labels: row i's pairs
are `indptr[i]` to `indptr[i + 1]`, its true labels at `label_positions`. `active.weights` says how many
neurons an entry stands for. With every neuron active both equal the usual dense loss; both are the
mean over all rows of the batch. Gradients go to `values`. Cost: O(pairs).
"""

from __future__ import annotations

import torch
from torch import Tensor

from hashfold import checks
from hashfold.sparse import ActiveSet


def rowwise_softmax_loss(values: Tensor, active: ActiveSet) -> Tensor:
    """Softmax over each row's own neurons: mean over a row's labels of (log sum exp z - z_label).

    z = values + log(weights), the log-q correction (Bengio and Senecal 2008). Rows without labels cost 0.
    """
    rows, label_rows, positions = _layout("rowwise_softmax_loss", values, active)
    z = values + torch.from_numpy(active.weights).to(values.dtype).log()
    lowest = z.new_full((active.num_rows,), -torch.inf)
    # The true maximum of the row, not max(0, .): all-negative logits must not underflow.
    largest = lowest.scatter_reduce(0, rows, z.detach(), "amax")
    total = z.new_zeros(active.num_rows).index_add(0, rows, (z - largest[rows]).exp())
    loss = total[label_rows].log() + largest[label_rows] - z[positions]
    return (loss * _label_share(label_rows, active, loss)).sum() / max(1, active.num_rows)


def rowwise_sigmoid_loss(values: Tensor, active: ActiveSet) -> Tensor:
    """Logistic loss of each pair: sum over a row of w softplus(z), minus z at its labels.

    A label's own weight counts as 1; every other neuron's loss is multiplied by its weight.
    """
    _, _, positions = _layout("rowwise_sigmoid_loss", values, active)
    weights = torch.from_numpy(active.weights).to(values.dtype)
    weights = weights.index_fill(0, positions, 1.0)
    total = (weights * torch.nn.functional.softplus(values)).sum() - values[positions].sum()
    return total / max(1, active.num_rows)


def _layout(op: str, values: Tensor, active: ActiveSet) -> tuple[Tensor, Tensor, Tensor]:
    """The row of each value, the row of each label, and the labels' positions among the values."""
    if active.indptr is None or active.label_indptr is None or active.label_positions is None:
        checks.fail(op, "active must be a per-row set with labels", "one without", "pass labels to the lookup")
    if values.shape != (len(active.ids),):
        checks.fail(op, f"values must have shape ({len(active.ids)},)", tuple(values.shape))
    every = torch.arange(active.num_rows)
    rows = torch.repeat_interleave(every, torch.from_numpy(active.indptr).diff())
    label_rows = torch.repeat_interleave(every, torch.from_numpy(active.label_indptr).diff())
    return rows, label_rows, torch.from_numpy(active.label_positions)


def _label_share(label_rows: Tensor, active: ActiveSet, like: Tensor) -> Tensor:
    """1 / (labels of the row), for each label."""
    assert active.label_indptr is not None
    counts = torch.from_numpy(active.label_indptr).diff()
    return 1.0 / counts[label_rows].to(like.dtype)
