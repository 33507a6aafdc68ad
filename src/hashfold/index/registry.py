"""The indexes by name."""

from __future__ import annotations

import inspect
from typing import Any

from hashfold import checks
from hashfold.index.base import NeuronIndex
from hashfold.index.clustered import ClusteredIndex
from hashfold.index.exact import ExactIndex
from hashfold.index.lsh import LshIndex
from hashfold.index.rows import RowIndex
from hashfold.index.rows_hashed import MinHashRowIndex, SimHashRowIndex
from hashfold.index.rows_inverted import ExactRowIndex, PrunedRowIndex
from hashfold.index.rows_packed import PackedRowIndex
from hashfold.index.tree import TreeIndex

INDEXES: dict[str, type[NeuronIndex]] = {
    index.name: index for index in (LshIndex, ClusteredIndex, TreeIndex, ExactIndex)
}
ROW_INDEXES: dict[str, type[RowIndex]] = {
    index.name: index
    for index in (ExactRowIndex, PrunedRowIndex, PackedRowIndex, MinHashRowIndex, SimHashRowIndex)
}


def index_options(index: type) -> list[str]:
    """The options that an index class takes, beside its sizes."""
    sizes = ("num_items", "dim", "num_cols", "num_keys")
    return [name for name in inspect.signature(index).parameters if name not in sizes]


def make_index(name: str, num_items: int, dim: int, **options: Any) -> NeuronIndex:
    """The index `name` over `num_items` weight rows of `dim` columns, still to be built.

    `options` are the keyword arguments of its class. Raises InputError for an unknown name or option,
    or a value that the index cannot take.
    """
    index = INDEXES[checks.one_of("make_index", "name", name, INDEXES)]
    _check_options(f"{name} index", index, options)
    return index(num_items, dim, **options)


def make_row_index(name: str, num_cols: int, **options: Any) -> RowIndex:
    """The index `name` over sparse rows of `num_cols` columns, without rows yet.

    `options` and errors as in `make_index`.
    """
    index = ROW_INDEXES[checks.one_of("make_row_index", "name", name, ROW_INDEXES)]
    _check_options(f"{name} rows", index, options)
    return index(num_cols, **options)


def _check_options(op: str, index: type, options: dict[str, Any]) -> None:
    known = index_options(index)
    for option in options:
        if option not in known:
            expected = f"options are {', '.join(known)}" if known else "there are no options"
            checks.fail(op, expected, repr(option))
