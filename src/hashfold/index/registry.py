"""The indexes by name."""

from __future__ import annotations

import inspect
from typing import Any

from hashfold import checks
from hashfold.index.base import NeuronIndex
from hashfold.index.clustered import ClusteredIndex
from hashfold.index.exact import ExactIndex
from hashfold.index.lsh import LshIndex

INDEXES: dict[str, type[NeuronIndex]] = {index.name: index for index in (LshIndex, ClusteredIndex, ExactIndex)}


def make_index(name: str, num_items: int, dim: int, **options: Any) -> NeuronIndex:
    """The index `name` over `num_items` weight rows of `dim` columns, still to be built.

    `options` are the keyword arguments of its class. Raises InputError for an unknown name or option,
    or a value that the index cannot take.
    """
    index = INDEXES[checks.one_of("make_index", "name", name, INDEXES)]
    known = [n for n in inspect.signature(index).parameters if n not in ("num_items", "dim")]
    for option in options:
        if option not in known:
            expected = f"options are {', '.join(known)}" if known else "there are no options"
            checks.fail(f"{name} index", expected, repr(option))
    return index(num_items, dim, **options)
