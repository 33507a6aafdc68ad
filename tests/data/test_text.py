"""Texts as counts of words, and label names as ids."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer

from hashfold.data import LabelVocabulary, TextVectorizer, vectorizer_from_state
from hashfold.data.vocabulary import bytes_to_lines, lines_to_bytes
from hashfold.errors import InputError

TEXTS = ["The cat, the hat.", "A cat_1 sat on 2 mats!", "", "Ünïcödé ﬁancé the END", "cat the"]


@pytest.mark.parametrize(("min_df", "max_features"), [(1, None), (2, None), (1, 4), (2, 1)])
def test_equals_scikit_learn(min_df, max_features):
    ours, x = TextVectorizer.fit_transform(TEXTS, min_df=min_df)
    theirs = CountVectorizer(token_pattern=r"\w+", min_df=min_df)
    assert np.array_equal(x.to_scipy().toarray(), theirs.fit_transform(TEXTS).toarray())
    assert ours.vocabulary == theirs.get_feature_names_out().tolist()
    x.validate()
    new = ["the the dog", "cat"]
    assert np.array_equal(ours.transform(new).to_scipy().toarray(), theirs.transform(new).toarray())
    if max_features is not None:
        assert TextVectorizer.fit(TEXTS, max_features=1).vocabulary == ["the"]


def test_nfkd_unfolds_and_drops_accents():
    assert TextVectorizer.fit(TEXTS, nfkd=True).words(TEXTS[3]) == ["unicode", "fiance", "the", "end"]
    assert TextVectorizer(lowercase=False).words("The END") == ["The", "END"]


def test_a_generator_is_read_once():
    vectorizer, x = TextVectorizer.fit_transform(t for t in TEXTS)
    assert np.array_equal(x.indices, vectorizer.transform(t for t in TEXTS).indices)


def test_state_is_json_and_arrays():
    fitted = TextVectorizer.fit(TEXTS, nfkd=True)
    config, arrays = fitted.to_state()
    assert all(a.dtype == np.uint8 for a in arrays.values())
    assert vectorizer_from_state(json.loads(json.dumps(config)), arrays) == fitted


def test_refusals():
    with pytest.raises(InputError, match="some word must occur in at least 3 of the 2 texts"):
        TextVectorizer.fit(["a b", "a"], min_df=3)
    with pytest.raises(InputError, match="texts must be a sequence of strings; got one string"):
        TextVectorizer.fit("a b")
    with pytest.raises(InputError, match="every text must be a string; got NoneType in row 1"):
        TextVectorizer.fit(["a", None])
    with pytest.raises(InputError, match="kind must be one of code, text; got 'image'"):
        vectorizer_from_state({"kind": "image"}, {})
    with pytest.raises(InputError, match="vocabulary must be UTF-8"):
        vectorizer_from_state({"kind": "text"}, {"vocabulary": np.array([255], np.uint8)})
    with pytest.raises(InputError, match="words must be distinct"):
        vectorizer_from_state({"kind": "text"}, {"vocabulary": lines_to_bytes(["a", "a"])})


def test_lines_as_bytes():
    for lines in [], ["a"], ["é", "", "b"]:
        assert bytes_to_lines("op", "name", lines_to_bytes(lines)) == lines


def test_unknown_labels_extend_what_is_read_but_not_the_vocabulary():
    labels = LabelVocabulary.fit([["b", "a"], ["c"]])
    assert labels.names == ["a", "b", "c"]
    y, names = labels.encode([["c", "x"], [], ["a", "x", "a"]])
    assert names == ["a", "b", "c", "x"]
    assert [y[i].tolist() for i in range(3)] == [[2, 3], [], [0, 3]]
    assert y.num_ids == 4
    assert len(labels) == 3
    y.validate()
    with pytest.raises(InputError, match="distinct; got 'a' twice"):
        LabelVocabulary(["a", "b", "a"])
