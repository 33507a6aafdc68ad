"""Hash families: similar rows get equal codes more often than others.

family = make_family("simhash", dim=128, num_tables=16, hashes_per_table=9, seed=0)
family.buckets(x)                  # int32 (rows, num_tables)
theory.collision_probability(...)  # how often two rows should agree
"""

from hashfold.hashing import theory
from hashfold.hashing.base import HashFamily
from hashfold.hashing.registry import FAMILIES, make_family

__all__ = ["FAMILIES", "HashFamily", "make_family", "theory"]
