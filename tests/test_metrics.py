"""Metrics equal their definitions: by hand, and against a slow literal transcription."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hashfold.errors import InputError
from hashfold.metrics import (
    are_true,
    by_frequency,
    contains,
    evaluate,
    expected_calibration_error,
    propensities,
    top_of,
)
from hashfold.sparse import Ragged, RaggedIds


def literal(top: list[list[int]], truth: list[set[int]], p: np.ndarray, k: int) -> dict[str, float]:
    """The Repository's definitions, one row and one rank at a time."""
    n = len(top)
    sums = dict.fromkeys(["P", "nDCG", "R", "psp", "best_psp", "psdcg", "best_psdcg"], 0.0)
    for predicted, true in zip(top, truth, strict=True):
        norm = sum(1 / math.log2(r + 2) for r in range(min(k, max(1, len(true)))))
        best = sorted((1 / p[label] for label in true), reverse=True)
        for r, label in enumerate(predicted[:k]):
            if label in true:
                sums["P"] += 1 / k
                sums["R"] += 1 / len(true)
                sums["nDCG"] += 1 / math.log2(r + 2) / norm
                sums["psp"] += 1 / p[label]
                sums["psdcg"] += 1 / p[label] / math.log2(r + 2) / norm
        for r, gain in enumerate(best[:k]):
            sums["best_psp"] += gain
            sums["best_psdcg"] += gain / math.log2(r + 2) / norm
    possible = sums["best_psp"] > 0
    return {
        f"P@{k}": sums["P"] / n,
        f"nDCG@{k}": sums["nDCG"] / n,
        f"R@{k}": sums["R"] / n,
        f"PSP@{k}": sums["psp"] / sums["best_psp"] if possible else math.nan,
        f"PSnDCG@{k}": sums["psdcg"] / sums["best_psdcg"] if possible else math.nan,
    }


def test_by_hand():
    y = RaggedIds.from_lists([[0, 2], [1], []], 4)
    top = np.array([[2, 1, 0], [3, 1, -1], [0, 1, 2]])
    p = np.array([1.0, 0.5, 0.25, 1.0])
    m = evaluate(top, y, p, ks=(1, 3))
    assert m["P@1"] == pytest.approx(1 / 3)
    assert m["P@3"] == pytest.approx((2 / 3 + 1 / 3 + 0) / 3)
    assert m["R@1"] == pytest.approx(0.5 / 3)
    assert m["R@3"] == pytest.approx(2 / 3)
    d = 1 / math.log2(3)
    assert m["nDCG@3"] == pytest.approx(((1 + 0.5) / (1 + d) + d) / 3)
    assert m["PSP@1"] == pytest.approx(4 / (4 + 2))
    assert m["PSP@3"] == pytest.approx(1.0)
    assert m["PSnDCG@3"] == pytest.approx(((4 + 0.5) / (1 + d) + 2 * d) / ((4 + d) / (1 + d) + 2))


def test_perfect_ranking_is_one():
    y = RaggedIds.from_lists([[0, 1, 2], [1, 2, 3]], 4)
    m = evaluate(top_of(y, 3), y, np.full(4, 0.3), ks=(1, 3))
    assert all(v == pytest.approx(1.0) for k, v in m.items() if not k.startswith("R@1")), m
    assert m["R@1"] == pytest.approx(1 / 3)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_equal_to_the_literal_definition(data):
    num_labels = data.draw(st.integers(5, 12))
    rows = data.draw(st.integers(1, 6))
    seed = data.draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    truth = [set(rng.choice(num_labels, rng.integers(0, 5), replace=False).tolist()) for _ in range(rows)]
    top = np.stack([rng.permutation(num_labels)[:5] for _ in range(rows)])
    for row in top:
        row[rng.integers(1, 6) :] = -1
    p = rng.uniform(0.05, 1.0, num_labels)
    got = evaluate(top, RaggedIds.from_lists([sorted(t) for t in truth], num_labels), p, ks=(1, 2, 5))
    for k in 1, 2, 5:
        for name, value in literal(top.tolist(), truth, p, k).items():
            assert got[name] == pytest.approx(value, nan_ok=True), name


def test_labels_unseen_in_training_are_misses():
    y = RaggedIds.from_lists([[7], [0]], 8)  # the model knows labels 0 to 4
    assert evaluate([[4], [0]], y, ks=(1,))["P@1"] == 0.5


