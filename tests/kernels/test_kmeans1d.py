"""The native search finds what the plain dynamic programme finds, and its bounds are bounds."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from hashfold.errors import InputError
from hashfold.kernels import native
from hashfold.kernels.kmeans1d import kmeans1d, kmeans1d_groups, reference

KINDS = {
    "normal": lambda random, n: random.standard_normal(n),
    "integers": lambda random, n: random.integers(0, 12, n),
    "heavy tails": lambda random, n: random.standard_cauchy(n),
    "far from zero": lambda random, n: random.random(n) + 1e4,
    "skewed": lambda random, n: np.sort(random.lognormal(0, 2, n)),
    "even steps": lambda random, n: np.arange(n) / 8,
}


def numbers(kind: str, n: int, seed: int = 0) -> np.ndarray:
    return KINDS[kind](np.random.default_rng(seed), n).astype(np.float32)


def cost_of(values: np.ndarray, means: np.ndarray, weights: np.ndarray | None = None) -> float:
    least = np.abs(values.astype(np.float64)[:, None] - means.astype(np.float64)).min(1) ** 2
    return float(least.sum() if weights is None else (weights * least).sum())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (1, 4), (7, 3), (300, 1), (150, 16), (1200, 3), (1300, 12)])
def test_is_the_optimum(kind: str, weighted: bool, n: int, k: int) -> None:
    """Below 1024 numbers each position is a cell from the start, above the cells are narrowed down."""
    x, random = numbers(kind, n), np.random.default_rng(1)
    w = (random.random(n) ** 3 * (random.random(n) > 0.2)).astype(np.float32) if weighted else None
    means, cost, bound = kmeans1d(x, k, weights=w)
    best = reference(x, k, w)[1]
    rounding = 1e-9 * best + 1e-12 * float(np.square(x - np.median(x), dtype=np.float64).sum())
    assert abs(cost - best) <= rounding
    assert abs(bound - best) <= 1e-7 * best + 10 * rounding
    assert (np.diff(means) >= 0).all()
    stored = n * float(np.spacing(np.abs(x).max())) * (1 + float(np.ptp(x)))  # the means are rounded to float32
    assert cost_of(x, means, w) == pytest.approx(best, rel=1e-5, abs=stored)


def test_stopped_early_it_says_how_close_it_came() -> None:
    for kind in ("normal", "heavy tails", "skewed"):
        x = numbers(kind, 1800)
        best = reference(x, 8)[1]
        _, cost, bound = kmeans1d(x, 8, tolerance=0.2)
        assert bound <= best * (1 + 1e-12)
        assert best * (1 - 1e-12) <= cost <= bound / 0.8


def test_out_of_cells_it_is_still_close() -> None:
    """4,500 x 256 has more positions than cells at first; a bound that is no bound would show here."""
    x = numbers("heavy tails", 4500)
    _, cost, bound = kmeans1d(x, 256)
    assert 0 <= bound <= cost
    best = kmeans1d(x, 255)[2], kmeans1d(x, 257)[1]
    assert best[1] * (1 - 1e-6) <= cost <= best[0] * (1 + 1e-6)


def test_merges_equal_numbers() -> None:
    """As if they were one number of their weight."""
    distinct, counts = numbers("normal", 90), np.random.default_rng(2).integers(1, 200, 90)
    whole, weighted = kmeans1d(np.repeat(distinct, counts), 7), kmeans1d(distinct, 7, weights=counts)
    np.testing.assert_array_equal(whole[0], weighted[0])
    assert whole[1] == weighted[1]


def test_fewer_distinct_numbers_than_clusters_repeat_the_last() -> None:
    means, cost, _ = kmeans1d([3, -1, 3, -1, -1], 4)
    assert (means.tolist(), cost) == ([-1, 3, 3, 3], 0)
    assert kmeans1d([5.0, 6.0], 2, weights=[0, 0])[1] == 0


def test_order_does_not_matter() -> None:
    x = numbers("normal", 20_000)
    shuffled = np.random.default_rng(3).permutation(x)
    np.testing.assert_array_equal(kmeans1d(x, 16)[0], kmeans1d(shuffled, 16)[0])


def test_groups_are_clustered_apart_with_the_same_bits_on_any_number_of_threads() -> None:
    x, starts = numbers("normal", 5000), np.array([0, 1, 1700, 1800, 5000])
    before = native.num_threads()
    try:
        for threads in (1, 3):
            native.set_num_threads(threads)
            found = kmeans1d_groups(x, starts, 8)
            for g, (a, b) in enumerate(pairwise(starts)):
                means, cost, bound = kmeans1d(x[a:b], 8)
                np.testing.assert_array_equal(found.means[g], means)
                assert (found.costs[g], found.bounds[g]) == (cost, bound)
    finally:
        native.set_num_threads(before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": [1, np.nan], "k": 2}, "values must be finite"),
        ({"values": [], "k": 2}, "at least one number"),
        ({"values": [1.0], "k": 0}, "k must be an integer, at least 1"),
        ({"values": [1.0, 2.0], "k": 1, "weights": [1.0, -1.0]}, "weights must be at least 0"),
        ({"values": [1.0, 2.0], "k": 1, "weights": [1.0]}, "weights must have shape"),
        ({"values": [1.0], "k": 1, "tolerance": -1}, "tolerance"),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        kmeans1d(**arguments)


def test_bad_groups() -> None:
    for starts in ([0, 0, 2], [1, 2], [0, 1], [0]):
        with pytest.raises(InputError, match="starts must ascend"):
            kmeans1d_groups([1.0, 2.0], starts, 1)
