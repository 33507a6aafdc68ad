"""Tables with a text and a label column: CSV, TSV, JSON lines, Parquet.

Each format becomes an iterator of (line, record); the columns are picked here, once for all of them.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hashfold.data.streams import Source, chunks, lines, source_name
from hashfold.errors import FileFormatError, MissingDependencyError

Record = tuple[int, dict[str, Any]]


@dataclass(frozen=True)
class Columns:
    """Which columns hold what; None: found by name (see `read`)."""

    text: Sequence[str] | None = None
    label: str | None = None
    label_separator: str | None = None
    label_key: str | Sequence[str] | None = None
    label_required: bool = True


class Table:
    """The rows of one file: iterate `texts()` once; `labels` and `found` are complete after that.

    `found`: the columns as given, or as found by name.
    """

    def __init__(self, source: Source, format: str, columns: Columns) -> None:
        self._name, self._columns = source_name(source), columns
        self._records = RECORDS[format]
        self._source = source
        self.labels: list[list[str]] = []
        self.found = columns

    def texts(self) -> Generator[str]:
        text_names: Sequence[str] | None = self._columns.text
        label_name = self._columns.label
        label_found = label_name is None or not self._columns.label_required
        with closing(self._records(self._source)) as records:
            for line, record in records:
                if label_name is None:
                    label_name = next((n for n in ("labels", "label") if n in record), "")
                if text_names is None:
                    text_names = ["text"] if "text" in record else [n for n in record if n != label_name]
                if not any(name in record for name in text_names):
                    self._missing(line, "text", text_names, record)
                label_found = label_found or label_name in record
                self.labels.append(self._row_labels(line, record.get(label_name)))
                yield " ".join(filter(None, (_text(record.get(name)) for name in text_names)))
        if not label_found and self.labels:
            self._missing(None, "label", [str(label_name)], record)
        self.found = replace(self._columns, text=text_names, label=label_name or None)

    def _missing(self, line: int | None, what: str, names: Sequence[str], record: dict[str, Any]) -> None:
        raise FileFormatError(
            self._name,
            f"expected the {what} column {' or '.join(map(repr, names))}; got {', '.join(map(repr, record))}; "
            f"name the {what} column.",
            line,
        )

    def _row_labels(self, line: int, value: Any) -> list[str]:
        try:
            names = _labels(value, self._columns.label_separator, self._columns.label_key)
            for name in names:
                name.encode()
        except UnicodeEncodeError:
            raise FileFormatError(
                self._name, "expected label names of whole characters; got half a surrogate pair; rename it.", line
            ) from None
        except LookupError as error:
            raise FileFormatError(self._name, str(error.args[0]), line) from None
        return list(dict.fromkeys(names))


def _text(value: Any) -> str:
    """The words in a cell: strings as they are, lists joined, null nothing."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, dict):
        return " ".join(filter(None, map(_text, value.values())))
    if isinstance(value, (list, tuple)):
        return " ".join(filter(None, map(_text, value)))
    return str(value)


def _labels(value: Any, separator: str | None, key: str | Sequence[str] | None) -> list[str]:
    """The label names in a cell. Raises LookupError with the reason if there is no way to read it."""
    if value is None:
        return []
    if isinstance(value, (list, tuple)):
        return [name for part in value for name in _labels(part, separator, key)]
    if isinstance(value, dict):
        return _labels(_member(value, key), None, None)
    text = value if isinstance(value, str) else json.dumps(value)
    parts = text.split(separator) if separator else [text]
    return [name for part in parts if (name := " ".join(part.split()))]


def _member(value: dict[str, Any], key: str | Sequence[str] | None) -> Any:
    keys = [key] if isinstance(key, str) else list(key or ())
    for name in keys:
        if value.get(name) is not None:
            return value[name]
    wanted = (
        f"one of the keys {', '.join(map(repr, keys))} in each label" if keys else "labels as strings or numbers"
    )
    raise LookupError(
        f"expected {wanted}; got an object with {', '.join(map(repr, value))}; name its key as label_key."
    )


def _delimited(delimiter: str, quoting: int) -> Callable[[Source], Generator[Record]]:
    def records(source: Source) -> Generator[Record]:
        name = source_name(source)
        with closing(lines(source)) as text, _long_fields():
            rows = csv.reader(text, delimiter=delimiter, quoting=quoting, strict=True)  # type: ignore[arg-type]
            try:
                header = next(rows, None)
                if header is None:
                    raise FileFormatError(
                        name, "expected a line of column names; the file is empty; write it again."
                    )
                if len(set(header)) != len(header):
                    raise FileFormatError(name, "expected distinct column names; got a repeat; rename it.", 1)
                for row in rows:
                    if row and len(row) != len(header):
                        raise FileFormatError(
                            name,
                            f"expected {len(header)} columns, as the first line names; got {len(row)}; check the "
                            "quotes and delimiters.",
                            rows.line_num,
                        )
                    if row:
                        yield rows.line_num, dict(zip(header, row, strict=True))
            except csv.Error as error:
                raise FileFormatError(
                    name, f"expected well-formed fields; got '{error}'; check the quotes.", rows.line_num
                ) from None

    return records


@contextmanager
def _long_fields() -> Iterator[None]:
    """Documents may be longer than the csv module's limit of 128 KiB, a setting of the whole process."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _json_lines(source: Source) -> Generator[Record]:
    name, number = source_name(source), 0
    with closing(lines(source)) as text:
        for number, line in enumerate(text, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                what = "too deep a nesting" if isinstance(error, RecursionError) else f"'{error}'"
                raise FileFormatError(
                    name, f"expected one JSON object a line; got {what}; correct the line.", number
                ) from None
            if not isinstance(record, dict):
                raise FileFormatError(
                    name,
                    f"expected one JSON object a line; got {type(record).__name__}; correct the line.",
                    number,
                )
            yield number, record
    if number == 0:
        raise FileFormatError(name, "expected one JSON object a line; the file is empty; write it again.")


def _parquet(source: Source) -> Generator[Record]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as cause:
        raise MissingDependencyError(
            "read: Parquet files need pyarrow; install it with 'pip install hashfold[parquet]'."
        ) from cause
    name, number = source_name(source), 0
    try:
        for batch in pq.ParquetFile(_seekable(source)).iter_batches(batch_size=4096):
            for record in batch.to_pylist():
                number += 1
                yield number, record
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FileFormatError(
            name, f"expected a Parquet file; got '{what}'; write the file again or name its format."
        ) from None


def _seekable(source: Source) -> Any:
    """Parquet needs to jump about: a path as it is, anything packed or streamed in memory."""
    if isinstance(source, (str, Path)) and Path(source).suffix not in (".gz", ".xz") and Path(source).is_file():
        return str(source)
    with closing(chunks(source)) as parts:
        return io.BytesIO(b"".join(parts))


RECORDS: dict[str, Callable[[Source], Generator[Record]]] = {
    "csv": _delimited(",", csv.QUOTE_MINIMAL),
    "tsv": _delimited("\t", csv.QUOTE_NONE),  # tab-separated files quote nothing: a " is a "
    "jsonl": _json_lines,
    "parquet": _parquet,
}
