"""The saved state of an index: another one goes on from it in the same bits, and refuses what cannot be one."""

from __future__ import annotations

import numpy as np
import pytest

from hashfold.errors import InputError
from hashfold.index import INDEXES, BucketTables, NeuronIndex, make_index

N, DIM, ROWS = 600, 20, 40

KINDS = [(name, {}) for name in sorted(INDEXES)] + [
    ("lsh", {"bucket_capacity": 3, "hashes_per_table": 5}),
    ("lsh", {"bucket_capacity": 3, "hashes_per_table": 5, "policy": "fifo"}),
    ("lsh", {"lift": "norm", "rerank": True}),
    ("lsh", {"hashes_per_table": 14, "num_tables": 60}),  # more buckets than the tables have: folded
    ("clustered", {"scored": False}),
    ("clustered", {"lift": "none", "num_clusters": 9}),
    ("clustered", {"precision": "int8"}),
    ("tree", {"lift": "none", "num_clusters": 9}),
    ("tree", {"num_clusters": 60, "num_branches": 20, "probes": 4}),
    ("exact", {"precision": "int8"}),
]


@pytest.fixture(params=KINDS, ids=lambda kind: "-".join([kind[0], *map(str, kind[1])]))
def kind(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["", "bias"])
def bias(request):
    return normal(0, N) if request.param else None


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def update(index: NeuronIndex, seed: int) -> None:
    """Moves a sixth of the items."""
    ids = np.random.default_rng(seed).choice(N, N // 6, replace=False).astype(np.int32)
    rows = normal(seed, len(ids), DIM)
    index.update(ids, rows, normal(seed + 100, len(ids)) if index._bias is not None else None)


def in_training(kind, bias) -> tuple[NeuronIndex, np.ndarray]:
    """An index built from other weights than it has now, of which only some were inserted again."""
    name, options = kind
    weight = normal(0, N, DIM)
    index = make_index(name, N, DIM, **options)
    index.build(weight, None if bias is None else bias)
    weight += normal(1, N, DIM)
    for seed in range(2, 8):
        update(index, seed)
    return index, weight


def copied(array):
    return None if array is None else array.copy()


def assert_alike(left: NeuronIndex, right: NeuronIndex) -> None:
    for budget in (3, N):
        a, b = left.query(normal(9, ROWS, DIM), budget), right.query(normal(9, ROWS, DIM), budget)
        for part in ("indptr", "ids", "scores", "found"):
            np.testing.assert_array_equal(getattr(a, part), getattr(b, part))
    assert left.occupancy() == right.occupancy()
    for name, array in left.state().items():
        np.testing.assert_array_equal(array, right.state()[name], strict=True)


def test_another_index_goes_on_from_the_state(kind, bias):
    index, weight = in_training(kind, bias)
    other = make_index(**index.config())
    other.load_state(index.state(), weight.copy(), copied(bias))
    assert_alike(index, other)
    for seed in range(20, 26):
        update(index, seed)
        update(other, seed)
    assert_alike(index, other)


def test_a_build_from_the_same_weights_is_no_substitute(kind, bias):
    """The test above could not fail otherwise."""
    index, weight = in_training(kind, bias)
    rebuilt = make_index(**index.config())
    rebuilt.build(weight.copy(), copied(bias))
    if not index.state_names:  # all that it knows are the weights
        assert_alike(index, rebuilt)
        return
    with pytest.raises(AssertionError):
        assert_alike(index, rebuilt)


def test_a_state_replaces_what_was_there_and_shares_no_memory(kind, bias):
    index, weight = in_training(kind, bias)
    other = make_index(**index.config())
    other.build(normal(5, N, DIM))
    state = index.state()
    other.load_state(state, weight.copy(), copied(bias))
    for array in state.values():
        array[...] = 0
    assert_alike(index, other)


def test_the_state_is_small_and_named(kind, bias):
    index, _ = in_training(kind, bias)
    state = index.state()
    assert set(state) == set(index.state_names)
    for name in {"buckets", "items"} & set(state):
        assert state[name].dtype == np.int32
        assert state[name].size <= N * index.occupancy().tables


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(kind, bias):
    index, weight = in_training(kind, bias)
    before = index.state()
    other_bias = None if bias is not None else normal(3, N)
    smaller = make_index(kind[0], N - 1, DIM, **kind[1])
    smaller.build(weight[1:])
    wrong = [before | {"more": np.zeros(1)}, dict(list(before.items())[1:] or [("x", np.zeros(1))])]
    if before:
        wrong.append(smaller.state())
    for name, array in before.items():
        wrong += [before | {name: bad} for bad in (array[..., :-1], array[None], array.astype(np.float16))]
    calls = [(state, weight, bias) for state in wrong]
    calls += [(before, weight[1:], bias), (before, weight[:, 1:], bias), (before, weight * np.nan, bias)]
    if "lift" in before and kind[1].get("lift", "none" if kind[0] == "lsh" else "norm") != "none":
        calls.append((before, weight, other_bias))
    for arguments in calls:
        with pytest.raises(InputError) as caught:
            index.load_state(*arguments)
        assert "\n" not in str(caught.value)
    np.testing.assert_equal(index.state(), before)


def test_an_index_not_built_has_no_state(kind):
    with pytest.raises(InputError, match="call build first"):
        make_index(kind[0], N, DIM, **kind[1]).state()


BUCKETS = np.array([[0, 0, 0, 0, 1, 2]], np.int32)
SOUND = {"buckets": BUCKETS, "items": np.array([0, 1, 2, 3, 4, 5], np.int32), "counts": np.array([6])}


def changed(**arrays):
    return SOUND | {
        name: np.array(value, np.int64 if name == "counts" else np.int32) for name, value in arrays.items()
    }


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(changed(buckets=[[0, 0, 0, 0, 1, 3]]), id="bucket too large"),
        pytest.param(changed(buckets=[[-1, 0, 0, 0, 1, 2]]), id="bucket below zero"),
        pytest.param(changed(items=[0, 1, 2, 3, 4, 6]), id="item too large"),
        pytest.param(changed(items=[-1, 1, 2, 3, 4, 5]), id="item below zero"),
        pytest.param(changed(items=[0, 1, 1, 3, 4, 5]), id="item twice"),
        pytest.param(changed(items=[0, 1, 2, 4, 3, 5]), id="buckets out of order"),
        pytest.param(changed(items=[0, 1, 2, 4, 5], counts=[5]), id="item lost"),
        pytest.param(changed(counts=[5]), id="more items than counted"),
        pytest.param(changed(counts=[7]), id="fewer items than counted"),
        pytest.param(changed(items=[], counts=[-6]), id="counted below zero"),
    ],
)
def test_a_contradiction_is_refused(state):
    tables = BucketTables(6, 1, 3)
    tables.load_state(SOUND)
    with pytest.raises(InputError, match="must fit these tables"):
        tables.load_state(state)
    assert [tables.items(0, b) for b in range(3)] == [[0, 1, 2, 3], [4], [5]]


def test_counts_that_cancel_out_are_refused():
    tables = BucketTables(6, 2, 3)
    tables.build(np.repeat(BUCKETS.T, 2, axis=1))
    with pytest.raises(InputError, match="must fit these tables"):
        tables.load_state(tables.state() | {"counts": np.array([13, -1])})


@pytest.mark.parametrize("policy", ["fifo", "reservoir"])
def test_capacity_is_held(policy):
    """A state may lack what the capacity kept out, but not exceed it; a reservoir's order is that of a heap."""
    tables = BucketTables(6, 1, 3, bucket_capacity=3, policy=policy)
    with pytest.raises(InputError, match="must fit these tables"):
        tables.load_state(SOUND)
    tables.build(BUCKETS.T)
    state = tables.state()
    assert state["counts"].tolist() == [5]
    tables.load_state(state)
    assert tables.sizes()[1].tolist() == [[4, 1, 1]]
    turned = state | {"items": np.concatenate([state["items"][2::-1], state["items"][3:]])}
    if policy == "reservoir":
        with pytest.raises(InputError, match="must fit these tables"):
            tables.load_state(turned)
    else:
        tables.load_state(turned)
        assert tables.items(0, 0) == turned["items"][:3].tolist()
