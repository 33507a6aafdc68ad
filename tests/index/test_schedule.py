from __future__ import annotations

import numpy as np
import pytest

from hashfold.errors import InputError
from hashfold.index import DriftMeter, DriftSchedule, FixedSchedule, GrowingSchedule, make_schedule


def due_steps(schedule, steps, drift=None):
    return [step for step in range(steps) if schedule.due(step, drift)]


def test_fixed():
    assert due_steps(FixedSchedule(30), 100) == [30, 60, 90]
    assert due_steps(make_schedule("never"), 100) == []


def test_growing_intervals_grow_by_the_factor():
    assert due_steps(GrowingSchedule(10, 2.0), 200) == [10, 30, 70, 150]
    assert due_steps(GrowingSchedule(25, 1.0), 100) == [25, 50, 75]
    steps = due_steps(GrowingSchedule(7, 1.3), 2000)
    expected = np.cumsum(7 * 1.3 ** np.arange(len(steps)))
    np.testing.assert_allclose(steps, expected, atol=0.5)


def test_drift_needs_a_measurement_above_the_threshold():
    schedule = DriftSchedule(threshold=0.2, check_every_steps=5)
    assert due_steps(schedule, 20, drift=0.3) == [5, 10, 15]
    assert due_steps(schedule, 20, drift=0.1) == []
    assert due_steps(schedule, 20, drift=None) == []
    assert schedule.needs_drift


def test_meter_measures_relative_movement():
    vectors = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    meter = DriftMeter(50, sample=20, seed=1)
    assert meter.measure(vectors) is None
    meter.mark(vectors)
    assert meter.measure(vectors) == 0
    assert meter.measure(vectors * 1.5) == pytest.approx(0.5, rel=1e-5)
    vectors *= 3  # in place: the meter holds its own copy
    assert meter.measure(vectors) == pytest.approx(2.0, rel=1e-5)


def test_meter_counts_rows_that_left_zero():
    meter = DriftMeter(4)
    meter.mark(np.zeros((4, 2), np.float32))
    moved = np.zeros((4, 2), np.float32)
    assert meter.measure(moved) == 0
    moved[0] = 1
    assert meter.measure(moved) == 0.25


@pytest.mark.parametrize("spec", ["fixed:40", "growing:20:1.25", "drift:0.3:7"])
def test_specs_and_configs_round_trip(spec):
    schedule = make_schedule(spec)
    assert make_schedule(schedule.config()) == schedule
    assert make_schedule(schedule) is schedule
    name, *values = spec.split(":")
    assert [str(v) for v in schedule.config().values()] == [name, *values]


@pytest.mark.parametrize(
    "spec",
    [
        "weekly",
        "fixed:x",
        "fixed:1:2",
        "growing:0",
        "growing:5:0.5",
        "drift:0",
        "fixed:-1",
        {"name": "fixed", "x": 1},
    ],
)
def test_bad_specs_are_one_line(spec):
    with pytest.raises(InputError) as caught:
        make_schedule(spec)
    assert "\n" not in str(caught.value)
