"""The hash families by name."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from hashfold import checks
from hashfold.hashing.base import HashFamily
from hashfold.hashing.dwta import DensifiedWta
from hashfold.hashing.minhash import OnePermutationMinHash, WeightedMinHash
from hashfold.hashing.simhash import SimHash, SparseSimHash

FAMILIES: dict[str, type[HashFamily]] = {
    family.name: family
    for family in (SimHash, SparseSimHash, DensifiedWta, WeightedMinHash, OnePermutationMinHash)
}


def make_family(
    name: str, dim: int, num_tables: int, hashes_per_table: int, seed: int = 0, **options: Any
) -> HashFamily:
    """The family `name` with these parameters; `options` are the fields of its class.

    Raises InputError for an unknown name or option, or a value that the family cannot take.
    """
    family = FAMILIES[checks.one_of("make_family", "name", name, FAMILIES)]
    known = [f.name for f in fields(family) if f.name not in HashFamily.__dataclass_fields__]
    for option in options:
        if option not in known:
            checks.fail(name, f"options are {', '.join(known)}" if known else "there are no options", repr(option))
    return family(dim, num_tables, hashes_per_table, seed, **options)
