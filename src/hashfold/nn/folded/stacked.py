"""A weight whose runs of outputs are folded each in its own way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from hashfold import checks
from hashfold.nn.folded.weight import FoldedWeight


class StackedWeight(FoldedWeight):
    """W = [W_1; W_2; ...]: the rows of several folded weights, one behind the other.

    For outputs that differ in what they need: sorted by how often they occur, the frequent ones can have more
    stored values than the rare ones. parts: at least one, of equal in_features.
    """

    kind: ClassVar[str] = "stacked"

    def __init__(self, parts: Iterable[FoldedWeight]) -> None:
        given = list(parts)
        op = "StackedWeight"
        if not given:
            checks.fail(op, "parts must be at least one folded weight", "none")
        widths = {part.in_features for part in given}
        if len(widths) > 1:
            checks.fail(op, "parts must have equal in_features", sorted(widths))
        super().__init__(sum(part.out_features for part in given), given[0].in_features)
        self.parts = nn.ModuleList(given)

    def _spans(self) -> list[tuple[int, int, FoldedWeight]]:
        """First output, end, and weight of each part."""
        spans, at = [], 0
        for part in self.parts:
            assert isinstance(part, FoldedWeight)
            spans.append((at, at + part.out_features, part))
            at += part.out_features
        return spans

    def _matmul(self, x: Tensor) -> Tensor:
        return torch.cat([part.matmul(x) for _, _, part in self._spans()], 1)

    def _rows(self, ids: Tensor) -> Tensor:
        places, rows = [], []
        for begin, end, part in self._spans():
            here = ((ids >= begin) & (ids < end)).nonzero()[:, 0]
            places.append(here)
            rows.append(part.rows(ids[here] - begin))
        order = torch.cat(places)
        back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
        return torch.cat(rows)[back]

    def _settings(self) -> dict[str, Any]:
        return {"parts": [part.spec() for _, _, part in self._spans()]}

    @classmethod
    def _from_settings(cls, settings: dict[str, Any]) -> StackedWeight:
        op = "StackedWeight.from_spec"
        if set(settings) != {"out_features", "in_features", "parts"} or not isinstance(settings["parts"], list):
            checks.fail(op, "a stacked weight has in_features, out_features, parts", ", ".join(sorted(settings)))
        weight = cls([FoldedWeight.from_spec(part) for part in settings["parts"]])
        shape = (settings["out_features"], settings["in_features"])
        if shape != (weight.out_features, weight.in_features):
            checks.fail(op, f"its parts make {(weight.out_features, weight.in_features)}", shape)
        return weight
