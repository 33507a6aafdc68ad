"""Vectorizers out of a model folder."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from hashfold import checks
from hashfold.data.code import CodeVectorizer
from hashfold.data.text import TextVectorizer

VECTORIZERS: dict[str, type[TextVectorizer] | type[CodeVectorizer]] = {
    "text": TextVectorizer,
    "code": CodeVectorizer,
}


def vectorizer_from_state(
    config: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]
) -> TextVectorizer | CodeVectorizer:
    """The vectorizer whose `to_state` gave these. Raises InputError if none did."""
    kind = checks.one_of("vectorizer_from_state", "kind", str(config.get("kind")), VECTORIZERS)
    return VECTORIZERS[kind].from_state(config, arrays)
