"""TfIdf equals scikit-learn's, and chooses to weight counts only."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfTransformer

from hashfold.data import TfIdf
from hashfold.errors import InputError
from hashfold.sparse import CsrBatch


def counts(seed: int, rows: int = 40, cols: int = 30) -> CsrBatch:
    rng = np.random.default_rng(seed)
    dense = rng.poisson(0.4, (rows, cols)) * rng.integers(1, 5, (rows, cols))
    dense[3] = 0
    return CsrBatch.from_scipy(sp.csr_array(dense.astype(np.float32)))


def test_equals_scikit_learn():
    train, test = counts(0), counts(1)
    ours = TfIdf.fit(train)
    theirs = TfidfTransformer(sublinear_tf=True).fit(train.to_scipy())
    for x in train, test:
        np.testing.assert_allclose(
            ours.transform(x).to_scipy().toarray(), theirs.transform(x.to_scipy()).toarray(), rtol=2e-6
        )


def test_auto_weights_counts_only():
    x = counts(2)
    assert TfIdf.fit(x).mode == "tfidf"
    half = CsrBatch(x.indptr, x.indices, x.values / 2, x.num_cols)
    fitted = TfIdf.fit(half)
    assert fitted.mode == "normalize"
    dense = fitted.transform(half).to_scipy().toarray()
    np.testing.assert_allclose(np.linalg.norm(dense, axis=1), [i != 3 for i in range(len(x))], rtol=1e-6)
    np.testing.assert_allclose(
        dense[0] * np.linalg.norm(half.to_scipy().toarray()[0]), half.to_scipy().toarray()[0], rtol=1e-6
    )
    assert TfIdf.fit(x, "none").transform(x) is x


def test_state_is_json_and_arrays():
    x = counts(3)
    for mode in "tfidf", "normalize", "none":
        fitted = TfIdf.fit(x, mode)
        config, arrays = fitted.to_state()
        again = TfIdf.from_state(json.loads(json.dumps(config)), arrays)
        assert np.array_equal(again.transform(x).values, fitted.transform(x).values)
    with pytest.raises(InputError, match="idf must have shape"):
        TfIdf.from_state({"mode": "tfidf", "num_features": 5}, {})


def test_refusals():
    x = counts(4)
    with pytest.raises(InputError, match=r"TfIdf: x must have the 30 features .* got 31"):
        TfIdf.fit(x).transform(CsrBatch(x.indptr, x.indices, x.values, 31))
    with pytest.raises(InputError, match="values must be counts"):
        TfIdf.fit(CsrBatch(x.indptr, x.indices, -x.values, 30), "tfidf")
    with pytest.raises(InputError, match="mode must be one of"):
        TfIdf.fit(x, "bm25")
