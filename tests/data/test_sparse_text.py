"""The Extreme Classification format and svmlight: what is read, and what is refused with which words."""

from __future__ import annotations

import gzip
import io
import lzma
import os
from pathlib import Path

import numpy as np
import pytest

from hashfold.data import Dataset, read_svmlight, read_xmc, write_xmc
from hashfold.errors import FileFormatError
from hashfold.kernels.native import core
from hashfold.sparse import CsrBatch, RaggedIds

GOOD = "3 10 5\n1,4 0:1 7:2.5\n 3:1e-3\n2 \n"


def rows_of(data: Dataset) -> list[tuple[list[int], dict[int, float]]]:
    x = data.x
    entries = [
        {int(f): float(v) for f, v in zip(x.indices[a:b], x.values[a:b], strict=True)}
        for a, b in zip(x.indptr[:-1], x.indptr[1:], strict=True)
    ]
    return [(data.y[i].tolist(), entries[i]) for i in range(len(data))]


def parsed(data: Dataset) -> Dataset:
    data.x.validate()
    data.y.validate()
    return data


WANTED = [([1, 4], {0: 1.0, 7: 2.5}), ([], {3: float(np.float32(1e-3))}), ([2], {})]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.xz"])
def test_rows_without_labels_or_features_are_kept(write, name):
    data = parsed(read_xmc(write(name, GOOD)))
    assert rows_of(data) == WANTED
    assert (data.num_features, data.num_labels) == (10, 5)


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("\n", "\r\n"),
        GOOD + "\n \n\n",  # blank lines at the end
        GOOD[:-1],  # no newline at the end
        "\ufeff" + GOOD,
        GOOD.replace("1,4 0:1 7:2.5", "4,1  7:2.5\t0:+1.0"),  # unsorted ids, tabs
        GOOD.replace("\n 3:1e-3", "\n3:0.001"),  # a row without labels that lacks its space
    ],
)
def test_harmless_variants_read_the_same(write, text):
    assert rows_of(parsed(read_xmc(write("a.txt", text)))) == WANTED


