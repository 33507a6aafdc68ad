"""Losses over active sets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from hashfold import checks
from hashfold.kernels import losses as kernels
from hashfold.nn.active import ActiveValues
from hashfold.nn.rowwise_losses import rowwise_sigmoid_loss, rowwise_softmax_loss
from hashfold.sparse import ActiveSet


class _SampledLoss(nn.Module, ABC):
    _kernel: ClassVar[kernels.Loss]  # of a set shared by the batch

    @staticmethod
    @abstractmethod
    def _rowwise(values: Tensor, active: ActiveSet) -> Tensor:
        """The loss of a set per row."""

    def forward(self, logits: Tensor | ActiveValues, active: ActiveSet | None = None) -> Tensor:
        """The mean loss over rows, a scalar.

        logits (rows, active) as `LSHLinear` gives them for a set shared by the batch, with that set; or the
        `ActiveValues` it gives for sets per row.
        """
        if isinstance(logits, ActiveValues):
            return self._rowwise(logits.values, logits.active)
        if active is None:
            checks.fail(type(self).__name__, "logits of a shared set need that set", "no active set")
        return self.with_gradient(logits, active)[0]

    def with_gradient(self, logits: Tensor, active: ActiveSet) -> tuple[Tensor, Tensor]:
        """The mean loss, and its gradient with respect to the logits of a shared set, in one pass."""
        op = type(self).__name__
        if tuple(logits.shape) != (active.num_rows, len(active.ids)):
            checks.fail(op, f"logits must be ({active.num_rows}, {len(active.ids)})", tuple(logits.shape))
        if active.label_indptr is None or active.label_positions is None:
            checks.fail(op, "active must hold the true labels", "a set without", "pass labels to lookup")
        weights = torch.from_numpy(active.weights).to(logits.dtype)
        starts, positions = torch.from_numpy(active.label_indptr), torch.from_numpy(active.label_positions)
        return type(self)._kernel(logits, weights, starts, positions)


class SampledSoftmaxLoss(_SampledLoss):
    """Cross-entropy over the active set, mean over a row's labels, then over rows.

    loss_i = mean over labels l of (log sum_j w_j exp z_ij - z_il - log w_l): log w is the log-q correction
    for neurons that were sampled (Bengio and Senecal 2008; Jean et al. 2015). The maximum is subtracted
    first, so no logits overflow or underflow. With every neuron active it is the full cross-entropy.
    Rows without labels cost nothing but count in the mean.
    """

    _kernel = staticmethod(kernels.sampled_softmax)
    _rowwise = staticmethod(rowwise_softmax_loss)


class SampledSigmoidLoss(_SampledLoss):
    """Logistic loss of every active neuron, summed, mean over rows; for rows with many labels.

    loss_i = sum_j w_j softplus(z_ij) - sum over labels z_il, a label's own weight counting as 1: with the
    weights of an `ActiveSet` an unbiased estimate of the loss over all neurons.
    """

    _kernel = staticmethod(kernels.sampled_sigmoid)
    _rowwise = staticmethod(rowwise_sigmoid_loss)
