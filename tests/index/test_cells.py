"""Rows in 8 bits, cell by cell: scores, moves and growth, against a dictionary of cells."""

from __future__ import annotations

import numpy as np
import pytest

from hashfold.index.cells import Cells
from hashfold.index.centroids import CentroidTree, Points, lloyd
from hashfold.kernels.native import core
from hashfold.kernels.quantized import QuantizedQueries, QuantizedRows, scores_reference


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def scores(x: np.ndarray, vectors: np.ndarray, weights: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(n, items): the scores of rows in 8 bits, and the weighed offsets."""
    rough = scores_reference(QuantizedQueries.quantize(x), QuantizedRows.quantize(vectors), None)
    return rough + weights @ offsets.T


@pytest.mark.parametrize("dim", [1, 3, 16, 33, 128])
@pytest.mark.parametrize("num_offsets", [0, 1, 3])
def test_best_is_the_best_of_the_cell(dim, num_offsets, isa, threads):
    vectors, x = normal(0, 300, dim), normal(1, 70, dim)
    x[::2] = np.abs(x[::2])  # without a zero point
    offsets, weights = normal(2, 300, num_offsets), normal(3, 70, num_offsets)
    cells = (np.arange(300) ** 2 % 7).astype(np.int32)  # of 0 to 87 items
    store = Cells(300, 7, dim, num_offsets)
    store.build(vectors, offsets, cells)
    asked = np.unique(cells)[np.arange(70) % len(np.unique(cells))]
    chosen = store.best(x, weights, asked)
    expected = scores(x, vectors, weights, offsets)
    assert (cells[chosen] == asked).all()
    inside = np.where(cells == asked[:, None], expected, -np.inf)
    np.testing.assert_allclose(expected[np.arange(70), chosen], inside.max(axis=1), rtol=1e-6, atol=1e-6)


def test_of_equal_items_the_first_is_best(isa):
    store = Cells(90, 1, 5, 0)
    store.build(np.ones((90, 5), np.float32), np.zeros((90, 0), np.float32), np.zeros(90, np.int32))
    asked = np.zeros(1, np.int32)
    assert store.best(np.ones((1, 5), np.float32), np.zeros((1, 0), np.float32), asked).tolist() == [0]


def test_items_move_as_in_a_dictionary():
    """Cells grow, shrink and empty; the store is tidied on the way."""
    rng = np.random.default_rng(0)
    vectors, offsets = normal(1, 200, 6), normal(2, 200, 1)
    cells = np.zeros(200, np.int32)
    store = Cells(200, 9, 6, 1)
    store.build(vectors, offsets, cells)
    for step in range(60):
        ids = rng.choice(200, 50, replace=False).astype(np.int32)
        cells[ids] = rng.integers(0, 9, 50) if step % 3 else step % 9  # spread, then crowd into one
        vectors[ids], offsets[ids] = normal(step, 50, 6), normal(step + 99, 50, 1)
        store.update(vectors[ids], offsets[ids], ids, cells[ids])
        np.testing.assert_array_equal(store.sizes(), np.bincount(cells, minlength=9))
    state, rows = store.state(), QuantizedRows.quantize(vectors)
    for name, array in (("cells", cells), ("codes", rows.codes), ("scales", rows.scales), ("offsets", offsets)):
        np.testing.assert_array_equal(state[name], array)
    x, asked = normal(5, 9, 6), np.flatnonzero(np.bincount(cells, minlength=9)).astype(np.int32)
    chosen = store.best(x[asked], np.ones((len(asked), 1), np.float32), asked)
    expected = scores(x[asked], vectors, np.ones((len(asked), 1), np.float32), offsets)
    inside = np.where(cells == asked[:, None], expected, -np.inf)
    np.testing.assert_array_equal(chosen, inside.argmax(axis=1))


@pytest.mark.parametrize(("items", "dim", "cells"), [(20_000, 128, 1200), (200_000, 4, 12_000)])
def test_cells_that_grow_stay_within_their_memory(items, dim, cells):
    """Stores of megabytes: their memory comes in huge pages, that of the sums beside them does not."""
    rng = np.random.default_rng(0)
    vectors, offsets = normal(1, items, dim), np.arange(items, dtype=np.float32)[:, None]
    cell_of = (np.arange(items) % cells).astype(np.int32)
    store = Cells(items, cells, dim, 1)
    store.build(vectors, offsets, cell_of)
    for _ in range(4):
        ids = rng.permutation(items)[: items // 8].astype(np.int32)
        cell_of[ids] = rng.integers(0, cells // 20, len(ids))  # crowd into a few
        store.update(vectors[ids], offsets[ids], ids, cell_of[ids])
        state = store.state()
        np.testing.assert_array_equal(state["cells"], cell_of)
        np.testing.assert_array_equal(state["offsets"], offsets)


def test_means_are_those_of_the_members(threads):
    x, members = normal(0, 500, 7), np.random.default_rng(1).integers(0, 40, 500).astype(np.int32)
    members[members == 3] = 4
    means = np.full((40, 7), 9, np.float32)
    core.mean_rows(x, members, means)
    for m in range(40):
        expected = x[members == m].astype(np.float64).mean(axis=0) if m != 3 else np.full(7, 9)
        np.testing.assert_allclose(means[m], expected, atol=1e-6)


def test_lloyd_brings_points_closer_and_keeps_them_in_their_group():
    points = Points(normal(0, 800, 8), None, None)
    groups = (np.arange(800) % 2).astype(np.int32)
    inertia = []
    for iterations in (0, 1, 8):
        centroids, members = lloyd(points, groups, np.array([5, 9]), iterations, np.random.default_rng(1))
        assert (centroids.groups[members] == groups).all()
        inertia.append(np.square(points.x - centroids.vectors[members]).sum())
    assert inertia[0] > inertia[1] > inertia[2]


def test_equal_points_leave_no_cluster_out():
    """Where starts coincide, clusters lose their points and restart."""
    x = np.repeat(normal(0, 4, 6), [300, 5, 5, 5], axis=0)
    tree = CentroidTree.grow(Points(x, None, None), 3, 12, 6, np.random.default_rng(0))
    assert tree.clusters.groups.tolist() == sorted(tree.clusters.groups.tolist())
    assert len(tree.clusters.vectors) == 12
    assert np.isfinite(tree.clusters.vectors).all()
    nearest = np.square(x[:, None] - tree.clusters.vectors).sum(axis=2).min(axis=1)
    assert (nearest < 1e-6).all()  # the four places are all met
