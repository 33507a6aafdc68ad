"""ResNet-20 for 28 x 28 images of one channel (He et al., CVPR 2016), dense or hashed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.fold.nets import laid_out

WIDTHS = (16, 32, 64)
BLOCKS = 3  # of two convolutions each, in a stage
DEPTH = 2 + 2 * BLOCKS * len(WIDTHS)
Convolution = Callable[[int, int, int], nn.Module]
"""Of in_channels, out_channels and stride: 3 x 3, padded by one, without a bias."""


def dense_convolution(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)


class Block(nn.Module):
    """relu(x + two normalised convolutions). Where the shape changes, x is subsampled, with channels of zeros."""

    def __init__(self, inputs: int, outputs: int, stride: int, convolution: Convolution) -> None:
        super().__init__()
        self.first, self.second = convolution(inputs, outputs, stride), convolution(outputs, outputs, 1)
        self.norm1, self.norm2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.stride, self.more = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.second(F.relu(self.norm1(self.first(x)))))
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        return F.relu(y + F.pad(x, (0, 0, 0, 0, 0, self.more)) if self.more else y + x)


def resnet(
    widths: Sequence[int] = WIDTHS,
    convolution: Convolution = dense_convolution,
    output: Callable[[int, int], nn.Module] = nn.Linear,
) -> nn.Sequential:
    """Three stages at 14 x 14, 7 x 7 and 4 x 4: the first convolution has stride 2, for speed."""
    layers: list[nn.Module] = [convolution(1, widths[0], 2), nn.BatchNorm2d(widths[0]), nn.ReLU()]
    inputs = widths[0]
    for stage, outputs in enumerate(widths):
        for block in range(BLOCKS):
            layers.append(Block(inputs, outputs, 2 if stage and not block else 1, convolution))
            inputs = outputs
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), output(inputs, 10))
    return laid_out(net, torch.channels_last)
