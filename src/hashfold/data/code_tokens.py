"""Python source as tokens, many times as fast as the tokenize module.

On well-formed source the tokens are those of `tokenize`: names, keywords, operators, and the newlines
that end statements; every string is `<str>`, every number `<num>`; comments, indentation and other
newlines are left out. On anything else (a file cut off, other languages) tokens come out all the same.
"""

from __future__ import annotations

import keyword
import re
from array import array
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

UNKNOWN, START, NEWLINE, STRING, NUMBER = "<unk>", "<start>", "<newline>", "<str>", "<num>"

# Strings (an unclosed one ends with the line or, with three quotes, with the text), comments, joined lines.
_OPAQUE = re.compile(
    r'''(?:\b(?:[rR][bBfFtT]?|[bBfFtT][rR]?|[uU]))?(?:
        """[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*(?:"""|\Z)
        | \'\'\'[^\'\\]*(?:(?:\\.|\'(?!\'\'))[^\'\\]*)*(?:\'\'\'|\Z)
        | "[^"\\\n]*(?:\\.[^"\\\n]*)*"? | \'[^\'\\\n]*(?:\\.[^\'\\\n]*)*\'? )
    | \#[^\n]* | \\\n''',
    re.VERBOSE | re.DOTALL,
)
_TOKEN = re.compile(
    r"""[^\W\d]\w*
    | 0[xX](?:_?[0-9a-fA-F])+ | 0[bB](?:_?[01])+ | 0[oO](?:_?[0-7])+
    | (?:\d(?:_?\d)*\.?(?:\d(?:_?\d)*)?|\.\d(?:_?\d)*)(?:[eE][+-]?\d(?:_?\d)*)?[jJ]?
    | \n | " | \.\.\. | -> | := | != | (?:\*\*|//|>>|<<|[-+*/%&|^@=<>])=? | [()\[\]{}.,:;~!]""",
    re.VERBOSE,
)
_KEYWORDS = frozenset(keyword.kwlist)
OTHER, NAME, BREAK, OPEN, CLOSE = range(5)


class Interner(dict[str, int]):
    """Ids of tokens in order of appearance: `texts[id]`, and `kinds[id]` (OTHER, NAME, BREAK, OPEN, CLOSE)."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.kinds: list[int] = []
        self._start = self[START]

    def __missing__(self, token: str) -> int:
        text, kind = _described(token)
        if text != token:
            self[token] = self[text]
            return self[text]
        self[token] = len(self.texts)
        self.texts.append(text)
        self.kinds.append(kind)
        return self[token]

    def encode(self, source: str) -> npt.NDArray[np.int32]:
        """The token ids of one text."""
        found = array("i", map(self.__getitem__, raw_tokens(source)))
        ids = np.array(found, np.int32)
        return ids[_significant(np.array(self.kinds, np.uint8)[ids])]

    def names(self, ids: Iterable[int]) -> list[str]:
        return [self.texts[i] for i in ids]


def raw_tokens(source: str) -> list[str]:
    """All tokens: strings as `"`, every newline."""
    return _TOKEN.findall(_OPAQUE.sub(lambda m: '"' if m[0][0] not in "#\\" else " ", source))


def typed(source: str) -> str:
    """The word that the text ends in, still being typed: no context, but the start of what comes."""
    found = re.search(r"\w*\Z", source)
    assert found
    return found[0]


def _described(token: str) -> tuple[str, int]:
    first = token[0]
    if first == "_" or (first.isalnum() and not first.isdecimal()):
        return token, OTHER if token in _KEYWORDS else NAME
    if token == "\n" or token == NEWLINE:
        return NEWLINE, BREAK
    if first.isdigit() or (first == "." and token[1:2].isdigit()):
        return NUMBER, OTHER
    if first == '"':
        return STRING, OTHER
    if token in ("(", "[", "{"):
        return token, OPEN
    return token, CLOSE if token in (")", "]", "}") else OTHER


def _significant(kinds: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """All tokens but newlines within brackets, on blank lines and at the start."""
    breaks = kinds == BREAK
    depth = np.cumsum((kinds == OPEN).astype(np.int64) - (kinds == CLOSE))
    keep = ~breaks | (depth <= 0)
    kept = np.flatnonzero(keep)
    after_break = np.ones(len(kept), bool)
    after_break[1:] = breaks[kept[:-1]]
    keep[kept[breaks[kept] & after_break]] = False
    wanted: npt.NDArray[np.bool_] = keep
    return wanted
