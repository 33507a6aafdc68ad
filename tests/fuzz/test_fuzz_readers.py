"""Whatever a file holds, reading it gives a valid data set or FileFormatError: no crash, no other exception."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hashfold.data import Dataset, read, read_svmlight, read_xmc, write_xmc
from hashfold.data.code_tokens import Interner
from hashfold.errors import FileFormatError, InputError
from hashfold.kernels.native import core
from hashfold.sparse import CsrBatch, RaggedIds

VALID = {
    "xmc": b"4 10 5\n1,4 0:1 7:2.5\n 3:1e-3\n2 \n0,1,2,3 1:1 2:2 9:-4.25\n",
    "svmlight": b"# c\n1,4 qid:1 1:1 8:2.5\n 3:1e-3 # x\n2\n0,1,2,3 1:1 2:2 9:-4.25\n",
    "csv": b'text,label\n"a, ""b""",x\nc d,y\n',
    "tsv": b"text\tlabel\na b\tx\nc d\ty\n",
    "jsonl": b'{"text": "a b", "labels": ["x", 1]}\n{"text": ["c"], "labels": null}\n',
}
PIECES = st.sampled_from(
    [b":", b",", b" ", b"\n", b"\r\n", b"-1", b"nan", b"1e999", b"0", b"9" * 25, b"\xff", b"\0", b'"']
)
bounded = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def mutated(draw: st.DrawFn, valid: bytes) -> bytes:
    """A valid file with some of its bytes cut out, repeated or replaced."""
    content = valid
    for _ in range(draw(st.integers(1, 4))):
        a = draw(st.integers(0, len(content)))
        b = draw(st.integers(a, min(len(content), a + 12)))
        new = draw(st.one_of(PIECES, st.binary(max_size=4), st.just(content[a:b] * 2), st.just(b"")))
        content = content[:a] + new + content[b:]
    return content


def check(content: bytes, format: str) -> None:
    try:
        data = read(io.BytesIO(content), format=format, min_df=1)
    except InputError as caught:
        error: InputError | None = caught
    else:
        error = None
    if error is not None:
        expected = "<stream>" if isinstance(error, FileFormatError) else "TextVectorizer: some word must occur"
        assert str(error).startswith(expected)
        assert "\n" not in str(error)
    else:
        assert isinstance(data, Dataset)
        data.x.validate()
        data.y.validate()
        assert len(data.x) == len(data.y)


@pytest.mark.parametrize("format", list(VALID))
@bounded
@given(st.data())
def test_mutated_files(format, data):
    check(data.draw(mutated(VALID[format])), format)


@pytest.mark.parametrize("format", [*VALID, "parquet"])
@bounded
@given(content=st.binary(max_size=300))
def test_random_bytes(format, content):
    check(content, format)


@bounded
@given(
    magic=st.sampled_from([b"\x1f\x8b\x08\0", b"\xfd7zXZ\0", b"\xef\xbb\xbf", b"PAR1"]),
    rest=st.binary(max_size=100),
)
def test_archives_of_random_bytes(magic, rest):
    check(magic + rest, "xmc")
    check(magic + rest, "parquet")


@bounded
@given(st.data())
def test_mutated_text_gives_the_same_however_it_is_cut(data):
    content = data.draw(mutated(VALID["xmc"]))
    cut = data.draw(st.integers(0, len(content)))
    outcomes = []
    for parts in [content], [content[:cut], content[cut:]], [bytes([b]) for b in content]:
        reader = core.TextReader(False)
        good = all(reader.feed(part) for part in parts) and reader.finish()
        outcomes.append([a.tolist() for a in reader.take()] if good else (reader.error, reader.error_line))
    assert outcomes[0] == outcomes[1] == outcomes[2]


@st.composite
def datasets(draw: st.DrawFn) -> tuple[CsrBatch, RaggedIds]:
    width, labels = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
    rows = draw(st.lists(st.dictionaries(st.integers(0, width - 1), floats, max_size=5), max_size=6))
    indptr = np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64)
    entries = [entry for row in rows for entry in sorted(row.items())]
    x = CsrBatch(
        indptr, np.array([f for f, _ in entries], np.int32), np.array([v for _, v in entries], np.float32), width
    )
    sets = draw(st.lists(st.sets(st.integers(0, labels - 1)), min_size=len(rows), max_size=len(rows)))
    return x, RaggedIds.from_lists([sorted(s) for s in sets], labels)


@bounded
@given(pair=datasets())
def test_what_is_written_reads_back(tmp_path_factory, pair):
    x, y = pair
    path = tmp_path_factory.mktemp("written") / "a.txt"
    write_xmc(path, x, y)
    again = read_xmc(path)
    assert (again.num_features, again.num_labels) == (x.num_cols, y.num_ids)
    for read_back, written in [
        (again.x.indptr, x.indptr),
        (again.x.indices, x.indices),
        (again.x.values, x.values),
        (again.y.indptr, y.indptr),
        (again.y.ids, y.ids),
    ]:
        assert np.array_equal(read_back, written)


@bounded
@given(values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
def test_svmlight_values(values):
    text = "1 " + " ".join(f"{i + 1}:{v!r}" for i, v in enumerate(values))
    assert read_svmlight(io.BytesIO(text.encode())).x.values.tolist() == values


@bounded
@given(text=st.text(max_size=200))
def test_any_text_has_tokens(text):
    interner = Interner()
    assert interner.encode(text).size <= len(text)
