"""Tables with text and labels, and the one door for every format."""

from __future__ import annotations

import io
import json
import sys

import pytest

from hashfold.data import LabelVocabulary, guess_format, read
from hashfold.errors import FileFormatError, InputError, MissingDependencyError

ROWS = [
    {"text": "red apple", "labels": "fruit;red"},
    {"text": "green pear", "labels": "fruit; green "},
    {"text": "grey, cat", "labels": ""},
]
CSV = 'text,labels\nred apple,fruit;red\ngreen pear,fruit; green \n"grey, cat",\n'
TSV = "text\tlabels\nred apple\tfruit;red\ngreen pear\tfruit; green \ngrey, cat\t\n"
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS)


def parquet_bytes() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), sink)
    return sink.getvalue()


def labels_of(data):
    return [[data.label_names[i] for i in data.y[row]] for row in range(len(data))]


@pytest.mark.parametrize("packed", ["", ".gz", ".xz"])
@pytest.mark.parametrize("format", ["csv", "tsv", "jsonl", "parquet"])
def test_all_tables_read_the_same(write, format, packed):
    content = {"csv": CSV, "tsv": TSV, "jsonl": JSONL, "parquet": parquet_bytes}[format]
    path = write(f"a.{format}{packed}", content() if callable(content) else content)
    data = read(path, label_separator=";", min_df=1)
    assert data.feature_names == ["apple", "cat", "green", "grey", "pear", "red"]
    assert data.x.to_scipy().toarray().tolist() == [[1, 0, 0, 0, 0, 1], [0, 0, 1, 0, 1, 0], [0, 1, 0, 1, 0, 0]]
    assert data.label_names == ["fruit", "green", "red"]
    assert labels_of(data) == [["fruit", "red"], ["fruit", "green"], []]


def test_a_model_reads_new_data(write):
    train = read(write("a.csv", CSV), label_separator=";", min_df=1)
    new = write("b.csv", "text,labels\nred dog,fruit;dog\n")
    data = read(
        new, label_separator=";", vectorizer=train.vectorizer, label_vocabulary=LabelVocabulary(train.label_names)
    )
    assert data.x.indices.tolist() == [5]
    assert data.num_features == 6
    assert labels_of(data) == [["fruit", "dog"]]
    assert data.num_labels == 4
    assert read(write("c.csv", "text\nred\n"), vectorizer=train.vectorizer).num_labels == 0


def test_columns_by_name_and_by_default(write):
    path = write("a.csv", "id,title,body,topic\n1,one two,three,x\n2,one,four,y\n")
    data = read(path, text_columns=["title", "body"], label_column="topic", min_df=1)
    assert data.feature_names == ["four", "one", "three", "two"]
    assert labels_of(data) == [["x"], ["y"]]
    assert read(path, label_column="topic", min_df=1).feature_names == ["1", "2", "four", "one", "three", "two"]
    assert read(path, text_columns="title", min_df=1).feature_names == ["one", "two"]


def test_json_lists_and_objects(write):
    rows = [
        {"title": "a b", "body": ["c", ["d"]], "authors": [{"name": "Ann  Lee"}, {"name": "Bo", "id": "bo-1"}]},
        {"title": "a", "body": None, "authors": []},
        {"title": "b", "authors": {"name": "Ann Lee"}},
        {"title": "b", "authors": None},
    ]
    path = write("a.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")
    data = read(path, text_columns=["title", "body"], label_column="authors", label_key=["id", "name"], min_df=1)
    assert data.feature_names == ["a", "b", "c", "d"]
    assert labels_of(data) == [["Ann Lee", "bo-1"], [], ["Ann Lee"], []]
    with pytest.raises(FileFormatError, match=r"a.jsonl:1: expected labels as strings .* as label_key"):
        read(path, text_columns="title", label_column="authors")
    with pytest.raises(FileFormatError, match=r"a.jsonl:1: expected one of the keys 'orcid' in each label"):
        read(path, text_columns="title", label_column="authors", label_key="orcid")


def test_numbers_and_repeats_as_labels(write):
    path = write("a.jsonl", '{"text": "a", "label": 3}\n{"text": "a", "labels": null, "label": [1, "1", true]}\n')
    assert labels_of(read(path, min_df=1)) == [["3"], ["1", "true"]]


