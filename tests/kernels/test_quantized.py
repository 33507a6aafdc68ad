"""Rows in 8 bits: the native kernels against their NumPy twins, bit for bit, and what quantising promises."""

from __future__ import annotations

import numpy as np
import pytest

from hashfold.errors import InputError
from hashfold.kernels import native
from hashfold.kernels.quantized import (
    QuantizedQueries,
    QuantizedRows,
    quantize_queries_reference,
    quantize_rows_reference,
)

SHAPES = [(1, 1), (3, 7), (5, 16), (9, 33), (4, 64), (2, 131), (70, 256)]
levels = pytest.mark.parametrize("level", native.isa_levels())


def samples(rows: int, dim: int) -> list[np.ndarray]:
    """Normal rows, none negative, all equal, zero; from tiny to huge; exact halves, which must tie to even."""
    x = np.random.default_rng(0).normal(size=(rows, dim)).astype(np.float32)
    halves = np.random.default_rng(1).integers(-126, 127, (rows, dim)).astype(np.float32) + np.float32(0.5)
    halves[:, 0] = 127
    scaled = x * np.float32(10) ** np.linspace(-45, 37, rows, dtype=np.float32)[:, None]
    largest = np.full((rows, dim), np.finfo(np.float32).max, np.float32)
    return [x, np.abs(x), -np.abs(x), np.ones_like(x), np.zeros_like(x), scaled, halves, largest, -largest]


def assert_same(ours: object, twin: object) -> None:
    for name, value in vars(twin).items():
        np.testing.assert_array_equal(getattr(ours, name), value, err_msg=name)


@levels
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_its_twin_bit_for_bit(shape, level):
    with native.isa_forced(level):
        for x in samples(*shape):
            rows = QuantizedRows.quantize(x)
            assert_same(rows, quantize_rows_reference(x))
            assert_same(QuantizedQueries.quantize(x), quantize_queries_reference(x))
            np.testing.assert_array_equal(rows.dequantize(), rows.scales[:, None] * rows.codes)


@pytest.mark.parametrize("shape", SHAPES)
def test_off_by_half_a_step_at_most(shape):
    for x in samples(*shape):
        rows, queries = QuantizedRows.quantize(x), QuantizedQueries.quantize(x)
        step = np.abs(x).max(axis=1, keepdims=True).astype(np.float64) / 127
        # a scale below 2^-141 loses its last bits and may be zero: then the row is
        assert (np.abs(rows.dequantize() - x) <= step * 0.51 + 2e-40).all()
        back = queries.scales[:, None].astype(np.float64) * (queries.codes.astype(int) - queries.zeros[:, None])
        span = np.maximum(x, 0).max(axis=1) / 255 - np.minimum(x, 0).min(axis=1) / 255
        assert (np.abs(back - x) <= span[:, None] * 1.01 + 1e-40).all()  # zero is rounded too


@pytest.mark.parametrize("shape", SHAPES)
def test_quantising_again_changes_nothing(shape):
    for x in samples(*shape):
        rows = QuantizedRows.quantize(x)
        assert_same(QuantizedRows.quantize(rows.dequantize()), rows)
        assert_same(QuantizedRows.from_arrays(rows.codes, rows.scales), rows)


def test_queries_without_negative_values_use_all_steps():
    x = np.abs(np.random.default_rng(0).normal(size=(20, 50))).astype(np.float32)
    queries = QuantizedQueries.quantize(x)
    assert not queries.zeros.any()
    assert (queries.codes.max(axis=1) == 255).all()


def test_replace_is_quantising_the_new_rows():
    x = np.random.default_rng(0).normal(size=(9, 20)).astype(np.float32)
    rows, ids = QuantizedRows.quantize(x), np.array([7, 2], np.int32)
    x[ids] *= 3
    rows.replace(ids, x[ids])
    assert_same(rows, QuantizedRows.quantize(x))
    assert len(rows) == 9
    assert rows.nbytes == 9 * 20 + 9 * 8


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([[0.0, np.nan]], "rows must be finite"),
        ([[np.inf, 1.0]], "rows must be finite"),
        ([1.0, 2.0], "rows must have shape"),
        (np.zeros((2, 0)), "columns must be an integer"),
        (np.zeros((1, 32_769)), r"columns must be an integer in \[1, 32768\]"),
    ],
)
def test_refuses_to_quantise(rows, says):
    with pytest.raises(InputError, match=says):
        QuantizedRows.quantize(rows)


@pytest.mark.parametrize(
    ("codes", "scales", "says"),
    [
        ([[1, 2]], [1.0, 2.0], "scales must have shape"),
        ([[1, 2]], [-1.0], "scales must not be negative"),
        ([[1, 2]], [np.nan], "scales must be finite"),
        ([[-128, 2]], [1.0], r"codes must be in \[-127, 127\]; got -128"),
    ],
)
def test_refuses_stored_rows_that_it_cannot_have_made(codes, scales, says):
    with pytest.raises(InputError, match=says):
        QuantizedRows.from_arrays(np.array(codes, np.int8), scales)


def test_sums_hold_the_largest_rows():
    """32,768 columns of the largest codes, and queries whose zero stands at either end."""
    from hashfold.index.topk import top_k, top_k_reference

    ones = np.ones((1, 32_768), np.float32)
    rows = QuantizedRows.quantize(np.concatenate([ones, -ones]))
    x = np.repeat(np.concatenate([ones, -ones]), 4, axis=0)
    for have, want in zip(top_k(x, rows, None, 2), top_k_reference(x, rows, None, 2), strict=True):
        np.testing.assert_array_equal(have, want)
