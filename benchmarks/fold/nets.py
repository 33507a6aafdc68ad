"""The LeNets, and the dense LeNet-5 whose logits teach other nets."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from benchmarks.fold.images import Images, Recipe, fit, logits_of

LENET_5 = Recipe(epochs=8, rate=4e-3, batch=128, weight_decay=2e-2, hold=0.2, bfloat16=True)


def lenet_300_100(dropout: float = 0.0) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Flatten(), nn.Dropout(dropout / 2)),
        *(nn.Linear(784, 300), nn.ReLU(), nn.Dropout(dropout)),
        *(nn.Linear(300, 100), nn.ReLU(), nn.Dropout(dropout)),
        nn.Linear(100, 10),
    )


def lenet_5(dropout: float = 0.0) -> nn.Sequential:
    """Caffe's: 20 and 50 filters, 431,080 parameters."""
    return nn.Sequential(
        *(nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Flatten(), nn.Dropout(dropout)),
        *(nn.Linear(800, 500), nn.ReLU(), nn.Dropout(dropout)),
        nn.Linear(500, 10),
    )


def trained_lenet_5(images: Images, seed: int) -> nn.Sequential:
    """Dense. It trains with batch normalisation, which is then folded into its weights."""
    torch.manual_seed(seed)
    net = normalised(lenet_5(dropout=0.4))
    fit(net, images.x_train, images.y_train, LENET_5, seed)
    return fused(net)


def teacher(images: Images, seed: int) -> Tensor:
    """Logits of a dense LeNet-5, which saw the same images and no others, for the rows of train."""
    return logits_of(trained_lenet_5(images, seed), images.x_train)


def normalised(net: nn.Sequential) -> nn.Sequential:
    """Batch normalisation after each layer but the last; filters laid out for speed."""
    layers: list[nn.Module] = []
    for layer in net:
        layers.append(layer)
        if isinstance(layer, nn.Conv2d):
            layers.append(nn.BatchNorm2d(layer.out_channels))
        elif isinstance(layer, nn.Linear) and layer is not net[-1]:
            layers.append(nn.BatchNorm1d(layer.out_features))
    return laid_out(nn.Sequential(*layers), torch.channels_last)


def fused(net: nn.Sequential) -> nn.Sequential:
    """Without batch normalisation, the same function."""
    layers: list[nn.Module] = []
    for layer in net.eval():
        before = layers[-1] if layers else None
        if isinstance(layer, nn.BatchNorm2d) and isinstance(before, nn.Conv2d):
            layers[-1] = fuse_conv_bn_eval(before, layer)
        elif isinstance(layer, nn.BatchNorm1d) and isinstance(before, nn.Linear):
            layers[-1] = fuse_linear_bn_eval(before, layer)
        else:
            layers.append(layer)
    return laid_out(nn.Sequential(*layers), torch.contiguous_format)


def laid_out(net: nn.Sequential, layout: torch.memory_format) -> nn.Sequential:
    net.to(memory_format=layout)  # type: ignore[call-overload]  # torch's types lack it
    return net


def with_dropout(net: nn.Module, rate: float) -> nn.Module:
    for layer in net.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = rate
    return net
