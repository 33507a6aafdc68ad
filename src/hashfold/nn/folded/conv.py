"""Convolutions over a folded weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from hashfold import checks
from hashfold.nn.folded.linear import uniform_parameter
from hashfold.nn.folded.weight import ROW_BLOCK_WEIGHTS, FoldedWeight, check_shape

Size = int | tuple[int, ...]
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class FoldedConv(nn.Module):
    """A convolution whose filters are the rows of a virtual matrix, a few of which are built at a time.

    Building a block of filters costs a fraction of applying them at every position, and torch's own
    convolution then needs no unfolded copy of x. Backward builds them again.
    """

    dimensions: ClassVar[int]
    convolve: ClassVar[Callable[..., Tensor]]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        weight: FoldedWeight,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        op = type(self).__name__
        out, fan_in = self.weight_shape(in_channels, out_channels, kernel_size, groups)
        self.weight = check_shape(op, weight, out, fan_in)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = self._sizes("kernel_size", kernel_size, low=1)
        self.stride = self._sizes("stride", stride, low=1)
        self.dilation = self._sizes("dilation", dilation, low=1)
        self.padding = padding if isinstance(padding, str) else self._sizes("padding", padding, low=0)
        self.padding_mode = checks.one_of(op, "padding_mode", padding_mode, PADDING_MODES)
        self._margins = self._both_sides()
        self.bias = uniform_parameter(out, 1.0 / math.sqrt(fan_in), generator) if bias else None

    @classmethod
    def weight_shape(
        cls, in_channels: int, out_channels: int, kernel_size: Size, groups: int = 1
    ) -> tuple[int, int]:
        """(out, in) of the folded weight: a row is a filter, in_channels / groups x kernel, in torch's order."""
        op = cls.__name__
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels), ("groups", groups)):
            checks.integer(op, name, value, low=1)
        if in_channels % groups or out_channels % groups:
            checks.fail(op, f"groups must divide the channels {in_channels} and {out_channels}", groups)
        return out_channels, in_channels // groups * math.prod(cls._sizes("kernel_size", kernel_size, low=1))

    def forward(self, x: Tensor) -> Tensor:
        channels = -self.dimensions - 1
        if x.dim() not in (self.dimensions + 1, self.dimensions + 2) or x.shape[channels] != self.in_channels:
            shape = f"(batch, {self.in_channels}, {', '.join('*' * self.dimensions)})"
            checks.fail(type(self).__name__, f"x must be {shape}", tuple(x.shape))
        padding: Size | str = self.padding
        if self.padding_mode != "zeros":
            x, padding = F.pad(x, self._margins, mode=self.padding_mode), 0
        parts = [self._part(x, *part, padding) for part in self._parts()]
        return parts[0] if len(parts) == 1 else torch.cat(parts, channels)

    def _part(self, x: Tensor, *part: Any) -> Tensor:
        """`_some_filters`; where gradients are wanted, built again for them instead of kept."""
        if not torch.is_grad_enabled():
            return self._some_filters(x, *part)
        built: Tensor = checkpoint(self._some_filters, x, *part, use_reentrant=False, preserve_rng_state=False)
        return built

    def _some_filters(self, x: Tensor, filters: range, groups: range, padding: Size | str) -> Tensor:
        """The output channels `filters`, which make up these groups or are a part of one."""
        inputs = self.in_channels // self.groups
        x = x.narrow(-self.dimensions - 1, groups.start * inputs, len(groups) * inputs)
        rows = self.weight.rows(torch.arange(filters.start, filters.stop))
        rows = rows.view(len(filters), inputs, *self.kernel_size)
        bias = None if self.bias is None else self.bias[filters.start : filters.stop]
        return type(self).convolve(x, rows, bias, self.stride, padding, self.dilation, len(groups))

    def _parts(self) -> Iterator[tuple[range, range]]:
        """Filters, and the groups that they are of."""
        at_once = max(1, ROW_BLOCK_WEIGHTS // self.weight.in_features)
        each = self.out_channels // self.groups
        if at_once < each:
            for group in range(self.groups):
                for at in range(group * each, (group + 1) * each, at_once):
                    yield range(at, min(at + at_once, (group + 1) * each)), range(group, group + 1)
            return
        step = at_once // each
        for group in range(0, self.groups, step):
            last = min(group + step, self.groups)
            yield range(group * each, last * each), range(group, last)

    @classmethod
    def _sizes(cls, name: str, value: Size, low: int) -> tuple[int, ...]:
        sizes = (value,) * cls.dimensions if isinstance(value, int) else tuple(value)
        if len(sizes) != cls.dimensions:
            checks.fail(cls.__name__, f"{name} must be an integer or {cls.dimensions} of them", value)
        return tuple(checks.integer(cls.__name__, name, size, low=low) for size in sizes)

    def _both_sides(self) -> list[int]:
        """The padding as `F.pad` takes it: last dimension first, before and after."""
        if self.padding not in ("same", "valid") and isinstance(self.padding, str):
            checks.fail(type(self).__name__, "padding must be sizes, same or valid", repr(self.padding))
        if self.padding == "same" and any(stride != 1 for stride in self.stride):
            checks.fail(type(self).__name__, "padding same needs stride 1", self.stride)
        if not isinstance(self.padding, str):
            return [side for size in reversed(self.padding) for side in (size, size)]
        sides = []
        for kernel, dilation in zip(reversed(self.kernel_size), reversed(self.dilation), strict=True):
            total = dilation * (kernel - 1) if self.padding == "same" else 0
            sides += [total // 2, total - total // 2]
        return sides

    def extra_repr(self) -> str:
        names = ("kernel_size", "stride", "padding", "dilation", "groups")
        settings = ", ".join(f"{name}={getattr(self, name)}" for name in names)
        return f"{self.in_channels}, {self.out_channels}, {settings}, bias={self.bias is not None}"


class FoldedConv1d(FoldedConv):
    """`torch.nn.Conv1d` whose `weight` is a `FoldedWeight` of a row a filter; arguments as there, and:

    weight: `FoldedConv1d.weight_shape(...)`, (out_channels, in_channels / groups * kernel).
    generator: of the initial bias; torch's own if None.

    Filters are built in blocks of 1 MiB while they are applied, never all. Gradients for x, the weight's stored
    values and the bias.
    """

    dimensions = 1
    convolve = staticmethod(F.conv1d)


class FoldedConv2d(FoldedConv):
    """`torch.nn.Conv2d` whose `weight` is a `FoldedWeight` of a row a filter: see `FoldedConv1d`."""

    dimensions = 2
    convolve = staticmethod(F.conv2d)


class FoldedConv3d(FoldedConv):
    """`torch.nn.Conv3d` whose `weight` is a `FoldedWeight` of a row a filter: see `FoldedConv1d`."""

    dimensions = 3
    convolve = staticmethod(F.conv3d)
