"""Statistics, dropping and splitting."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from hashfold.data import Dataset, drop_unusable, split_validation, statistics
from hashfold.errors import InputError
from hashfold.sparse import CsrBatch, RaggedIds


def small() -> Dataset:
    x = CsrBatch(
        np.array([0, 2, 3, 3, 3, 4], np.int64),
        np.array([0, 2, 1, 3], np.int32),
        np.array([1, 2, 1, 1], np.float32),
        4,
    )
    return Dataset(x, RaggedIds.from_lists([[0, 1], [], [1], [], [1]], 3), label_names=["a", "b", "c"])


def test_statistics_by_hand():
    s = statistics(small())
    assert (s.rows, s.features, s.labels, s.nnz) == (5, 4, 3, 4)
    assert (s.rows_without_labels, s.rows_without_features) == (2, 2)
    assert (s.labels_seen, s.max_labels_per_row, s.labels_per_row) == (2, 2, 0.8)
    assert s.label_count_quantiles["0"] == 1.0
    assert s.label_count_quantiles["100"] == 3.0
    assert s.values_are_counts
    json.dumps(s.to_dict())


def test_statistics_of_nothing():
    empty = small().take(np.zeros(0, np.int64))
    assert statistics(empty).labels_per_row == 0.0


def test_drop_counts_what_it_drops():
    data, dropped = drop_unusable(small())
    assert (dropped.without_labels, dropped.without_features, dropped.total) == (2, 1, 3)
    assert [data.y[i].tolist() for i in range(len(data))] == [[0, 1], [1]]
    assert data.label_names == ["a", "b", "c"]
    assert drop_unusable(data)[0] is data


def test_split_is_a_partition_drawn_by_the_seed():
    data = small().take(np.arange(100) % 5)
    data = Dataset(CsrBatch(data.x.indptr, data.x.indices, np.arange(data.x.nnz, dtype=np.float32), 4), data.y)
    train, valid = split_validation(data, 0.2, seed=3)
    assert (len(train), len(valid)) == (80, 20)
    assert sorted([*train.x.values.tolist(), *valid.x.values.tolist()]) == sorted(data.x.values.tolist())
    assert np.array_equal(split_validation(data, 0.2, seed=3)[1].x.values, valid.x.values)
    assert not np.array_equal(split_validation(data, 0.2, seed=4)[1].x.values, valid.x.values)
    assert len(split_validation(data, 0.0)[1]) == 1
    assert len(split_validation(data, 1.0)[0]) == 1
    with pytest.raises(InputError, match="at least 2 rows"):
        split_validation(data.take([0]))


def test_data_and_metrics_import_neither_torch_nor_scikit_learn():
    heavy = "{'torch', 'sklearn', 'pyarrow'}"
    code = f"import sys, hashfold.data, hashfold.metrics; print(*{heavy} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == ""
