"""Which weights are too small to keep."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def smallest(matrices: Sequence[Tensor], fraction: float) -> list[Tensor]:
    """Masks, of the matrices' shapes, of the `fraction` of all their entries that are smallest in magnitude.

    floor(fraction * entries) of them in all; of equal ones the first. Cost: linear; memory: the magnitudes, once.
    """
    sizes = torch.cat([m.detach().flatten().abs() for m in matrices])
    count = int(fraction * len(sizes))
    mask = torch.zeros(len(sizes), dtype=torch.bool)
    if count:
        least = sizes.kthvalue(count).values
        mask = sizes < least
        mask[(sizes == least).nonzero()[: count - int(mask.sum()), 0]] = True
    parts = torch.split(mask, [m.numel() for m in matrices])
    return [part.view(m.shape) for part, m in zip(parts, matrices, strict=True)]
