"""Trees of Python source as one stream of tokens."""

from __future__ import annotations

import sysconfig
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hashfold import checks
from hashfold.data.code_tokens import NAME, Interner

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

_PACKAGES = ("site-packages", "dist-packages")


@dataclass(frozen=True)
class SourceFile:
    path: Path
    key: str  # its path from its root on: the same on every machine


@dataclass(frozen=True)
class Corpus:
    """The tokens of many files, end to end: `interner.texts[tokens[i]]`."""

    interner: Interner
    tokens: Int32
    starts: Int64  # of each token's file
    in_test: npt.NDArray[np.bool_]  # of each token
    files: int
    skipped: int

    def examples(self, test: bool) -> Int64:
        """Where the identifiers of one part stand."""
        names = np.array(self.interner.kinds, np.uint8)[self.tokens] == NAME
        return np.flatnonzero(names & (self.in_test == test))

    def contexts(self, at: Int64, window: int) -> Int32:
        """The tokens before each place, nearest first: (places, window); the start token (0) before a file."""
        out = np.zeros((len(at), window), np.int32)
        for j in range(window):
            before = at - j - 1
            out[:, j] = np.where(before >= self.starts[at], self.tokens[before], 0)
        return out


def find_files(roots: Sequence[Any] | None, installed: bool) -> list[SourceFile]:
    """The .py files below the roots, in the order of their keys.

    Raises:
        InputError: a root does not exist, or no file is found.
    """
    if roots is None:
        found = [*_below(Path(sysconfig.get_path("stdlib")), skip=_PACKAGES)]
        if installed:
            libs = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
            found += [file for lib in libs for file in _below(lib)]
    else:
        if isinstance(roots, (str, Path)):
            checks.fail("python_source", "roots must be a list of paths", repr(roots), "put it in a list")
        found = [file for root in roots for file in _below(_existing(root))]
    if not found:
        where = ", ".join(map(str, roots or ["the standard library"]))
        checks.fail("python_source", "the roots must hold .py files", f"none below {where}", "name other roots")
    return sorted(found, key=lambda file: (file.key, str(file.path)))


def read_corpus(files: Sequence[SourceFile], test_fraction: float) -> Corpus:
    """The tokens of the files. Skipped, and counted: files that cannot be read, and repeats of others."""
    interner, streams, tests, seen = Interner(), [], [], set()
    for file in files:
        try:
            with tokenize.open(file.path) as opened:  # heeds the encoding that the file declares
                text = opened.read()
        except (OSError, SyntaxError, UnicodeDecodeError):
            continue
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if digest in seen:
            continue
        seen.add(digest)
        streams.append(interner.encode(text))
        tests.append(_in_test(file.key, test_fraction))
    if not streams:
        checks.fail("python_source", "some file must be readable Python source", "none", "name other roots")
    lengths = np.array([len(s) for s in streams], np.int64)
    first = np.cumsum(lengths) - lengths
    return Corpus(
        interner,
        np.concatenate(streams),
        np.repeat(first, lengths),
        np.repeat(np.array(tests), lengths),
        len(streams),
        len(files) - len(streams),
    )


def _existing(root: Any) -> Path:
    if not isinstance(root, (str, Path)):
        checks.fail("python_source", "a root must be a path", type(root).__name__, "save the source to a file")
    path = Path(root)
    if not path.exists():
        checks.fail("python_source", "a root must exist", str(root), "check the path")
    return path


def _below(root: Path, skip: Sequence[str] = ()) -> Iterator[SourceFile]:
    if root.is_file():
        yield SourceFile(root, root.name)
        return
    for path in root.rglob("*.py"):
        relative = path.relative_to(root)
        if path.is_file() and not (skip and set(skip) & set(relative.parts)):
            yield SourceFile(path, relative.as_posix())


def _in_test(key: str, fraction: float) -> bool:
    return int.from_bytes(blake2b(key.encode("utf-8", "surrogatepass"), digest_size=6).digest()) < fraction * 2**48
