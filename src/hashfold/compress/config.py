"""What to do with a layer's weights: frozen settings, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hashfold import checks
from hashfold.nn.folded.hashed import DEFAULT_TILE, check_tile, default_layout

SCOPES = ("layer", "global")
WEIGHTINGS = ("none", "fisher", "activation")


@dataclass(frozen=True)
class Config:
    """The root of all configs; what can be done with one is in `registry`."""


@dataclass(frozen=True)
class PruneConfig(Config):
    """The smallest weights become zero (magnitude pruning: Han et al., NeurIPS 2015).

    fraction: of the weights, in [0, 1). scope: "layer" takes it of each weight matrix, "global" of all matrices
    with this config together. The layers stay dense ones; within a `CodebookConfig`, code 0 is zero.

    Prepared, the weights that are pruned stay zero in training. The fraction rises from the first to the last of
    `steps` (steps of `Schedule`) as 1 - (1 - done)^3 (Zhu and Gupta, 2017), every `every` steps; (0, 0): at once.
    """

    fraction: float
    scope: str = "layer"
    steps: tuple[int, int] = (0, 0)
    every: int = 100

    def __post_init__(self) -> None:
        op = "PruneConfig"
        if checks.number(op, "fraction", self.fraction, low=0) >= 1:
            checks.fail(op, "fraction must be below 1", self.fraction)
        checks.one_of(op, "scope", self.scope, SCOPES)
        begin, end = self.steps
        checks.integer(op, "steps[1]", end, low=checks.integer(op, "steps[0]", begin, low=0))
        checks.integer(op, "every", self.every, low=1)

    def fraction_at(self, step: int) -> float:
        """What is pruned after so many steps."""
        begin, end = self.steps
        if step >= end:
            return self.fraction
        done = max(0.0, (step - begin) / (end - begin)) if end > begin else 0.0
        return self.fraction * (1.0 - (1.0 - done) ** 3)


@dataclass(frozen=True)
class HashConfig(Config):
    """Weights share buckets by hashing: see `nn.HashedWeight`.

    ratio: virtual weights to buckets, at least 1, of each weight matrix. tile, blocks: as there; both None:
    by the size of the matrix (`nn.folded.hashed.default_layout`). Each bucket becomes the mean of the weights
    that share it, signs taken off; meant to be trained afterwards, which needs no preparing.
    """

    ratio: float = 8.0
    tile: int | None = None
    sign: bool = True
    blocks: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        op = "HashConfig"
        checks.number(op, "ratio", self.ratio, low=1)
        if self.tile is not None:
            check_tile(op, self.tile)
        if self.blocks is not None:
            checks.integer(op, "blocks", self.blocks, low=1)
        checks.integer(op, "seed", self.seed, low=0, high=2**32 - 1)

    def layout(self, out_features: int, in_features: int) -> tuple[int, int]:
        """The tile and the blocks of a matrix of this shape."""
        if self.tile is None and self.blocks is None:
            return default_layout(int(out_features * in_features / self.ratio), out_features)
        return self.tile or DEFAULT_TILE, self.blocks or 1


@dataclass(frozen=True)
class StraightThrough:
    """Shared values are trained, each by the sum of the gradients of its weights (Han et al., ICLR 2016).

    refresh_steps: 0: each weight keeps its value. n: beside the shared values the weights themselves are trained,
    by the gradients that their values get (straight-through), and every n steps of `Schedule` each takes the
    value that has come nearest. Of 1 bit, 1 is far better than 0 (digits, 64-32-10: 94 % against 85 %), of 2 bits
    they are alike; with batch normalisation take 1 (a ResNet-20 of 2 bits: benchmarks/NOTES.md).
    """

    refresh_steps: int = 0

    def __post_init__(self) -> None:
        checks.integer("StraightThrough", "refresh_steps", self.refresh_steps, low=0)


@dataclass(frozen=True)
class DKM:
    """The weights are trained through soft k-means (differentiable k-means: Cho et al., ICLR 2022).

    temperature: of the softmax over squared distances, in units of the mean squared distance to the nearest value
    when training starts; small is hard. iterations: of soft k-means in each forward pass, which goes on from the
    means of the pass before (1 is as accurate as 3 on digits at 1 and 2 bits). block: weights whose
    attention to all values is held at once; backward computes it again, so that memory is that of the weights and
    one block times 2^bits.
    """

    temperature: float = 1.0
    iterations: int = 1
    block: int = 1 << 16

    def __post_init__(self) -> None:
        checks.number("DKM", "temperature", self.temperature, above=0)
        checks.integer("DKM", "iterations", self.iterations, low=1)
        checks.integer("DKM", "block", self.block, low=1)


@dataclass(frozen=True)
class CodebookConfig(Config):
    """Weights share the values of codebooks: see `nn.CodebookWeight`.

    bits, dim, group_rows, group_cols: as there; a codebook for each weight matrix, or each group of it. weighting:
    "fisher" weighs each weight's error by its mean squared gradient, "activation" by the mean square of its input;
    both need data. prune: first, and code 0 is zero. tuning: how `prepare` makes it trainable. seed: of k-means.
    """

    bits: int = 4
    dim: int = 1
    group_rows: int | None = None
    group_cols: int | None = None
    weighting: str = "none"
    prune: PruneConfig | None = None
    tuning: StraightThrough | DKM = field(default_factory=StraightThrough)
    seed: int = 0

    def __post_init__(self) -> None:
        op = "CodebookConfig"
        checks.integer(op, "bits", self.bits, low=1, high=8)
        checks.integer(op, "dim", self.dim, low=1)
        for name in ("group_rows", "group_cols"):
            value = getattr(self, name)
            if value is not None:
                checks.integer(op, name, value, low=1)
        if self.group_cols is not None and self.group_cols % self.dim:
            checks.fail(op, f"group_cols must be a multiple of dim {self.dim}", self.group_cols)
        checks.one_of(op, "weighting", self.weighting, WEIGHTINGS)
        checks.integer(op, "seed", self.seed, low=0, high=2**32 - 1)
        self._check_parts()

    def _check_parts(self) -> None:
        op = "CodebookConfig"
        if self.prune is not None and not isinstance(self.prune, PruneConfig):
            checks.fail(op, "prune must be a PruneConfig or None", repr(self.prune))
        if self.prune is not None and self.dim > 1:
            checks.fail(op, "dim must be 1 with prune", self.dim, "a vector is seldom zero as a whole")
        if not isinstance(self.tuning, (StraightThrough, DKM)):
            checks.fail(op, "tuning must be StraightThrough or DKM", repr(self.tuning))

    @property
    def groups(self) -> dict[str, Any]:
        return {"dim": self.dim, "group_rows": self.group_rows, "group_cols": self.group_cols}
