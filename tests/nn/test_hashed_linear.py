"""The hashed layer against the dense one it stands for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hashfold.errors import InputError
from hashfold.index import all_active
from hashfold.kernels.hashed_linear import places_and_signs
from hashfold.nn import ActiveValues, HashedLinear
from hashfold.sparse import ActiveSet, CsrBatch, Ragged

ROWS, WIDTH, OUTPUTS = 9, 24, 15


def sparse_rows(rows: int = ROWS, width: int = WIDTH) -> CsrBatch:
    random = np.random.default_rng(5)
    dense = random.standard_normal((rows, width)) * (random.random((rows, width)) < 0.3)
    dense[:1] = 0
    return CsrBatch.from_scipy(dense.astype(np.float32))


def some_pairs() -> Ragged:
    random = np.random.default_rng(2)
    counts = random.integers(0, 8, ROWS)
    ids = np.concatenate([random.permutation(OUTPUTS)[:n] for n in counts])
    return Ragged(np.concatenate([[0], np.cumsum(counts)]), ids.astype(np.int32))


def per_row(pairs: Ragged) -> ActiveSet:
    return ActiveSet(OUTPUTS, pairs.ids, np.ones(len(pairs.ids), np.float32), len(pairs), indptr=pairs.indptr)


LAYERS = {
    "one table": {"num_buckets": 50, "sign": False},
    "one bucket, signs": {"num_buckets": 1},
    "blocks": {"num_buckets": 67, "blocks": 5, "seed": 7, "sign": False},
    "a block an output, signs": {"num_buckets": 75, "blocks": OUTPUTS, "bias": False},
    "identity": {"num_buckets": WIDTH * OUTPUTS, "identity": True},
    "shared buckets": {"buckets": nn.Parameter(torch.linspace(-2, 1, 20)), "seed": 3},
}


def make(**options) -> HashedLinear:
    return HashedLinear(WIDTH, OUTPUTS, **({"tile": 1} | options))


def test_master_a_bucket_a_weight_is_the_dense_layer() -> None:
    """Forward and backward, and after a step of an optimizer; sparse rows and dense ones."""
    ours = HashedLinear(WIDTH, OUTPUTS, identity=True)
    theirs = nn.Linear(WIDTH, OUTPUTS)
    with torch.no_grad():
        theirs.weight.copy_(ours.weight.dense())
        theirs.bias.copy_(ours.bias)
    x = sparse_rows()
    dense = torch.from_numpy(x.to_scipy().toarray())
    optimizer = torch.optim.SGD([*ours.parameters(), *theirs.parameters()], 0.1)
    for rows in (x, dense, x):
        y, z = ours(rows), theirs(dense)
        torch.testing.assert_close(y, z)
        cotangent = torch.randn_like(z)
        optimizer.zero_grad()
        torch.autograd.backward([y, z], [cotangent, cotangent])
        torch.testing.assert_close(ours.weight.buckets.grad.view(OUTPUTS, WIDTH), theirs.weight.grad)
        torch.testing.assert_close(ours.bias.grad, theirs.bias.grad)
        optimizer.step()


@pytest.mark.parametrize("options", LAYERS.values(), ids=LAYERS)
def test_sparse_and_dense_rows_see_one_virtual_weight(options) -> None:
    """Forward and backward."""
    layer, x = make(**options), sparse_rows()
    leaves = list(layer.parameters())
    want = layer(torch.from_numpy(x.to_scipy().toarray()))
    torch.testing.assert_close(layer(x), want)
    pairs = some_pairs()
    rows = torch.repeat_interleave(torch.arange(ROWS), torch.from_numpy(pairs.counts))
    at_pairs = want[rows, torch.from_numpy(pairs.ids).long()]
    torch.testing.assert_close(layer(x, pairs), at_pairs)
    cotangent = torch.randn(len(pairs.ids))
    wanted = torch.autograd.grad(at_pairs, leaves, cotangent)
    for ours, theirs in zip(torch.autograd.grad(layer(x, pairs), leaves, cotangent), wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_active_sets_choose_the_outputs() -> None:
    layer, x, pairs = make(num_buckets=40), sparse_rows(), some_pairs()
    values = layer(x, per_row(pairs))
    assert isinstance(values, ActiveValues)
    assert torch.equal(values.values, layer(x, pairs))
    assert torch.equal(layer(x, all_active(OUTPUTS, None, ROWS)), layer(x))
    ids = np.array([11, 2, 5], np.int32)
    shared = ActiveSet(OUTPUTS, ids, np.ones(3, np.float32), ROWS)
    assert torch.equal(layer(x, shared), layer(x)[:, ids])
    none = ActiveSet(OUTPUTS, ids[:0], np.ones(0, np.float32), ROWS)
    assert layer(x, none).shape == (ROWS, 0)


def test_gradients_reach_the_layer_before_it() -> None:
    layer, pairs = HashedLinear(OUTPUTS, WIDTH, num_buckets=30, tile=1), some_pairs()
    values = torch.randn(len(pairs.ids), requires_grad=True)
    active = ActiveValues(per_row(pairs), values)
    cotangent = torch.randn(ROWS, WIDTH)
    (ours,), (theirs,) = (
        torch.autograd.grad(out, [values], cotangent) for out in (layer(active), layer(active.to_dense()))
    )
    torch.testing.assert_close(ours, theirs)


def test_signs_and_places_are_spread() -> None:
    """Of many pairs, in blocks of every size: uniform places, as many signs of each kind, few coincidences."""
    features, outputs = torch.meshgrid(torch.arange(2000), torch.arange(50), indexing="ij")
    for size in (2, 7, 64, 1000):
        places, signs = places_and_signs(features, outputs, torch.full_like(outputs, size), 4)
        assert int(places.min()) == 0
        assert int(places.max()) == size - 1
        counts = torch.bincount(places.flatten(), minlength=size)
        assert float(((counts - 1e5 / size) ** 2 / (1e5 / size)).sum()) < size + 6 * (2 * size) ** 0.5
        assert abs(float(signs.double().mean())) < 0.02
        assert abs(float((signs * (places % 2 * 2 - 1)).double().mean())) < 0.03
    # two features that share a bucket of one output do not share one of another
    places, _ = places_and_signs(features, outputs, torch.full_like(outputs, 10), 0)
    together = (places[:1000] == places[1000:]).double()
    assert abs(float((together[:, 0] * together[:, 1]).mean()) - 0.01) < 0.012


def test_the_state_dict_holds_buckets_and_bias() -> None:
    layer = make(num_buckets=90, blocks=5, seed=3)
    assert sorted(layer.state_dict()) == ["bias", "weight.buckets"]
    again = make(num_buckets=90, blocks=5, seed=3)
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again(sparse_rows()), layer(sparse_rows()))
    other = make(num_buckets=90, blocks=5, seed=4)
    other.load_state_dict(layer.state_dict())
    assert not torch.equal(other(sparse_rows()), layer(sparse_rows()))


def test_bad_input_is_refused() -> None:
    layer, x, pairs = make(num_buckets=50), sparse_rows(), some_pairs()
    with pytest.raises(InputError, match="x must have 24 columns; got 25"):
        layer(sparse_rows(width=25))
    with pytest.raises(InputError, match="pairs must be for 8 rows; got 9"):
        layer(sparse_rows(8), pairs)
    for wrong in (Ragged(pairs.indptr, pairs.ids + 9), Ragged(pairs.indptr, pairs.ids - 9)):
        with pytest.raises(InputError, match=r"outputs of pairs must lie in \[0, 15\)"):
            layer(x, wrong)
    with pytest.raises(InputError, match="indptr of pairs must end at their number"):
        layer(x, Ragged(pairs.indptr, pairs.ids[:-1]))
    with pytest.raises(InputError, match="pairs go with sparse rows"):
        layer(torch.zeros(ROWS, WIDTH), pairs)
    with pytest.raises(InputError, match="sparse rows need tile 1; got 8; make the layer with tile=1"):
        make(num_buckets=50, tile=8)(x)


def test_no_rows() -> None:
    assert make(num_buckets=50)(sparse_rows().take(np.arange(0))).shape == (0, OUTPUTS)
