"""A weight matrix that is never built: what the folded layers know of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from hashfold import checks
from hashfold.sparse import MAX_IDS

ROW_BLOCK_WEIGHTS = 1 << 18
"""Virtual weights that are built at once where rows must be: 1 MiB of float32."""

KINDS: dict[str, type[FoldedWeight]] = {}
"""The families of folded weights by the kind in their spec; a subclass with a `kind` enters itself."""


class FoldedWeight(nn.Module, ABC):
    """A virtual matrix W (out_features, in_features), computed from few stored values where it is used.

    Any layer here works over any folded weight, and layers may hold the same one (tied weights). What is stored
    are ordinary parameters and buffers, so that it trains, copies and saves as any module does.
    """

    kind: ClassVar[str]

    def __init__(self, out_features: int, in_features: int) -> None:
        super().__init__()
        op = type(self).__name__
        self.out_features = checks.integer(op, "out_features", out_features, low=1, high=MAX_IDS)
        self.in_features = checks.integer(op, "in_features", in_features, low=1, high=MAX_IDS)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "kind" in cls.__dict__:
            KINDS[cls.kind] = cls

    def forward(self, x: Tensor) -> Tensor:
        return self.matmul(x)

    def matmul(self, x: Tensor) -> Tensor:
        """x W^T: (..., in_features) -> (..., out_features). Gradients for x and the stored values.

        x is of `dtype`. Under autocast it may be of another, and is converted: products are not in that precision.
        """
        op = type(self).__name__
        if x.dim() == 0 or x.shape[-1] != self.in_features:
            checks.fail(op, f"x must be (..., {self.in_features})", tuple(x.shape))
        if x.dtype != self.dtype and x.is_floating_point() and torch.is_autocast_enabled(x.device.type):
            x = x.to(self.dtype)
        if x.dtype != self.dtype:
            checks.fail(op, f"x must be of {self.dtype}, as the stored values are", x.dtype)
        y = self._matmul(x.reshape(-1, self.in_features).contiguous())
        return y.view(*x.shape[:-1], self.out_features)

    def rows(self, ids: Tensor) -> Tensor:
        """W[ids]: integers (m,) in [0, out_features) -> (m, in_features). Gradient for the stored values."""
        op = f"{type(self).__name__}.rows"
        if ids.dim() != 1 or ids.is_floating_point() or ids.dtype == torch.bool:
            checks.fail(op, "ids must be integers (m,)", f"{ids.dtype} {tuple(ids.shape)}")
        checks.ids_in_range(op, "ids", ids.numpy(), self.out_features)
        return self._rows(ids.long().contiguous())

    def dense(self) -> Tensor:
        """W itself, (out_features, in_features): for tests and small weights."""
        return self._rows(torch.arange(self.out_features))

    def row_blocks(self) -> list[range]:
        """All rows in order, in blocks of at most `ROW_BLOCK_WEIGHTS` weights, or of one row."""
        step = max(1, ROW_BLOCK_WEIGHTS // self.in_features)
        return [range(at, min(at + step, self.out_features)) for at in range(0, self.out_features, step)]

    @property
    def dtype(self) -> torch.dtype:
        """Of the stored values, and so of x and the results."""
        return next(self.parameters()).dtype

    @property
    def nbytes(self) -> int:
        """Bytes stored: parameters and buffers."""
        return sum(t.numel() * t.element_size() for t in [*self.parameters(), *self.buffers()])

    def spec(self) -> dict[str, Any]:
        """All that fixes W beside the stored tensors, JSON-able: `from_spec` makes an equal one without values."""
        sizes = {"out_features": self.out_features, "in_features": self.in_features}
        return {"kind": self.kind, **sizes, **self._settings()}

    @staticmethod
    def from_spec(spec: Mapping[str, Any]) -> FoldedWeight:
        """The weight that gave `spec()`, its values zero, to be loaded. Raises InputError for what is no spec."""
        op = "FoldedWeight.from_spec"
        kind = KINDS[checks.one_of(op, "kind", spec.get("kind", "nothing"), KINDS)]
        return kind._from_settings({name: value for name, value in spec.items() if name != "kind"})

    def extra_repr(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self._settings().items())
        return f"{self.out_features}, {self.in_features}, {settings}"

    @abstractmethod
    def _matmul(self, x: Tensor) -> Tensor:
        """x (n, in_features), contiguous, of this dtype."""

    @abstractmethod
    def _rows(self, ids: Tensor) -> Tensor:
        """ids int64 (m,), contiguous, in range."""

    @abstractmethod
    def _settings(self) -> dict[str, Any]:
        """The spec beyond kind and shape."""

    @classmethod
    @abstractmethod
    def _from_settings(cls, settings: dict[str, Any]) -> FoldedWeight:
        """A weight of this shape and these settings, from a file perhaps: raises InputError."""


def folded_weights(module: nn.Module) -> dict[str, FoldedWeight]:
    """The folded weights inside `module` by name; one that several layers hold, under its first name only.

    Two hashed weights that share their buckets are two weights with one parameter. Parts of one are not listed.
    """
    found: dict[str, FoldedWeight] = {}
    parts: set[nn.Module] = set()
    for name, weight in module.named_modules():
        if isinstance(weight, FoldedWeight) and weight not in parts:
            found[name] = weight
            parts.update(weight.modules())
    return found


def check_shape(op: str, weight: FoldedWeight, out_features: int, in_features: int) -> FoldedWeight:
    """`weight`, which must be of this shape."""
    if not isinstance(weight, FoldedWeight):
        checks.fail(op, "weight must be a FoldedWeight", type(weight).__name__)
    shape = (weight.out_features, weight.in_features)
    if shape != (out_features, in_features):
        checks.fail(op, f"weight must be {(out_features, in_features)} (out, in)", shape)
    return weight
