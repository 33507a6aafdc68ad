"""Completing code: from the tokens before an identifier to the identifier.

Real extreme classification that is on every machine with Python: the standard library has some
hundred thousand names, installed packages several times as many.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hashfold import checks
from hashfold.data.code_files import Corpus, find_files, read_corpus
from hashfold.data.code_tokens import START, UNKNOWN, Interner, typed
from hashfold.data.dataset import Dataset
from hashfold.data.streams import Source
from hashfold.data.vocabulary import LabelVocabulary, bytes_to_lines, lines_to_bytes
from hashfold.sparse import MAX_IDS, CsrBatch, RaggedIds

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

ROWS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class CodeVectorizer:
    """The `window` tokens before a place in a Python text as counts of features.

    Features, V known tokens: each of the window's tokens wherever it stands (V); the nearest
    `positions` tokens by place (V each); the nearest two as a pair, hashed to `bigram_buckets`.
    """

    tokens: list[str] = field(default_factory=lambda: [UNKNOWN, START])
    window: int = 10
    positions: int = 4
    bigram_buckets: int = 1 << 16

    def __post_init__(self) -> None:
        checks.integer("CodeVectorizer", "num_features", self.num_features, high=MAX_IDS)

    @property
    def num_features(self) -> int:
        return len(self.tokens) * (1 + self.positions) + self.bigram_buckets

    def encode_context(self, source_prefix: str) -> CsrBatch:
        """One row: the context at the end of `source_prefix`. A word that it ends in is still being typed
        (`hashfold.data.typed`) and no part of the context."""
        return self.transform([source_prefix])

    def transform(self, texts: Iterable[str]) -> CsrBatch:
        """A row for each text: the context at its end."""
        interner, rows = Interner(), []
        for text in texts:
            ids = interner.encode(text[: len(text) - len(typed(text))])[-self.window :]
            rows.append(np.concatenate([np.zeros(self.window - len(ids), np.int32), ids])[::-1])
        contexts = np.stack(rows) if rows else np.zeros((0, self.window), np.int32)
        return self.features([self.known(interner)[contexts]])

    def feature_name(self, feature: int) -> str:
        """What it counts: a token of the window, one at a place (-1: the nearest), or pairs of tokens."""
        place, token = divmod(feature, len(self.tokens))
        if place > self.positions:
            return f"pairs in bucket {feature - len(self.tokens) * (1 + self.positions)}"
        return self.tokens[token] + (f" at -{place}" if place else "")

    def known(self, interner: Interner) -> Int32:
        """This vectorizer's token of each of the interner's."""
        return np.array([self._index.get(text, 0) for text in interner.texts], np.int32)

    def features(self, contexts: Iterable[Int32]) -> CsrBatch:
        """Counts of features for parts of a whole: each this vectorizer's tokens (rows, window), nearest first."""
        parts = [self._features(part) for part in contexts]
        lengths, indices, values = (np.concatenate(part) for part in zip(*parts, strict=True))
        indptr = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=indptr[1:])
        return CsrBatch(indptr, indices, values, self.num_features)

    def to_state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """(JSON-able config, arrays): what a model folder keeps."""
        config = {"kind": "code", "window": self.window, "positions": self.positions}
        return config | {"bigram_buckets": self.bigram_buckets}, {"vocabulary": lines_to_bytes(self.tokens)}

    @classmethod
    def from_state(cls, config: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> CodeVectorizer:
        op = "CodeVectorizer"
        tokens = bytes_to_lines(op, "vocabulary", arrays.get("vocabulary"))
        if tokens[:2] != [UNKNOWN, START] or len(set(tokens)) != len(tokens):
            checks.fail(op, f"the vocabulary must be distinct tokens from {UNKNOWN}, {START} on", tokens[:2])
        window = checks.integer(op, "window", config.get("window"), low=1, high=1024)
        return cls(
            tokens,
            window,
            checks.integer(op, "positions", config.get("positions"), low=0, high=window),
            checks.integer(op, "bigram_buckets", config.get("bigram_buckets"), low=0, high=MAX_IDS // 2),
        )

    @cached_property
    def _index(self) -> dict[str, int]:
        return {token: i for i, token in enumerate(self.tokens)}

    def _features(self, contexts: Int32) -> tuple[Int64, Int32, npt.NDArray[np.float32]]:
        size = len(self.tokens)
        columns: list[npt.NDArray[Any]] = [
            contexts,
            *(contexts[:, j] + size * (j + 1) for j in range(self.positions)),
        ]
        if self.bigram_buckets and self.window > 1:
            columns.append(self._bigrams(contexts[:, 0], contexts[:, 1]) + size * (1 + self.positions))
        matrix = np.column_stack(columns).astype(np.int32)
        matrix.sort(axis=1)
        first = np.ones(matrix.shape, bool)
        first[:, 1:] = matrix[:, 1:] != matrix[:, :-1]
        counts = np.diff(np.flatnonzero(np.append(first.ravel(), True)))
        return first.sum(1), matrix[first], counts.astype(np.float32)

    def _bigrams(self, nearest: Int32, second: Int32) -> Int64:
        key = nearest.astype(np.uint64) << np.uint64(32) | second.astype(np.uint64)
        key = (key ^ (key >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        key = (key ^ (key >> np.uint64(32))) * np.uint64(0x94D049BB133111EB)
        return ((key ^ (key >> np.uint64(31))) % np.uint64(self.bigram_buckets)).astype(np.int64)


@dataclass(frozen=True)
class PythonTask:
    """A next-identifier task. `train` and `test` come from different files.

    `test` has every example of its files: names unseen in training extend its labels, as misses.
    """

    train: Dataset
    test: Dataset
    vectorizer: CodeVectorizer
    files: int
    skipped_files: int  # unreadable, not in their encoding, or the same as another
    rare_examples: int  # training examples dropped because their name is rarer than min_label_count

    def encode_context(self, source_prefix: str) -> CsrBatch:
        """The context at the end of a text, as one row for the trained model."""
        return self.vectorizer.encode_context(source_prefix)


def python_source(
    roots: Sequence[Any] | None = None,
    *,
    installed: bool = False,
    window: int = 10,
    positions: int = 4,
    bigram_buckets: int = 1 << 16,
    max_tokens: int = 30_000,
    min_token_count: int = 5,
    min_label_count: int = 2,
    max_examples: int | None = None,
    test_fraction: float = 0.1,
    seed: int = 0,
) -> PythonTask:
    """Turns Python source into a task: the preceding tokens -> the identifier (any name but keywords).

    A file is in the test part by the hash of its path, so nothing of a test file is seen in training;
    of files with the same content one is used.

    Args:
        roots: directories or files; None: the interpreter's standard library.
        installed: with the installed packages, if `roots` is None.
        window, positions, bigram_buckets: see `CodeVectorizer`.
        max_tokens, min_token_count: the context knows at most so many tokens, the most frequent of those
            that occur so often in the training files; all others are one unknown token.
        min_label_count: names with fewer training examples are no classes; their training examples are
            dropped and counted.
        max_examples: at most so many training examples (and test examples in proportion), drawn by `seed`.
        test_fraction: share of the files.

    Raises:
        InputError: a root does not exist or holds no Python source, or nothing is left to learn.

    Cost: about 10 microseconds and 150 bytes an example, on one core.
    """
    op = "python_source"
    fraction = checks.number(op, "test_fraction", test_fraction, low=0.0, high=1.0)
    minimum = checks.integer(op, "min_label_count", min_label_count, low=1)
    checks.integer(op, "max_tokens", max_tokens, low=1)
    checks.integer(op, "window", window, low=1, high=1024)
    checks.integer(op, "positions", positions, low=0, high=window)
    checks.integer(op, "bigram_buckets", bigram_buckets, low=0, high=MAX_IDS // 2)
    corpus = read_corpus(find_files(roots, installed), fraction)
    rng = np.random.default_rng(seed)
    at, test_at = corpus.examples(test=False), corpus.examples(test=True)
    if max_examples is not None:
        limit = checks.integer(op, "max_examples", max_examples, low=1)
        at, share = _some(at, limit, rng), limit / max(1, len(at))
        test_at = _some(test_at, max(1, round(share * len(test_at))), rng)
    counts = np.bincount(corpus.tokens[at], minlength=len(corpus.interner.texts))
    kept = at[counts[corpus.tokens[at]] >= minimum]
    if not len(kept):
        checks.fail(op, f"some name must occur {minimum} times in the training files", "none", "give more files")
    tokens = _frequent(corpus, min_token_count, max_tokens)
    vectorizer = CodeVectorizer(tokens, window, positions, bigram_buckets)
    labels = LabelVocabulary(sorted(corpus.interner.names(np.unique(corpus.tokens[kept]))))
    train = _dataset(corpus, kept, vectorizer, labels)
    test = _dataset(corpus, test_at, vectorizer, labels)
    return PythonTask(train, test, vectorizer, corpus.files, corpus.skipped, len(at) - len(kept))


def read_python(
    source: Source, *, vectorizer: CodeVectorizer | None = None, label_vocabulary: LabelVocabulary | None = None
) -> Dataset:
    """Every identifier of a tree (or file) of Python source as an example: see `read`."""
    corpus = read_corpus(find_files([source], False), 0.0)
    at = corpus.examples(test=False)
    if vectorizer is None:
        vectorizer = CodeVectorizer(_frequent(corpus, 1, 30_000))
    if label_vocabulary is None:
        label_vocabulary = LabelVocabulary(sorted(corpus.interner.names(np.unique(corpus.tokens[at]))))
    return _dataset(corpus, at, vectorizer, label_vocabulary)


def _some(at: Int64, limit: int, rng: np.random.Generator) -> Int64:
    return at if len(at) <= limit else np.sort(rng.choice(at, limit, replace=False))


def _frequent(corpus: Corpus, minimum: int, limit: int) -> list[str]:
    """The context's tokens: most frequent in the training files first, ties in alphabetical order."""
    texts = corpus.interner.texts
    counts = np.bincount(corpus.tokens[~corpus.in_test], minlength=len(texts))
    known = sorted(np.flatnonzero(counts >= minimum), key=lambda i: (-counts[i], texts[i]))[:limit]
    return [UNKNOWN, START, *(texts[i] for i in known)]


def _dataset(corpus: Corpus, at: Int64, vectorizer: CodeVectorizer, labels: LabelVocabulary) -> Dataset:
    known = vectorizer.known(corpus.interner)
    parts = (at[i : i + ROWS_AT_ONCE] for i in range(0, max(1, len(at)), ROWS_AT_ONCE))
    x = vectorizer.features(known[corpus.contexts(part, vectorizer.window)] for part in parts)
    used, which = np.unique(corpus.tokens[at], return_inverse=True)
    coded, names = labels.encode([name] for name in corpus.interner.names(used))
    ids = coded.ids[which]
    y = RaggedIds(np.arange(len(at) + 1, dtype=np.int64), ids, len(names))
    return Dataset(x, y, names, None, vectorizer)
