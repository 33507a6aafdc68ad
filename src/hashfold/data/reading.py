"""One door for every format."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from hashfold import checks
from hashfold.data.code import read_python
from hashfold.data.dataset import Dataset
from hashfold.data.records import Columns, Table
from hashfold.data.sparse_text import read_svmlight, read_xmc
from hashfold.data.streams import Source, source_name
from hashfold.data.text import TextVectorizer
from hashfold.data.vocabulary import LabelVocabulary

SUFFIXES = {
    ".txt": "xmc",
    ".xmc": "xmc",
    ".svm": "svmlight",
    ".svmlight": "svmlight",
    ".libsvm": "svmlight",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".py": "python",
}
FORMATS = ("csv", "jsonl", "parquet", "python", "svmlight", "tsv", "xmc")


def guess_format(source: Source) -> str:
    """The format that the name ends in, .gz and .xz aside; a directory is a tree of Python source.

    Raises:
        InputError: the name says nothing.
    """
    name = source_name(source)
    path = Path(name)
    if isinstance(source, (str, Path)) and path.is_dir():
        return "python"
    suffix = (path.with_suffix("") if path.suffix in (".gz", ".xz") else path).suffix.lower()
    if suffix not in SUFFIXES:
        checks.fail(
            "read",
            f"a file name must end in one of {', '.join(SUFFIXES)} (and .gz or .xz)",
            name,
            f"name the format: {', '.join(FORMATS)}",
        )
    return SUFFIXES[suffix]


def read(
    source: Source,
    *,
    format: str | None = None,
    text_columns: Sequence[str] | str | None = None,
    label_column: str | None = None,
    label_separator: str | None = None,
    label_key: str | Sequence[str] | None = None,
    vectorizer: Any = None,
    label_vocabulary: LabelVocabulary | None = None,
    num_features: int | None = None,
    num_labels: int | None = None,
    one_based: bool | None = None,
    min_df: int = 2,
    max_features: int | None = None,
    nfkd: bool = False,
    label_required: bool = True,
) -> Dataset:
    """Reads a data set: training data as it comes, other data to fit a model's features and labels.

    Args:
        source: a path, or a stream of bytes; .gz and .xz are unpacked.
        format: "xmc", "svmlight", "csv", "tsv", "jsonl", "parquet" or "python"; None: by the name.
        text_columns: columns whose text makes up x. None: "text" if there is one, else all but the label's.
        label_column: None: "labels" or "label" if there is one, else the rows have no labels.
        label_separator: splits a label cell in several labels, like "," or ";". None: a cell is one
            label; in JSON and Parquet a list is always several.
        label_key: where labels are objects, the member that names them; of several, the first present
            (`label_key=["id", "name"]`).
        vectorizer: the fitted one of a model, which takes texts; None: one is fitted on these rows
            (`min_df`, `max_features`, `nfkd`: see `TextVectorizer.fit`) and returned in the data set.
        label_vocabulary: the labels of a model. Labels that it lacks get ids behind it and extend
            `num_labels`: they count as misses. In svmlight files it is applied where its names are numbers.
        num_features, num_labels: the widths of a model, for files of ids.
        one_based: whether svmlight's feature indices count from 1; None: see `read_svmlight`.
        label_required: a table without the `label_column` is refused; else its rows have no labels.

    Raises:
        FileFormatError: the file cannot be used; names file and line.
        InputError: options that do not fit the format.
    """
    format = checks.one_of("read", "format", format or guess_format(source), FORMATS)
    if format in ("xmc", "svmlight"):
        if vectorizer is not None:
            checks.fail(
                "read", "a model that takes text needs a file with text", f"{source_name(source)} ({format})"
            )
        wanted = max(num_labels or 0, len(label_vocabulary or ()))
        if format == "xmc":
            data = read_xmc(source, num_features=num_features, num_labels=wanted)
        else:
            data = read_svmlight(source, num_features=num_features, num_labels=wanted, one_based=one_based)
        named = _named(data, label_vocabulary, by_name=format == "svmlight")
        return replace(named, reading={"format": format, **data.reading})
    if format == "python":
        data = read_python(source, vectorizer=vectorizer, label_vocabulary=label_vocabulary)
        return replace(data, reading={"format": format})
    text = [text_columns] if isinstance(text_columns, str) else text_columns
    table = Table(source, format, Columns(text, label_column, label_separator, label_key, label_required))
    with closing(table.texts()) as texts:
        data = _from_texts(table, texts, vectorizer, label_vocabulary, min_df, max_features, nfkd)
    return replace(data, reading={"format": format, **_options(table.found)})


def _options(columns: Columns) -> dict[str, Any]:
    """The options of `read` that name these columns: plain values for a model's configuration."""
    key = columns.label_key
    options = {
        "text_columns": None if columns.text is None else list(columns.text),
        "label_column": columns.label,
        "label_separator": columns.label_separator,
        "label_key": key if key is None or isinstance(key, str) else list(key),
    }
    return {name: value for name, value in options.items() if value is not None}


def _from_texts(
    table: Table,
    texts: Generator[str],
    vectorizer: Any,
    labels: LabelVocabulary | None,
    min_df: int,
    max_features: int | None,
    nfkd: bool,
) -> Dataset:
    if vectorizer is None:
        vectorizer, x = TextVectorizer.fit_transform(texts, min_df=min_df, max_features=max_features, nfkd=nfkd)
    else:
        x = vectorizer.transform(texts)
    y, names = (labels or LabelVocabulary.fit(table.labels)).encode(table.labels)
    return Dataset(x, y, names, getattr(vectorizer, "vocabulary", None), vectorizer)


def _named(data: Dataset, labels: LabelVocabulary | None, by_name: bool) -> Dataset:
    """The data set with a model's label names; svmlight's classes are looked up by name."""
    if labels is None:
        return data
    if by_name and labels.is_numeric:
        numbers = data.label_names or [str(i) for i in range(data.num_labels)]
        y, names = labels.encode_numbers(data.y, numbers)
        return Dataset(data.x, y, names)
    extra = [str(i) for i in range(len(labels), data.num_labels)]
    return Dataset(data.x, data.y, [*labels.names, *extra])
