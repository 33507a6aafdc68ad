"""JSON that refuses what JSON does not have, and text files of one entry a line."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from hashfold import checks
from hashfold.errors import FileFormatError

_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}
_UNESCAPES = {escaped: plain for plain, escaped in _ESCAPES.items()}
_TO_ESCAPE = re.compile(r"[\\\n\r]")
_TO_UNESCAPE = re.compile(r"\\.?", re.DOTALL)


def to_json(op: str, value: object, *, indent: int | None = 2) -> bytes:
    """`value` as JSON in UTF-8; NumPy scalars become numbers. Raises InputError: NaN, infinity, other objects."""
    try:
        text = json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False, default=_scalar)
        return text.encode()
    except (TypeError, ValueError, RecursionError) as cause:
        checks.fail(
            op, "the configuration must be plain JSON (text, finite numbers, lists, dictionaries)", f"{cause}"
        )


def from_json(path: Path, data: bytes, error: type[FileFormatError] = FileFormatError) -> dict[str, Any]:
    """The JSON object in `data`, read from `path`. Raises `error`: no UTF-8, no JSON, NaN, no object."""
    try:
        value = json.loads(
            data.decode(), parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_distinct
        )
    except (ValueError, RecursionError) as cause:
        raise error(path, f"must be a JSON file in UTF-8; it is damaged or something else ({cause}).") from cause
    if not isinstance(value, dict):
        raise error(path, f"must hold a JSON object; got a {type(value).__name__}.")
    return value


def join_lines(op: str, entries: Sequence[str]) -> bytes:
    r"""One entry a line, UTF-8; `\`, newline and carriage return within an entry as `\\`, `\n`, `\r`."""
    text = "".join(_TO_ESCAPE.sub(lambda found: _ESCAPES[found[0]], entry) + "\n" for entry in entries)
    try:
        return text.encode()
    except UnicodeEncodeError as cause:
        line = text.count("\n", 0, cause.start)
        checks.fail(op, "names must be Unicode text", f"{entries[line]!r} as entry {line}", "rename it")


def split_lines(path: Path, data: bytes, error: type[FileFormatError] = FileFormatError) -> list[str]:
    """The entries that `join_lines` wrote. Raises `error`: no UTF-8, no newline at the end, unknown escape."""
    try:
        text = data.decode()
    except UnicodeDecodeError as cause:
        line = data.count(b"\n", 0, cause.start) + 1
        raise error(path, "must be text in UTF-8; the file is damaged.", line) from cause
    if not text:
        return []
    if not text.endswith("\n"):
        raise error(path, "must end with a newline; the file is truncated.")
    lines = text[:-1].split("\n")
    return [_unescape(path, line, i, error) for i, line in enumerate(lines)] if "\\" in text else lines


def _unescape(path: Path, line: str, index: int, error: type[FileFormatError]) -> str:
    try:
        return _TO_UNESCAPE.sub(lambda found: _UNESCAPES[found[0]], line)
    except KeyError as cause:
        raise error(path, f"{cause.args[0]!r} is no escape; the file is damaged.", index + 1) from cause


def _scalar(value: object) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not JSON")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    if math.isinf(value := float(digits)):
        raise ValueError(f"{digits} is too large")
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name is there twice")
    return made
