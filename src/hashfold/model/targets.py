"""The labels as a user writes them, as ids, and back."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NoReturn, cast

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from hashfold import checks
from hashfold.sparse import RaggedIds

Kind = Literal["classes", "lists", "indicator"]
KINDS: tuple[Kind, ...] = ("classes", "lists", "indicator")
_NAME_TYPES: dict[str, type] = {"str": str, "int": int, "float": float}


@dataclass(frozen=True)
class Targets:
    """What the labels looked like when they were learned.

    `kind`: "classes", one label a row (a 1-D array); "lists", any number of labels a row; "indicator", a
    matrix (rows, labels) whose nonzero entries say which labels a row has. `names` are the labels by id:
    numbers or strings, all of one type, ascending (those added later come behind); None: an indicator's
    columns, known by their number.
    """

    kind: Kind
    num_labels: int
    names: tuple[Any, ...] | None = None
    _ids: dict[Any, int] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def fit(cls, labels: Any, op: str = "fit") -> tuple[Targets, RaggedIds]:
        """Learns the labels that occur. Raises InputError: mixed or unusable labels, NaN."""
        kind, rows = _rows(labels, op)
        if kind == "indicator":
            ids = RaggedIds.from_scipy(rows, op)
            return cls(kind, ids.num_ids), ids
        values = list(dict.fromkeys(value for row in rows for value in row))
        _check_one_type(op, values)
        names = tuple(sorted(values))
        targets = cls(kind, len(names), names)
        return targets, targets.transform(labels, op)

    def transform(self, labels: Any, op: str = "score") -> RaggedIds:
        """Ids of labels of the same kind. Labels never learned get ids from `num_labels` on: always misses."""
        kind, rows = _rows(labels, op)
        if kind == "indicator":
            if self.kind != "indicator":
                checks.fail(op, f"Y must hold labels, as in training ({self.kind})", "a matrix")
            return RaggedIds.from_scipy(rows, op)
        known = dict(self._lookup())
        ids = [[known.setdefault(value, len(known)) for value in row] for row in rows]
        return RaggedIds.from_lists(ids, max(len(known), self.num_labels), op)

    def extend(self, labels: Any, op: str = "add") -> tuple[Targets, RaggedIds]:
        """Learns labels of the same kind that may be new, and their ids: new ones come behind those known.

        Raises InputError: several labels a row where training had one; another type; negative ids.
        """
        if labels is None:
            checks.fail(op, "labels must be given", "None")
        kind, rows = _rows(labels, op)
        if kind == "indicator" or self.kind == "indicator":
            return self.grown(self.transform(labels, op) if kind == self.kind else _mixed(op, self.kind, kind))
        if self.names is None:
            return self.grown(_numbers(rows, op))
        known = set(self.names)
        new = list(dict.fromkeys(value for row in rows for value in row if value not in known))
        _check_one_type(op, [*self.names[:1], *new])
        return self.grown(self.transform(labels, op), [*self.names, *new])

    def grown(
        self, y: RaggedIds, names: Sequence[Any] | None = None, op: str = "add"
    ) -> tuple[Targets, RaggedIds]:
        """(with the labels of y, y): ids from `num_labels` on are new labels; `names` of all of them, by id."""
        if self.kind == "classes" and y.counts.max(initial=0) > 1:
            checks.fail(op, "rows must have one label, as in training", int(y.counts.max()))
        number = max(self.num_labels, y.num_ids)
        y = RaggedIds(y.indptr, y.ids, number)
        if self.names is None:
            return replace(self, num_labels=number, _ids={}), y
        if number > len(names or self.names):
            checks.fail(op, f"there must be {number} label names", len(names or self.names))
        convert = type(self.names[0]) if self.names else str
        new = [] if names is None else names[self.num_labels : number]
        try:
            added = tuple(convert(name) for name in new)
        except ValueError as error:
            checks.fail(op, f"labels must be of type {convert.__name__}, as in training", str(error))
        return replace(self, num_labels=number, names=(*self.names, *added), _ids={}), y

    def label(self, label_id: int) -> Any:
        """The label with this id; None for -1 (no further prediction)."""
        if label_id < 0:
            return None
        return label_id if self.names is None else self.names[label_id]

    def labels(self, ids: npt.NDArray[np.int32]) -> npt.NDArray[Any]:
        """The labels of an array of ids, in the type that they were given in; `None` for -1."""
        if self.names is None:
            return ids
        table = np.asarray(self.names) if not (ids < 0).any() else np.array([*self.names, None], object)
        return table[ids]

    def text_names(self) -> list[str] | None:
        """The names as lines of a file."""
        return None if self.names is None else [str(name) for name in self.names]

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` needs beside the lines of `text_names`. JSON-able."""
        first = type(self.names[0]) if self.names else str
        name_type = next(name for name, known in _NAME_TYPES.items() if known is first)
        return {"kind": self.kind, "num_labels": self.num_labels, "name_type": name_type}

    @classmethod
    def from_dict(cls, config: dict[str, Any], text_names: Sequence[str] | None) -> Targets:
        kind = checks.one_of("Targets", "kind", str(config.get("kind")), KINDS)
        number = checks.integer("Targets", "num_labels", config.get("num_labels"), low=0)
        convert = _NAME_TYPES[checks.one_of("Targets", "name_type", str(config.get("name_type")), _NAME_TYPES)]
        names = None if text_names is None else tuple(convert(name) for name in text_names)
        if names is not None and len(names) != number:
            checks.fail("Targets", f"there must be {number} label names", len(names))
        return cls(cast(Kind, kind), number, names)

    def _lookup(self) -> dict[Any, int]:
        if not self._ids:
            self._ids.update((name, i) for i, name in enumerate(self.names or range(self.num_labels)))
        return self._ids