def test_propensities_by_hand():
    p = propensities([0, 10], 1000)
    c = (math.log(1000) - 1) * 2.5**0.55
    assert p[0] == pytest.approx(1 / (1 + c * math.exp(-0.55 * math.log(1.5))))
    assert p[1] == pytest.approx(1 / (1 + c * math.exp(-0.55 * math.log(11.5))))


def test_bands_add_up():
    y = RaggedIds.from_lists([[0, 2], [1], [2]], 4)
    bands = by_frequency([[2, 1], [3, 1], [0, 1]], y, [0, 1, 7, 50], ks=(1, 2), edges=(0, 1, 5, 20))
    assert [(b.low, b.high, b.labels, b.occurrences) for b in bands] == [
        (0, 0, 1, 1),
        (1, 4, 1, 1),
        (5, 19, 1, 2),
        (20, None, 1, 0),
    ]
    assert [b.hits[2] for b in bands] == [0, 1, 1, 0]
    assert bands[2].recall(1) == 0.5
    assert math.isnan(bands[3].recall(1))


def test_refusals():
    y = RaggedIds.from_lists([[0], [1]], 3)
    with pytest.raises(InputError, match=r"top_ids must have at least 5 columns, the largest k; got 2"):
        evaluate([[0, 1], [1, 2]], y)
    with pytest.raises(InputError, match="distinct"):
        evaluate([[0, 0], [1, 2]], y, ks=(1, 2))
    with pytest.raises(InputError, match=r"top_ids must have shape \(2, \*\)"):
        evaluate([[0]], y, ks=(1,))
    with pytest.raises(InputError, match="propensities must have an entry for each of the 3 labels"):
        evaluate([[0], [1]], y, np.ones(2), ks=(1,))


def test_no_rows_and_no_labels():
    assert math.isnan(evaluate(np.zeros((0, 1), int), RaggedIds.from_lists([], 3), ks=(1,))["P@1"])
    m = evaluate([[0]], RaggedIds.from_lists([[]], 3), np.ones(3), ks=(1,))
    assert m["P@1"] == 0.0
    assert math.isnan(m["PSP@1"])


def test_calibration_error_by_hand():
    # bins of .5: (0, .2, .5) say .7 of 3 and have 1 hit; (.6, 1.) say 1.6 of 2 and have 1.
    p, hits = [0.0, 0.2, 0.5, 0.6, 1.0], [False, True, False, False, True]
    assert expected_calibration_error(p, hits, bins=2) == pytest.approx((abs(1 - 0.7) + abs(1 - 1.6)) / 5)
    assert expected_calibration_error(p, hits, bins=1) == pytest.approx(abs(2 - 2.3) / 5)
    in_rows = expected_calibration_error(np.array(p[:4]).reshape(2, 2), np.array(hits[:4]).reshape(2, 2), bins=2)
    assert in_rows == pytest.approx((abs(1 - 0.7) + 0.6) / 4)


def test_calibration_error_of_what_comes_true_and_of_what_never_does():
    p = np.repeat([0.25, 0.75], 400)
    hits = np.concatenate([np.arange(400) < 100, np.arange(400) < 300])
    assert expected_calibration_error(p, hits) == pytest.approx(0)
    assert expected_calibration_error(np.ones(3), np.zeros(3, bool)) == 1
    assert math.isnan(expected_calibration_error([], np.zeros(0, bool)))


@pytest.mark.parametrize(
    ("p", "hits", "words"),
    [
        ([0.5, 1.5], [True, False], r"\[0, 1\]"),
        ([float("nan")], [True], r"\[0, 1\]"),
        ([0.5], [True, False], "shape"),
        ([0.5], [1.0], "bool"),
    ],
)
def test_calibration_error_of_no_probabilities(p: list[float], hits: list[bool], words: str):
    with pytest.raises(InputError, match=words):
        expected_calibration_error(p, hits)


def test_what_is_true_of_rows_and_of_ragged_ids():
    y = RaggedIds.from_lists([[0, 2], [], [1]], 3)
    ids = np.array([[2, 1], [0, -1], [1, 7]], np.int32)
    assert are_true(ids, y).tolist() == [[True, False], [False, False], [True, False]]
    ragged = Ragged(np.array([0, 2, 3, 5]), np.array([2, 1, 0, 1, 7], np.int32))
    assert contains(y, ragged).tolist() == [True, False, False, True, False]