def test_lines_may_be_cut_anywhere():
    for size in range(1, len(GOOD)):
        reader = core.TextReader(False)
        assert all(reader.feed(GOOD[i : i + size].encode()) for i in range(0, len(GOOD), size))
        assert reader.finish()
        indptr, indices, values, label_indptr, labels = reader.take()
        assert indptr.tolist() == [0, 2, 3, 3]
        assert indices.tolist() == [0, 7, 3]
        assert values.tolist() == [1.0, 2.5, float(np.float32(1e-3))]
        assert label_indptr.tolist() == [0, 2, 2, 3]
        assert labels.tolist() == [1, 4, 2]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "the file is empty"),
        ("\n", 1, "expected a header 'rows features labels'"),
        ("3 10\n", 1, "of three counts; got '3 10'"),
        ("1,4 0:1 7:2.5\n", 1, "got '1,4 0:1 7:2.5'; add the header"),
        ("-1 10 5\n", 1, "of three counts"),
        ("1 10 5 7\n0 1:1\n", 1, "of three counts"),
        ("1 3000000000 5\n", 1, "at most 2147483647"),
        ("99999999999999999999 10 5\n", 1, "of three counts"),
        ("2 10 5\n1 0:1\n", 2, "expected 2 rows, as the header says; the file ends after 1"),
        ("1 10 5\n1 0:1\n2 0:1\n", 3, "expected the file to end after 1 rows"),
        ("1 10 5\n1 10:1\n", 2, "feature 10 is outside [0, 10); feature ids count from zero."),
        ("1 10 5\n5 1:1\n", 2, "label 5 is outside [0, 5); label ids count from zero."),
        ("1 10 5\n-1 1:1\n", 2, "expected labels as ids counted from zero, like 3,17; got '-1'"),
        ("1 10 5\n1 -1:1\n", 2, "got '-1:1'"),
        ("1 10 5\n1, 1:1\n", 2, "got ''"),
        ("1 10 5\n1,2 x:1\n", 2, "expected feature:value with a feature id counted from zero; got 'x:1'"),
        ("1 10 5\n1 3\n", 2, "got '3'"),
        ("1 10 5\n1 99999999999999999999:1\n", 2, "got '99999999999999999999:1'"),
        ("1 10 5\n1 3:nan\n", 2, "expected a finite number as the value of feature 3; got 'nan'"),
        ("1 10 5\n1 3:inf\n", 2, "got 'inf'"),
        ("1 10 5\n1 3:1e39\n", 2, "got '1e39'"),
        ("1 10 5\n1 3:1e999\n", 2, "got '1e999'"),
        ("1 10 5\n1 3:\n", 2, "got ''"),
        ("1 10 5\n1 3:1,5\n", 2, "got '1,5'"),
        ("1 10 5\n1 3:0x10\n", 2, "got '0x10'"),
        ("1 10 5\n1 3:++1\n", 2, "got '++1'"),
        ("1 10 5\n1 3:1 3:1\n", 2, "expected each feature once in a row; got feature 3 twice"),
        ("1 10 5\n1 3:1 2:1 3:1\n", 2, "got feature 3 twice"),
        ("1 10 5\n2,1,2 3:1\n", 2, "expected each label once in a row; got label 2 twice"),
        (b"1 10 5\n1 3:\xff\xfe\n", 2, r"got '\xff\xfe'"),
        (b"\x89PNG\r\n\x1a\n\0\0", 1, r"got '\x89PNG'"),
        (b"\0" * 10000, 1, "expected a header"),
    ],
)
def test_bad_files_are_refused_with_line_and_words(write, text, line, words):
    path = write("bad.txt", text)
    with pytest.raises(FileFormatError) as caught:
        read_xmc(path)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_a_truncated_or_damaged_archive_is_refused(tmp_path: Path, pack):
    rng = np.random.default_rng(0)
    rows = "".join(f"1 {f}:1\n" for f in rng.integers(0, 1000000, 20000))
    whole = pack(f"20000 1000000 5\n{rows}".encode())
    path = tmp_path / "cut.txt.x"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileFormatError, match="expected a whole archive; it ends too early"):
        read_xmc(path)
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
    with pytest.raises(FileFormatError):
        read_xmc(path)


def test_no_file_a_directory_no_permission(tmp_path: Path, monkeypatch):
    with pytest.raises(FileFormatError, match=r"none\.txt: expected a file; there is none of this name"):
        read_xmc(tmp_path / "none.txt")
    with pytest.raises(FileFormatError, match="got a directory; name the file in it"):
        read_xmc(tmp_path)
    path = tmp_path / "locked.txt"
    path.write_text(GOOD)
    path.chmod(0)
    if os.access(path, os.R_OK):  # the superuser reads everything

        def refuse(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(FileFormatError, match="got no permission"):
        read_xmc(path)


def test_a_stream_is_read_and_stays_open():
    stream = io.BytesIO(gzip.compress(GOOD.encode()))
    assert rows_of(read_xmc(stream)) == WANTED
    assert not stream.closed


def test_the_reading_thread_ends_when_the_parser_stops(write):
    import threading

    path = write("bad.txt.xz", "1000000 10 5\nbad\n" + "1 1:1\n" * 1_000_000)
    with pytest.raises(FileFormatError, match="bad"):
        read_xmc(path)
    assert not [t for t in threading.enumerate() if t.name == "hashfold-unpack"]


def test_a_model_fixes_the_width_and_unseen_labels_extend_it(write):
    path = write("a.txt", GOOD)
    data = read_xmc(path, num_features=8, num_labels=3)
    assert (data.num_features, data.num_labels) == (8, 5)
    assert read_xmc(path, num_labels=9).num_labels == 9
    with pytest.raises(FileFormatError, match=r"a.txt:2: feature 7 is outside \[0, 7\)"):
        read_xmc(path, num_features=7)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-50", 0.0), ("1e-400", 0.0), ("0." + "0" * 400 + "1", 0.0), ("-1.5", -1.5), ("12345678", 12345678.0)],
)
def test_numbers_at_the_edges(write, text, value):
    assert read_xmc(write("a.txt", f"1 1 1\n0 0:{text}\n")).x.values.tolist() == [value]


