"""Texts as bags of words."""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from hashfold import checks
from hashfold.data.vocabulary import bytes_to_lines, lines_to_bytes
from hashfold.sparse import CsrBatch

_WORD = re.compile(r"\w+")
_MARKS = re.compile("[\u0300-\u036f]+")  # combining accents, as NFKD leaves them


@dataclass(frozen=True)
class TextVectorizer:
    """Counts of known words: x[row, f] = how often word f occurs in text `row`.

    Words are runs of letters, digits and underscores (`\\w+`), in lower case if `lowercase`; with
    `nfkd`, compatibility forms are unfolded and accents dropped ("ﬁancé" -> "fiance"). Words unknown
    to `vocabulary` are dropped. Weighting is `TfIdf`'s business.
    """

    vocabulary: list[str] = field(default_factory=list)
    lowercase: bool = True
    nfkd: bool = False

    @classmethod
    def fit(
        cls,
        texts: Iterable[str],
        *,
        min_df: int = 1,
        max_features: int | None = None,
        lowercase: bool = True,
        nfkd: bool = False,
    ) -> TextVectorizer:
        """Learns the words of the training texts: see `fit_transform`."""
        options = {"lowercase": lowercase, "nfkd": nfkd}
        return cls.fit_transform(texts, min_df=min_df, max_features=max_features, **options)[0]

    @classmethod
    def fit_transform(
        cls,
        texts: Iterable[str],
        *,
        min_df: int = 1,
        max_features: int | None = None,
        lowercase: bool = True,
        nfkd: bool = False,
    ) -> tuple[TextVectorizer, CsrBatch]:
        """(vectorizer, counts of the training texts), reading the texts once.

        Args:
            texts: one string a row; may be a generator.
            min_df: words in fewer texts are dropped.
            max_features: at most so many words, those in most texts (ties: alphabetical order).

        Raises:
            InputError: a text is not a string, or no word is left.

        Cost: about 10 million words a second.
        """
        min_df = checks.integer("TextVectorizer", "min_df", min_df, low=1)
        if max_features is not None:
            checks.integer("TextVectorizer", "max_features", max_features, low=1)
        draft = cls([], lowercase, nfkd)
        index: defaultdict[str, int] = defaultdict(lambda: len(index))
        indptr, ids, counts = draft._count(texts, index)
        words = np.array(list(index), dtype=object)
        kept = _most_frequent(words, np.bincount(ids, minlength=len(words)), min_df, max_features)
        if not kept.size:
            rows = len(indptr) - 1
            checks.fail(
                "TextVectorizer",
                f"some word must occur in at least {min_df} of the {rows} texts",
                "none",
                "lower min_df or check the text columns",
            )
        column = np.full(len(words), -1, np.int32)
        column[kept] = np.arange(len(kept), dtype=np.int32)
        return cls([str(w) for w in words[kept]], lowercase, nfkd), _csr(indptr, column[ids], counts, len(kept))

    @property
    def num_features(self) -> int:
        return len(self.vocabulary)

    def transform(self, texts: Iterable[str]) -> CsrBatch:
        """Counts (float32) of the known words, a row for each text."""
        return _csr(*self._count(texts, self._index), self.num_features)

    def feature_name(self, feature: int) -> str:
        """The word that it counts."""
        return self.vocabulary[feature]

    def words(self, text: str) -> list[str]:
        """The words of one text, in order."""
        if self.nfkd and not text.isascii():
            text = _MARKS.sub("", unicodedata.normalize("NFKD", text))
        return _WORD.findall(text.lower() if self.lowercase else text)

    def to_state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """(JSON-able config, arrays): what a model folder keeps."""
        config = {"kind": "text", "lowercase": self.lowercase, "nfkd": self.nfkd}
        return config, {"vocabulary": lines_to_bytes(self.vocabulary)}

    @classmethod
    def from_state(cls, config: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> TextVectorizer:
        words = bytes_to_lines("TextVectorizer", "vocabulary", arrays.get("vocabulary"))
        if len(set(words)) != len(words):
            checks.fail("TextVectorizer", "the vocabulary's words must be distinct", "repeats", "train again")
        return cls(words, bool(config.get("lowercase", True)), bool(config.get("nfkd", False)))

    @cached_property
    def _index(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.vocabulary)}

    def _count(
        self, texts: Iterable[str], index: dict[str, int]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Row ends, word ids (unordered) and counts. A defaultdict takes new words up, a dict drops them."""
        grows = isinstance(index, defaultdict)
        ends, ids, counts = array("q", [0]), array("i"), array("f")
        for text in _strings(texts):
            found = Counter(self.words(text))
            if not grows:
                found = Counter({w: n for w, n in found.items() if w in index})
            ids.extend([index[w] for w in found])
            counts.extend(found.values())
            ends.append(len(ids))
        return np.array(ends, np.int64), np.array(ids, np.int32), np.array(counts, np.float32)


def _strings(texts: Iterable[str]) -> Iterator[str]:
    if isinstance(texts, str):
        checks.fail("TextVectorizer", "texts must be a sequence of strings", "one string", "put it in a list")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            checks.fail("TextVectorizer", "every text must be a string", f"{type(text).__name__} in row {row}")
        yield text


def _most_frequent(
    words: npt.NDArray[Any], df: npt.NDArray[np.int64], min_df: int, max_features: int | None
) -> npt.NDArray[np.int64]:
    """Positions of the words to keep, in alphabetical order of the words."""
    kept = np.flatnonzero(df >= min_df)
    kept = kept[np.argsort(words[kept])]
    if max_features is not None and len(kept) > max_features:
        kept = kept[np.sort(np.argsort(-df[kept], kind="stable")[:max_features])]
    return kept


def _csr(
    indptr: npt.NDArray[np.int64], ids: npt.NDArray[np.int32], counts: npt.NDArray[np.float32], width: int
) -> CsrBatch:
    """A batch from unordered entries; those with id -1 are dropped."""
    known = ids >= 0
    before = np.concatenate([[0], np.cumsum(known)])
    matrix = sp.csr_array((counts[known], ids[known], before[indptr]), shape=(len(indptr) - 1, width))
    matrix.sort_indices()
    return CsrBatch(
        np.asarray(matrix.indptr, np.int64),
        np.asarray(matrix.indices, np.int32),
        np.asarray(matrix.data, np.float32),
        width,
    )
