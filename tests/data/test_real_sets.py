"""The real sets of a folder that HASHFOLD_DATA names, held to what their own headers and raw files say."""

from __future__ import annotations

import json
import lzma
import os
from pathlib import Path

import numpy as np
import pytest

from hashfold.data import TextVectorizer, TfIdf, read, statistics

ROOT = Path(os.environ.get("HASHFOLD_DATA", "/nonexistent"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ROOT.is_dir(), reason="HASHFOLD_DATA names no folder of data sets"),
]


@pytest.mark.parametrize(
    "name", ["bibtex", "delicious", "citeulike-t", "acl-authors", "eurlex57k", "kowiki-articles"]
)
@pytest.mark.parametrize("part", ["train", "test"])
def test_a_set_is_what_its_header_says(name, part):
    path = ROOT / name / f"{part}.txt.xz"
    if not path.exists():
        pytest.skip(f"no {path}")
    with lzma.open(path, "rt") as file:
        header = [int(n) for n in file.readline().split()]
        second = file.readline()
    data = read(path)
    assert [len(data), data.num_features, data.num_labels] == header
    data.x.validate()
    data.y.validate()
    assert statistics(data).values_are_counts
    labels = second.split(" ")[0]
    assert data.y[0].tolist() == ([int(i) for i in labels.split(",")] if labels else [])
    weighted = TfIdf.fit(data.x).transform(data.x)
    lengths = np.sqrt(np.add.reduceat(weighted.values**2, weighted.indptr[:-1][np.diff(weighted.indptr) > 0]))
    np.testing.assert_allclose(lengths, 1, rtol=1e-4)


def test_raw_eurlex_gives_the_same_labels_as_the_derived_file():
    raw = ROOT / "eurlex57k" / "raw" / "dev.jsonl.xz"
    if not raw.exists():
        pytest.skip(f"no {raw}")
    data = read(raw, text_columns=["title", "header", "recitals", "main_body"], label_column="concepts", nfkd=True)
    derived = read(ROOT / "eurlex57k" / "dev.txt.xz")
    assert isinstance(data.vectorizer, TextVectorizer)
    assert np.array_equal(data.y.counts, derived.y.counts)
    with lzma.open(raw, "rt") as file:
        concepts = json.loads(file.readline())["concepts"]
    assert sorted(data.label_names[i] for i in data.y[0]) == sorted(concepts)


def test_raw_acl_authors_by_id_or_name():
    raw = ROOT / "acl-authors" / "raw" / "papers.jsonl.xz"
    if not raw.exists():
        pytest.skip(f"no {raw}")
    data = read(raw, text_columns=["title", "abstract"], label_column="authors", label_key=["id", "name"])
    assert len(data) == 103_514
    assert data.num_labels > 100_000