def test_what_is_written_reads_back_exactly(tmp_path: Path):
    rng = np.random.default_rng(1)
    indptr = np.array([0, 2, 2, 5], np.int64)
    values = np.array([0.1, 1e-30, 3.4e38, 16777217, 2], np.float32) * rng.choice([1, -1], 5).astype(np.float32)
    x = CsrBatch(indptr, np.array([1, 5, 0, 2, 9], np.int32), values, 10)
    y = RaggedIds.from_lists([[1, 2], [], [0]], 4)
    write_xmc(tmp_path / "a.txt", x, y)
    again = read_xmc(tmp_path / "a.txt")
    assert np.array_equal(again.x.values, x.values)
    assert np.array_equal(again.x.indices, x.indices)
    assert np.array_equal(again.y.ids, y.ids)
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    x = CsrBatch(np.array([0, 0], np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), 1)
    with pytest.raises(FileFormatError, match="No space left on device"):
        write_xmc(tmp_path / "a.txt", x, RaggedIds.from_lists([[0]], 1))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileFormatError, match="No such file or directory"):
        write_xmc(tmp_path / "none" / "a.txt", x, RaggedIds.from_lists([[0]], 1))


def test_svmlight_multi_label_comments_and_query_ids(write):
    assert read_svmlight(write("b.svm", "2147483646 1:1\n")).num_labels == 2147483647
    text = "# made by hand\n2,0 qid:3 1:0.5 3:1 # first\n\n 2:1\n1 2:1.5\n"
    data = parsed(read_svmlight(write("a.svm", text)))
    assert rows_of(data) == [([0, 2], {0: 0.5, 2: 1.0}), ([], {1: 1.0}), ([1], {1: 1.5})]
    assert (data.num_features, data.num_labels, data.label_names) == (3, 3, None)
    assert read_svmlight(write("a.svm", text), one_based=False).num_features == 4


def test_svmlight_index_zero_means_zero_based(write):
    path = write("a.svm", "1 0:1 3:1\n")
    assert rows_of(read_svmlight(path)) == [([1], {0: 1.0, 3: 1.0})]
    with pytest.raises(FileFormatError, match="expected feature indices from 1; got index 0"):
        read_svmlight(path, one_based=True)


def test_svmlight_negative_labels_are_class_names(write):
    data = read_svmlight(write("a.svm", "+1 1:1\n-1 1:2\n1.0 1:3\n"))
    assert data.label_names == ["-1", "1"]
    assert [y for y, _ in rows_of(data)] == [[1], [0], [1]]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("1 1:1\n0.5 1:1\n", 2, "expected labels as whole numbers, like 3 or -1; got '0.5'"),
        ("2147483647 1:1\n", 1, "got '2147483647'"),
        ("1 qid:x 1:1\n", 1, "expected qid:number; got 'qid:x'"),
        ("1 1:1 1:1\n", 1, "got feature 1 twice"),
        ("1 2147483647:1\n", 1, "is outside [0, 2147483647)"),
    ],
)
def test_svmlight_refusals(write, text, line, words):
    path = write("bad.svm", text)
    with pytest.raises(FileFormatError) as caught:
        read_svmlight(path)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{path}:{line}: ")


def test_svmlight_width_of_a_model(write):
    path = write("a.svm", "1 1:1\n2 4:1\n")
    assert read_svmlight(path, num_features=4).num_features == 4
    with pytest.raises(FileFormatError, match=r"a.svm:2: feature 4 is outside \[1, 4\)"):
        read_svmlight(path, num_features=3)
