"""The hashed layer against the dense one it stands for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hashfold.errors import InputError
from hashfold.index import all_active
from hashfold.kernels.hashed_linear import places_and_signs
from hashfold.nn import ActiveValues, HashedLinear
from hashfold.sparse import ActiveSet, CsrBatch, Ragged

ROWS, WIDTH, OUTPUTS = 9, 24, 15
SIZES = np.array([4, 0, 30, *[5] * 12])


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


def virtual_weight(layer: HashedLinear) -> Tensor:
    """(in_features, out_features), entry by entry; differentiable."""
    features, outputs = torch.meshgrid(torch.arange(WIDTH), torch.arange(OUTPUTS), indexing="ij")
    places, signs = places_and_signs(features, outputs, layer.sizes[outputs], layer.seed)
    known = layer.sizes[outputs] > 0
    weight = layer.buckets[torch.where(known, layer.offsets[outputs] + places, 0)] * known
    return weight * signs if layer.sign else weight


LAYERS = {
    "shared": {"num_buckets": 50},
    "shared, signs": {"num_buckets": 1, "sign": True},
    "blocks": {"num_buckets": int(SIZES.sum()), "sizes": SIZES, "seed": 7},
    "blocks, signs": {"num_buckets": int(SIZES.sum()), "sizes": SIZES, "sign": True, "bias": False},
}


def test_master_a_bucket_a_weight_is_the_dense_layer() -> None:
    """Forward and backward, and after a step of an optimizer."""
    ours = HashedLinear(WIDTH, OUTPUTS, WIDTH * OUTPUTS, hash="identity")
    theirs = nn.Linear(WIDTH, OUTPUTS)
    with torch.no_grad():
        ours.bias.normal_()
        theirs.weight.copy_(ours.buckets.view(OUTPUTS, WIDTH))
        theirs.bias.copy_(ours.bias)
    x = sparse_rows()
    dense = torch.from_numpy(x.to_scipy().toarray())
    optimizer = torch.optim.SGD([*ours.parameters(), *theirs.parameters()], 0.1)
    for _ in range(2):
        y, z = ours(x), theirs(dense)
        torch.testing.assert_close(y, z)
        cotangent = torch.randn_like(z)
        optimizer.zero_grad()
        torch.autograd.backward([y, z], [cotangent, cotangent])
        torch.testing.assert_close(ours.buckets.grad.view(OUTPUTS, WIDTH), theirs.weight.grad)
        torch.testing.assert_close(ours.bias.grad, theirs.bias.grad)
        optimizer.step()


@pytest.mark.parametrize("options", LAYERS.values(), ids=LAYERS)
def test_equals_its_virtual_weight_forward_and_backward(options) -> None:
    layer, x = HashedLinear(WIDTH, OUTPUTS, **options), sparse_rows()
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    leaves = list(layer.parameters())
    want = torch.from_numpy(x.to_scipy().toarray()) @ virtual_weight(layer)
    want = want if layer.bias is None else want + layer.bias
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
    layer, x, pairs = HashedLinear(WIDTH, OUTPUTS, 40), sparse_rows(), some_pairs()
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
    layer, pairs = HashedLinear(OUTPUTS, WIDTH, 30, sign=True), some_pairs()
    values = torch.randn(len(pairs.ids), requires_grad=True)
    y = layer(ActiveValues(per_row(pairs), values))
    whole = HashedLinear(OUTPUTS, WIDTH, 30, sign=True)
    whole.load_state_dict(layer.state_dict())
    weight = torch.stack([whole(CsrBatch.from_scipy(row[None].astype("f")))[0] for row in np.eye(OUTPUTS)])
    dense = torch.zeros(ROWS, OUTPUTS).index_put(
        (
            torch.repeat_interleave(torch.arange(ROWS), torch.from_numpy(pairs.counts)),
            torch.tensor(pairs.ids).long(),
        ),
        values,
    )
    cotangent = torch.randn(ROWS, WIDTH)
    (ours,), (theirs,) = (torch.autograd.grad(out, [values], cotangent) for out in (y, dense @ weight.detach()))
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


def test_the_state_dict_makes_an_equal_layer() -> None:
    layer = HashedLinear(WIDTH, OUTPUTS, int(SIZES.sum()), sizes=SIZES, seed=3)
    assert sorted(layer.state_dict()) == ["bias", "buckets", "sizes"]
    again = HashedLinear(WIDTH, OUTPUTS, int(SIZES.sum()), sizes=SIZES[::-1].copy(), seed=3)
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again(sparse_rows()), layer(sparse_rows()))
    shared = HashedLinear(WIDTH, OUTPUTS, int(SIZES.sum()))
    with pytest.raises(InputError, match="loaded sizes"):
        shared.load_state_dict(layer.state_dict())
    assert "one table" in repr(shared)


def test_the_generator_and_the_seed_decide() -> None:
    made = [HashedLinear(5, 4, 9, generator=torch.Generator().manual_seed(1)).buckets for _ in range(2)]
    assert torch.equal(*made)
    assert not torch.equal(HashedLinear(5, 4, 9).buckets, made[0])
    x, pairs = sparse_rows(), some_pairs()
    layers = [HashedLinear(WIDTH, OUTPUTS, 40, seed=seed) for seed in (0, 1)]
    layers[1].buckets = layers[0].buckets
    assert not torch.equal(layers[0](x, pairs), layers[1](x, pairs))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_buckets": 0}, "num_buckets"),
        ({"in_features": 0}, "in_features"),
        ({"seed": -1}, "seed"),
        ({"hash": "md5"}, "hash must be one of identity, murmur"),
        ({"hash": "identity"}, "needs num_buckets 360"),
        ({"hash": "identity", "num_buckets": 360, "sign": True}, "neither sizes nor sign"),
        ({"sizes": SIZES}, "of sum num_buckets 50; got a least of 0, a sum of 94"),
        ({"sizes": SIZES[1:]}, "sizes must have shape"),
        ({"sizes": [51, -1] + [0] * 13}, "at least 0"),
    ],
)
def test_bad_settings_are_refused(options, message) -> None:
    with pytest.raises(InputError, match=message):
        HashedLinear(**({"in_features": WIDTH, "out_features": OUTPUTS, "num_buckets": 50} | options))


def test_bad_input_is_refused() -> None:
    layer, x, pairs = HashedLinear(WIDTH, OUTPUTS, 50), sparse_rows(), some_pairs()
    with pytest.raises(InputError, match="x must have 24 columns; got 25"):
        layer(sparse_rows(width=25))
    with pytest.raises(InputError, match="pairs must be for 8 rows; got 9"):
        layer(sparse_rows(8), pairs)
    for wrong in (Ragged(pairs.indptr, pairs.ids + 9), Ragged(pairs.indptr, pairs.ids - 9)):
        with pytest.raises(InputError, match=r"outputs of pairs must lie in \[0, 15\)"):
            layer(x, wrong)
    with pytest.raises(InputError, match="indptr of pairs must end at their number"):
        layer(x, Ragged(pairs.indptr, pairs.ids[:-1]))


def test_no_rows() -> None:
    assert HashedLinear(WIDTH, OUTPUTS, 50)(sparse_rows().take(np.arange(0))).shape == (0, OUTPUTS)
