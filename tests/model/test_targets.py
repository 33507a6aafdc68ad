"""Labels become ids and come back as they were written."""

import numpy as np
import pytest
import scipy.sparse as sp

from hashfold.errors import InputError
from hashfold.model.targets import Targets

CASES = {
    "numbers": (np.array([7, 3, 7]), "classes", (3, 7), [[1], [0], [1]]),
    "strings": (["b", "a", "b"], "classes", ("a", "b"), [[1], [0], [1]]),
    "string array": (np.array(["b", "a"], object), "classes", ("a", "b"), [[1], [0]]),
    "floats": (np.array([0.0, 1.0]), "classes", (0.0, 1.0), [[0], [1]]),
    "lists": ([[5, 2], [], [5]], "lists", (2, 5), [[0, 1], [], [1]]),
    "lists of strings": ([["x"], ("y", "x")], "lists", ("x", "y"), [[0], [0, 1]]),
    "dense matrix": (np.array([[0, 1], [1, 1]]), "indicator", None, [[1], [0, 1]]),
    "sparse matrix": (sp.csr_matrix(np.array([[0, 2.0], [0, 0]])), "indicator", None, [[1], []]),
}


@pytest.mark.parametrize("case", CASES)
def test_ids_and_back(case: str) -> None:
    labels, kind, names, ids = CASES[case]
    targets, ragged = Targets.fit(labels)
    assert (targets.kind, targets.names) == (kind, names)
    assert [row.tolist() for row in ragged] == ids
    again = Targets.from_dict(targets.to_dict(), targets.text_names())
    assert again == targets
    assert [row.tolist() for row in again.transform(labels)] == ids


def test_labels_of_ids() -> None:
    targets, _ = Targets.fit(["b", "a"])
    assert targets.labels(np.array([[1, 0]], np.int32)).tolist() == [["b", "a"]]
    assert targets.labels(np.array([[1, -1]], np.int32)).tolist() == [["b", None]]
    assert [targets.label(i) for i in (0, 1, -1)] == ["a", "b", None]


def test_labels_never_learned_are_ids_beyond() -> None:
    targets, _ = Targets.fit([["a"], ["c"]])
    ids = targets.transform([["b", "a"], ["z", "b"]])
    assert ids.num_ids == 4
    assert [row.tolist() for row in ids] == [[0, 2], [2, 3]]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["a", 1], "all strings or all numbers"),
        ([["a"], "b"], "a list in every row"),
        (np.array([1.0, np.nan]), "NaN"),
        (np.array([[0, 3]]), "zeros and ones"),
        ("labels", "one entry a row"),
        ([None, None], "NoneType"),
    ],
)
def test_unusable_labels(labels: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Targets.fit(labels)