def _rows(labels: Any, op: str) -> tuple[Kind, Any]:
    """What kind of labels these are, and one tuple of labels a row (or the indicator matrix)."""
    if sp.issparse(labels):
        return "indicator", labels
    if isinstance(labels, str):
        checks.fail(op, "Y must hold one entry a row", "one string")
    array = labels if isinstance(labels, np.ndarray) else getattr(labels, "to_numpy", lambda: None)()
    if array is not None and array.ndim == 2:
        return "indicator", _indicator(array, op)
    rows = [_plain(row) for row in (array if array is not None else labels)]
    multiple = [isinstance(row, (list, tuple, set, frozenset)) for row in rows]
    if all(multiple) and rows:
        return "lists", [tuple(_plain(value) for value in row) for row in rows]
    if any(multiple):
        at = multiple.index(not multiple[0])
        checks.fail(op, "Y must have one label in every row or a list in every row", f"both (row {at})")
    return "classes", [(row,) for row in rows]


def _mixed(op: str, known: Kind, came: Kind) -> NoReturn:
    checks.fail(op, f"labels must be given as in training ({known})", came)


def _numbers(rows: Sequence[Sequence[Any]], op: str) -> RaggedIds:
    """Rows of labels that are their own ids."""
    if wrong := next((v for row in rows for v in row if type(v) is not int), None):
        checks.fail(op, "labels must be whole numbers, as in training", repr(wrong))
    return RaggedIds.from_lists(rows, op=op)


def _plain(value: Any) -> Any:
    """NumPy scalars and arrays as Python's own."""
    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else value


def _indicator(array: npt.NDArray[Any], op: str) -> npt.NDArray[Any]:
    if not np.isin(array, (0, 1)).all():
        checks.fail(op, "Y as a matrix must hold zeros and ones", array[~np.isin(array, (0, 1))][0])
    return array


def _check_one_type(op: str, values: Iterable[Hashable]) -> None:
    types = {type(value) for value in values}
    if len(types) > 1 or (types and next(iter(types)) not in _NAME_TYPES.values()):
        found = ", ".join(sorted(t.__name__ for t in types))
        checks.fail(op, "labels must be all strings or all numbers", found, "convert them, e.g. with str()")
    if types == {float} and any(value != value for value in values):
        checks.fail(op, "labels must be known for every row", "NaN", "drop these rows")
