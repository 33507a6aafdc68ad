"""What each type of config does to a weight matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from hashfold import checks
from hashfold.compress.config import Config
from hashfold.compress.transform import Transform
from hashfold.nn.folded import FoldedWeight


@dataclass(frozen=True)
class Job:
    """One weight matrix: its name in the model, the dense matrix (out, in), finite; what was asked for.

    importance: (out, in), by the config's `weighting`. pruned: (out, in), true where a weight becomes zero. None:
    neither. seed: that of the config, mixed with the name, so that no two weights hash alike.
    """

    name: str
    matrix: Tensor
    config: Any
    seed: int
    importance: Tensor | None = None
    pruned: Tensor | None = None


Result: TypeAlias = FoldedWeight | Tensor
"""A folded weight, or a dense matrix where the layer is to stay a dense one."""


@dataclass(frozen=True)
class Scheme:
    """check(config, out_features, in_features) raises InputError before any work is done. compress(job): what
    stands for the matrix. prepare(job): what does so in training: a transform of the dense weight that is trained,
    or a folded weight, which needs no converting."""

    config: type[Config]
    check: Callable[[Any, int, int], None]
    compress: Callable[[Job], Result]
    prepare: Callable[[Job], FoldedWeight | Transform]


SCHEMES: dict[type[Config], Scheme] = {}


def register(scheme: Scheme) -> Scheme:
    SCHEMES[scheme.config] = scheme
    return scheme


def scheme_of(config: Config) -> Scheme:
    if type(config) not in SCHEMES:
        known = ", ".join(kind.__name__ for kind in SCHEMES)
        checks.fail("compress", f"config must be one of {known}", type(config).__name__)
    return SCHEMES[type(config)]
