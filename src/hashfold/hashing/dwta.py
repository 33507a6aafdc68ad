"""DWTA: which of a few random coordinates is the largest."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from hashfold import checks
from hashfold.hashing.base import HashFamily
from hashfold.hashing.randomness import mix_at, permutations
from hashfold.kernels.native import core
from hashfold.sparse import Int32


@dataclass(frozen=True)
class Bins:
    """dim features dealt out to bins by random permutations, as csrc/core/hashing.hpp wants them."""

    features: Int32  # (num_hashes, bin_size), ascending in a bin
    places: Int32  # (num_hashes, bin_size): the code of each
    slots: Int32  # (dim, permutations): bin * bin_size + place of a feature in each permutation
    count: int  # bins, of which the first num_hashes are the hashes; all lend their codes to empty ones


@dataclass(frozen=True)
class DensifiedWta(HashFamily):
    """h(x) = the place of the largest nonzero in a random bin of bin_size coordinates.

    Any increasing function of the nonzeros changes nothing; of equal values the lowest feature wins. Bins
    are cut from permutations of the features, dim // bin_size from each. The code of a bin without
    nonzeros is that of another one; bins beyond num_hashes lend theirs too, so that no nonzero is lost.
    A code has log2(bin_size) bits and all of them enter the bucket, of which there are
    bin_size^hashes_per_table. `bin_size` is a power of two, at most dim; 0 chooses min(8, largest that
    fits). Cost: dense bin_size * num_hashes comparisons a row, sparse one for each nonzero and
    permutation, and O(num_hashes log num_hashes) to fill empty bins; memory 4 bytes for each feature and
    permutation. Yagnik et al., "The power of comparative reasoning", ICCV 2011; Chen & Shrivastava,
    "Densified winner take all (WTA) hashing for sparse datasets", UAI 2018.
    """

    name: ClassVar[str] = "dwta"

    bin_size: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dim < 2:
            checks.fail(self.name, "dim must be at least 2 to compare coordinates", self.dim, "use another family")
        if self.bin_size == 0:
            object.__setattr__(self, "bin_size", min(8, 1 << (self.dim.bit_length() - 1)))
        checks.integer(self.name, "bin_size", self.bin_size, low=2, high=self.dim)
        if self.bin_size & (self.bin_size - 1):
            checks.fail(self.name, "bin_size must be a power of two", self.bin_size)
        self._check_bucket_bits("use fewer hashes_per_table or a smaller bin_size")

    @property
    def code_bits(self) -> int:
        return self.bin_size.bit_length() - 1

    @cached_property
    def bins(self) -> Bins:
        size, whole = self.bin_size, self.dim // self.bin_size
        count = -(-self.num_hashes // whole)
        orders, permutation = permutations(self.seed, count, self.dim), np.arange(count)[:, None]
        features = orders[:, : whole * size].reshape(-1, size)
        bin_ids = np.arange(len(features))[:, None]
        slots = np.empty((self.dim, count), np.int32)
        slots[features, bin_ids // whole] = bin_ids * size + np.arange(size)
        # What a permutation has left over is a bin that only lends, from places as random as the others.
        left = orders[:, whole * size :]
        shift = (mix_at(self.seed, 2**32 + permutation) % np.uint64(size)).astype(np.int64)
        slots[left, permutation] = (len(features) + permutation) * size + (np.arange(left.shape[1]) + shift) % size
        own = features[: self.num_hashes]
        return Bins(_int32(np.sort(own, axis=1)), _int32(np.argsort(own, axis=1)), slots, len(features) + count)

    def _hash(self, rows: Any, output: Any) -> None:
        core.dwta(rows, self.bins.features, self.bins.places, self.bins.slots, self.bins.count, output)


def _int32(a: npt.NDArray[np.int64]) -> Int32:
    return np.ascontiguousarray(a, np.int32)
