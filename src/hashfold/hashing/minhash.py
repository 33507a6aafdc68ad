"""MinHash: a sample that two similar sets, or weighted sets, draw alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from hashfold import checks
from hashfold.hashing.base import MAX_BUCKET_BITS, HashFamily
from hashfold.kernels.native import core


@dataclass(frozen=True)
class _Mixed(HashFamily):
    """Codes that name a sample, 31 bits each; all those of a table are mixed down to `bucket_bits` bits.

    Rows that agree in no code still share a bucket by chance, 1 in 2^bucket_bits.
    """

    bucket_bits: int = 14

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.integer(self.name, "bucket_bits", self.bucket_bits, low=1, high=MAX_BUCKET_BITS)

    @property
    def code_bits(self) -> int:
        return 0


@dataclass(frozen=True)
class WeightedMinHash(_Mixed):
    """Consistent weighted samples: P[h(x) = h(y)] = sum min(x, y) / sum max(x, y), for values >= 0.

    The code names the sampled feature and its quantised weight (t of the paper); 2^-31 of the different
    samples share a code. Rows without nonzeros agree with each other. Cost: three logarithms and a
    division for each nonzero and hash, vectorised; no tables. Ioffe, "Improved consistent sampling,
    weighted minhash and L1 sketching", ICDM 2010.
    """

    name: ClassVar[str] = "minhash"
    refuse_negative: ClassVar[bool] = True

    def _hash(self, rows: Any, output: Any) -> None:
        core.minhash(rows, output)


@dataclass(frozen=True)
class OnePermutationMinHash(_Mixed):
    """MinHash of the set of nonzeros in one pass: P[h(x) = h(y)] = |X and Y| / |X or Y|.

    Each nonzero falls in one of num_hashes bins; the last of a bin, in a random order, is its code; an
    empty bin takes the code of a full one. Values do not matter. With fewer nonzeros than hashes many
    codes are copies, so tables agree or disagree together. Rows without nonzeros agree with each other.
    Cost: one mix a nonzero and O(num_hashes log num_hashes) to fill empty bins; no tables. Shrivastava &
    Li, "Densifying one permutation hashing via rotation for fast near neighbor search", ICML 2014;
    Shrivastava, "Optimal densification for fast and accurate minwise hashing", ICML 2017; Mai et al., "On
    densification for minwise hashing", UAI 2019 (the filling used here).
    """

    name: ClassVar[str] = "doph"

    def _hash(self, rows: Any, output: Any) -> None:
        core.doph(rows, output)
