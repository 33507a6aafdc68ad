"""Sparse rows in text files: the Extreme Classification Repository's format and svmlight.

Parsing is native; the bytes stream through it, so a file is never in memory as text. Both formats
sort ids within a row, refuse repeated ones, and name file and line in every complaint.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import IO, Any

import numpy as np

from hashfold import checks
from hashfold.data.dataset import Dataset
from hashfold.data.streams import Source, chunks, source_name
from hashfold.data.writing import atomic_writer
from hashfold.errors import FileFormatError
from hashfold.kernels.native import core
from hashfold.sparse import MAX_IDS, CsrBatch, Int32, RaggedIds


def read_xmc(source: Source, *, num_features: int | None = None, num_labels: int | None = None) -> Dataset:
    """Rows of `l1,l2,... f:v f:v ...` below a header `rows features labels`; ids count from zero.

    A row without labels begins with a space, a row without features ends after its labels; both are
    kept. Windows line ends, blank lines at the end, .gz and .xz are accepted.

    Args:
        source: path, or a stream of bytes.
        num_features: the width that x must have, where a model fixes it; ids beyond are refused.
        num_labels: at least so many label ids. Larger ids in the file (labels unseen in training) stay
            as they are and extend `num_labels`: nothing predicts them, so metrics count them as misses.

    Raises:
        FileFormatError: anything wrong with the file, as `path:line: expectation; what came; remedy.`

    Cost: as long as unpacking, or about a second for 17 million entries of a plain file.
    """
    reader = _parse(source, svmlight=False)
    width = _num_features(source_name(source), reader, reader.header_features, 0, num_features)
    return _dataset(reader.take(), width, max(reader.header_labels, num_labels or 0))


def read_svmlight(
    source: Source,
    *,
    num_features: int | None = None,
    num_labels: int | None = None,
    one_based: bool | None = None,
) -> Dataset:
    """Rows of `label[,label] [qid:n] index:value ... [# comment]`.

    Labels are ids as they stand, unless one of them is negative (-1 / +1): then they are class names,
    numbered in ascending order, with the names in `label_names`. Query ids are ignored; blank and
    comment lines are not rows.

    Args:
        num_features, num_labels: as for `read_xmc`.
        one_based: whether feature indices count from 1. None: they do if the file has no index 0.
    """
    reader = _parse(source, svmlight=True)
    if one_based is None:
        one_based = reader.largest_feature[0] >= 0 and reader.smallest_feature > 0
    elif one_based and reader.smallest_feature == 0:
        raise FileFormatError(
            source_name(source), "expected feature indices from 1; got index 0; read it as zero-based."
        )
    base = int(one_based)
    width = _num_features(source_name(source), reader, reader.largest_feature[0] + 1 - base, base, num_features)
    indptr, indices, values, label_indptr, labels = reader.take()
    labels, names = _numbered(labels)
    found = len(names) if names else (int(labels.max()) + 1 if labels.size else 0)
    data = _dataset((indptr, indices - base, values, label_indptr, labels), width, max(found, num_labels or 0))
    return Dataset(data.x, data.y, label_names=names, reading={"one_based": one_based})


def write_xmc(path: str | Path, x: CsrBatch, y: RaggedIds) -> None:
    """Writes the rows in the Extreme Classification format, atomically; `read_xmc` gives them back exactly."""
    if len(x) != len(y):
        checks.fail("write_xmc", f"y must have a label set for each of the {len(x)} rows of x", len(y))
    with atomic_writer(path) as file:
        _write_rows(file, x, y)


def _parse(source: Source, svmlight: bool) -> Any:
    reader = core.TextReader(svmlight)
    with closing(chunks(source)) as parts:
        good = all(reader.feed(part) for part in parts) and reader.finish()
    if not good:
        raise FileFormatError(source_name(source), reader.error, reader.error_line)
    return reader


def _num_features(name: str, reader: Any, found: int, base: int, wanted: int | None) -> int:
    """The width of x: what the file says, or what a model wants if every id of the file fits."""
    if wanted is None:
        return int(found)
    largest, line = reader.largest_feature
    if largest - base >= wanted:
        raise FileFormatError(
            name,
            f"feature {largest} is outside [{base}, {wanted + base}), the features of the model; use the feature "
            "ids of its training data.",
            line,
        )
    return wanted


def _dataset(arrays: tuple[Any, ...], width: int, num_labels: int) -> Dataset:
    indptr, indices, values, label_indptr, labels = arrays
    return Dataset(CsrBatch(indptr, indices, values, width), RaggedIds(label_indptr, labels, num_labels))


def _numbered(labels: Int32) -> tuple[Int32, list[str] | None]:
    if not labels.size or int(labels.min()) >= 0:
        return labels, None
    classes, ids = np.unique(labels, return_inverse=True)
    return ids.astype(np.int32), [str(c) for c in classes]


def _write_rows(file: IO[bytes], x: CsrBatch, y: RaggedIds) -> None:
    assert max(x.num_cols, y.num_ids) <= MAX_IDS
    file.write(f"{len(x)} {x.num_cols} {y.num_ids}\n".encode())
    for row in range(len(x)):
        span = slice(x.indptr[row], x.indptr[row + 1])
        entries = (f"{f}:{_shortest(v)}" for f, v in zip(x.indices[span].tolist(), x.values[span], strict=True))
        file.write(f"{','.join(map(str, y[row].tolist()))} {' '.join(entries)}\n".encode())


def _shortest(value: np.float32) -> str:
    """The fewest digits that read back as the same float32."""
    return str(int(value)) if value == int(value) and abs(value) < 1e7 else str(value)