def test_long_and_quoted_fields(write):
    text = "word " * 100_000
    data = read(write("a.csv", f'text,label\n"{text}\n""end""",x\r\n'), min_df=1)
    assert data.feature_names == ["end", "word"]
    assert data.x.values.tolist() == [1.0, 100_000.0]
    assert read(write("a.tsv", 'text\tlabel\n"a\tx\n'), min_df=1).feature_names == ["a"]


@pytest.mark.parametrize(
    ("name", "content", "where", "words"),
    [
        ("a.csv", "", "", "the file is empty"),
        ("a.jsonl", "", "", "the file is empty"),
        ("a.csv", "text,label\na,b,c\n", ":2", "expected 2 columns, as the first line names; got 3"),
        ("a.csv", "text,label\na\n", ":2", "got 1; check the quotes"),
        ("a.csv", 'text,label\n"a,b\n', ":2", "expected well-formed fields"),
        ("a.csv", "text,text\na,b\n", ":1", "expected distinct column names"),
        ("a.csv", b"text,label\n\xff,b\n", ":2", "expected UTF-8 text; got byte 0xff at column 1"),
        ("a.jsonl", '{"text": "a"}\n{"text": \n', ":2", "expected one JSON object a line; got '"),
        ("a.jsonl", "[1]\n", ":1", "expected one JSON object a line; got list"),
        ("a.jsonl", "[" * 100_000 + "\n", ":1", "too deep a nesting"),
        ("a.jsonl", '{"text": "a", "label": "\\ud800"}\n', ":1", "half a surrogate pair"),
        ("a.parquet", b"PAR1 not really", "", "expected a Parquet file"),
        ("a.parquet", b"", "", "expected a Parquet file"),
    ],
)
def test_bad_tables_are_refused(write, name, content, where, words):
    path = write(name, content)
    with pytest.raises(FileFormatError) as caught:
        read(path, min_df=1)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{path}{where}: ")
    assert "\n" not in str(caught.value)


def test_missing_columns_are_named(write):
    path = write("a.csv", CSV)
    with pytest.raises(FileFormatError, match=r"a.csv:2: expected the text column 'title'; got 'text', 'labels'"):
        read(path, text_columns="title")
    with pytest.raises(FileFormatError, match=r"a.csv: expected the label column 'tags'; got 'text', 'labels'"):
        read(path, label_column="tags")
    with pytest.raises(FileFormatError, match="there is none of this name"):
        read(path.with_name("none.parquet"))


def test_parquet_without_pyarrow(write, monkeypatch):
    path = write("a.parquet", parquet_bytes())
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match=r"pip install hashfold\[parquet\]"):
        read(path)


@pytest.mark.parametrize(
    ("name", "format"),
    [("a.txt.xz", "xmc"), ("a.SVM", "svmlight"), ("a.ndjson.gz", "jsonl"), ("b/c.tsv", "tsv"), ("m.py", "python")],
)
def test_format_by_name(name, format):
    assert guess_format(name) == format


def test_format_refusals(write, tmp_path):
    with pytest.raises(InputError, match=r"read: a file name must end in .* got a\.zip; name the format"):
        read("a.zip")
    with pytest.raises(InputError, match=r"got <stream>"):
        read(io.BytesIO(b""))
    with pytest.raises(InputError, match="format must be one of csv, jsonl"):
        read("a.txt", format="arff")
    train = read(write("a.csv", CSV), min_df=1)
    with pytest.raises(InputError, match="a model that takes text needs a file with text"):
        read(write("a.txt", "0 0 0\n"), vectorizer=train.vectorizer)
    assert guess_format(tmp_path) == "python"


def test_xmc_and_svmlight_with_a_models_labels(write):
    names = LabelVocabulary(["zero", "one"])
    data = read(write("a.txt", "1 3 4\n1,3 0:1\n"), label_vocabulary=names)
    assert data.label_names == ["zero", "one", "2", "3"]
    assert data.num_labels == 4
    classes = LabelVocabulary(["-1", "0", "1"])
    data = read(write("a.svm", "+1 1:1\n7 1:1\n"), label_vocabulary=classes)
    assert labels_of(data) == [["1"], ["7"]]
    assert data.num_labels == 4
    data = read(write("b.svm", "1 1:1\n0 1:1\n"), label_vocabulary=names)
    assert labels_of(data) == [["one"], ["zero"]]


def test_a_stream_with_its_format_named():
    data = read(io.BytesIO(JSONL.encode()), format="jsonl", label_separator=";", min_df=1)
    assert labels_of(data)[0] == ["fruit", "red"]
