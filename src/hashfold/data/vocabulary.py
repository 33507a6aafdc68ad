"""Label names and their ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hashfold import checks
from hashfold.sparse import RaggedIds


class LabelVocabulary:
    """The labels of the training data: `names[id]`.

    Names are one line each: runs of white space in them count as one space.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        if len(self._ids) != len(self.names):
            repeated = next(n for i, n in enumerate(self.names) if self._ids[n] != i)
            checks.fail("LabelVocabulary", "label names must be distinct", f"{repeated!r} twice", "rename one")

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    @classmethod
    def fit(cls, rows: Iterable[Iterable[str]]) -> LabelVocabulary:
        """The names that occur, in alphabetical order."""
        return cls(sorted({name for row in rows for name in row}))

    def encode(self, rows: Iterable[Iterable[str]]) -> tuple[RaggedIds, list[str]]:
        """(ids of the rows' names, names by id).

        Names that are not in the vocabulary (labels unseen in training) get ids behind it and extend
        the names that are returned, not the vocabulary: no model predicts them, so metrics count them
        as misses, as the Extreme Classification Repository does.
        """
        ids = dict(self._ids)
        coded = [sorted({ids.setdefault(name, len(ids)) for name in row}) for row in rows]
        indptr = np.zeros(len(coded) + 1, np.int64)
        np.cumsum([len(row) for row in coded], out=indptr[1:])
        flat = np.fromiter((i for row in coded for i in row), np.int32, int(indptr[-1]))
        return RaggedIds(indptr, flat, len(ids)), list(ids)

    def encode_numbers(self, y: RaggedIds, numbers: Sequence[str]) -> tuple[RaggedIds, list[str]]:
        """`encode` for ids whose names are `numbers`."""
        return self.encode([numbers[i] for i in y[row]] for row in range(len(y)))

    @property
    def is_numeric(self) -> bool:
        """Every name is a whole number, as svmlight's classes are."""
        return all(name.lstrip("-").isdecimal() for name in self.names)


def lines_to_bytes(lines: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Lines of text as one array of UTF-8 bytes: how a model folder keeps a vocabulary without pickle."""
    return np.frombuffer("\n".join(lines).encode(), np.uint8)


def bytes_to_lines(op: str, name: str, array: npt.NDArray[Any] | None) -> list[str]:
    """The inverse of `lines_to_bytes`. Raises InputError if `array` is no such array."""
    raw = checks.array(op, name, [] if array is None else array, np.uint8, (None,)).tobytes()
    try:
        return raw.decode().split("\n") if raw else []
    except UnicodeDecodeError:
        checks.fail(op, f"{name} must be UTF-8 text", "other bytes", "the model folder is damaged; train again")
