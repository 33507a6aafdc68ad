"""Models of sparse rows and looked-up neurons, folded: what must go on working."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from compress.small_models import assert_same
from nn.folded_cases import sparse
from torch import Tensor, nn

from hashfold import functional
from hashfold.compress import (
    CodebookConfig,
    HashConfig,
    PruneConfig,
    Schedule,
    compress,
    convert,
    load,
    prepare,
    save,
)
from hashfold.compress.config import Config
from hashfold.compress.export import export_onnx, to_dense
from hashfold.errors import InputError
from hashfold.index import INDEXES
from hashfold.nn import FoldedLSHLinear, FoldedSparseLinear, LSHLinear, SparseLinear, folded_weights
from hashfold.optim import RowAdam
from hashfold.sparse import CsrBatch, RaggedIds

FEATURES, WIDTH, LABELS = 30, 8, 40
CONFIGS: dict[str, Config] = {
    "hashed": HashConfig(2, tile=1),
    "codebook": CodebookConfig(4),
    "pruned": PruneConfig(0.5),
}
each_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


class Net(nn.Module):
    """Sparse rows to looked-up labels."""

    def __init__(self, index: str = "exact", **options) -> None:
        super().__init__()
        self.input = SparseLinear(FEATURES, WIDTH)
        self.output = LSHLinear(WIDTH, LABELS, index=index, index_options=options)

    def forward(self, x: CsrBatch, active=None):
        return self.output(torch.relu(self.input(x)), active)

    def found(self, x: CsrBatch, k: int = 5):
        return self.output.candidates(torch.relu(self.input(x)).detach(), k)


class Tied(nn.Module):
    """From features to a code and back, by one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = SparseLinear(FEATURES, WIDTH)
        self.decoder = LSHLinear(WIDTH, FEATURES, index="exact")
        self.decoder.weight = self.encoder.weight

    def forward(self, x: CsrBatch) -> Tensor:
        return self.decoder(self.encoder(x))


def made(model: type[nn.Module] = Net, **options) -> nn.Module:
    torch.manual_seed(4)
    model = model(**options)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


def rows() -> CsrBatch:
    torch.manual_seed(5)
    return sparse(6, FEATURES)


@each_config
@pytest.mark.parametrize("index", [name for name, kind in INDEXES.items() if kind.takes_virtual])
def test_looks_up_among_the_folded_rows(index: str, config: Config) -> None:
    """Types, biases and the index's settings are kept; candidates are those of the weights as they are now."""
    model, x = made(index=index), rows()
    model.found(x)  # built of the weights as they were
    folded = compress(model, config)
    if not isinstance(config, PruneConfig):
        assert (type(folded.input), type(folded.output)) == (FoldedSparseLinear, FoldedLSHLinear)
    assert folded.output.index is not model.output.index
    assert folded.output.index.config() == model.output.index.config()
    for layer in ("input", "output"):
        assert torch.equal(getattr(folded, layer).bias, getattr(model, layer).bias)
    dense = to_dense(folded)
    assert (type(dense.input), type(dense.output)) == (SparseLinear, LSHLinear)
    torch.testing.assert_close(folded(x), dense(x))
    dense.output.rebuild()
    ours, theirs = folded.found(x), dense.found(x)
    np.testing.assert_array_equal(ours.ids, theirs.ids)
    if index == "exact":
        best = folded(x).detach().topk(5).values
        np.testing.assert_allclose(ours.scores.reshape(-1, 5), best, rtol=1e-5)


@each_config
def test_a_weight_of_both_stays_one(config: Config) -> None:
    model, x = made(Tied), rows()
    folded = compress(model, config)
    assert folded.encoder.weight is folded.decoder.weight
    assert len(folded_weights(folded)) == (0 if isinstance(config, PruneConfig) else 1)
    torch.testing.assert_close(folded(x), to_dense(folded)(x))


@each_config
@pytest.mark.parametrize("given", ["factory", "dense", "built", "folded"])
def test_a_file_gives_it_back(tmp_path, config: Config, given: str) -> None:
    folded, x = compress(made(), config), rows()
    save(folded, tmp_path / "m", entropy=True)
    built = made()
    built.found(x)
    architecture = {"factory": Net, "dense": Net(), "built": built, "folded": compress(made(), config)}[given]
    loaded = load(tmp_path / "m", architecture)
    assert_same(folded, loaded)
    np.testing.assert_array_equal(loaded.found(x).ids, folded.found(x).ids)


@each_config
def test_the_state_dict_makes_an_equal_model(config: Config) -> None:
    folded, x = compress(made(), config), rows()
    other = compress(made(), config)
    with torch.no_grad():
        for value in folded.parameters():
            value.mul_(-1.0)
    other.found(x)
    other.load_state_dict(folded.state_dict())
    assert_same(other, folded)
    np.testing.assert_array_equal(other.found(x).ids, folded.found(x).ids)


def losses(model: nn.Module, steps: int = 12) -> list[float]:
    """Of a few steps with looked-up negatives, by plain Adam and `loss_step`."""
    x, labels = rows(), RaggedIds.from_lists([[3], [1, 7], [39], [9], [3, 4, 5], []], LABELS)
    optimizer, schedule, values = torch.optim.Adam(model.parameters(), lr=0.02), Schedule(model), []
    for step in range(steps):
        h = functional.relu_dropout(model.input(x), 0.0, 0)
        active = model.output.lookup_shared(h.detach(), labels, hard_negatives=2, uniform=20, seed=step)
        value, grad = model.output.loss_step(h.detach(), active, "softmax")
        torch.autograd.backward(h, grad)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        values.append(value)
    return values


@pytest.mark.parametrize("config", [HashConfig(2, tile=1), CodebookConfig(3)])
def test_what_is_folded_trains(config: Config) -> None:
    values = losses(compress(made(), config))
    assert values[-1] < 0.9 * values[0]


@each_config
def test_prepared_it_trains_and_looks_up_as_what_it_becomes(config: Config) -> None:
    model = prepare(made(), config)
    values = losses(model) if not isinstance(config, PruneConfig) else [1.0, 0.0]
    assert values[-1] < 0.9 * values[0]
    model.output.rebuild()
    small, x = convert(model), rows()
    torch.testing.assert_close(small(x), model(x))
    np.testing.assert_array_equal(small.found(x).ids, model.found(x).ids)


@pytest.mark.parametrize("weighting", ["fisher", "activation"])
def test_weights_that_the_rows_use_count(weighting: str) -> None:
    """Features that no row has are left to what is over."""
    x = CsrBatch.from_scipy(rows().to_scipy().multiply(np.arange(FEATURES) < 10).tocsr().astype(np.float32))
    model = made()
    folded = compress(
        model, CodebookConfig(2, weighting=weighting), data=[x], loss=lambda net, batch: net(batch).square().mean()
    )
    off = (folded.input.weight.dense() - model.input.weight).square().mean(1).detach()
    used = np.unique(x.indices)
    unused = np.setdiff1d(np.arange(FEATURES), used)
    assert float(off[used].mean()) < float(off[unused].mean())


def fused() -> nn.Module:
    model = made()
    RowAdam(model.parameters()).fuse(model.output)
    return model


def not_a_number() -> nn.Module:
    model = made()
    model.input.weight.data[3, 2] = float("nan")
    return model


BAD = {
    "tree of copies": (made(index="tree"), "layer output.* must take virtual rows; got tree over a copy"),
    "copies": (made(precision="int8"), "layer output.* must take virtual rows; got exact over a copy"),
    "fused": (fused(), r"layer output must not be fused with an optimizer.*unfuse\(\)"),
    "nan": (not_a_number(), r"input\.weight must be finite; got nan"),
}


@pytest.mark.parametrize(("model", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_is_refused_and_the_model_left_whole(model: nn.Module, message: str) -> None:
    before, x = {name: value.clone() for name, value in model.state_dict().items()}, rows()
    parts = list(model.modules())
    for of in (compress, prepare):
        with pytest.raises(InputError, match=rf"^{of.__name__}: .*{message}"):
            of(model, CodebookConfig(3))
    assert list(model.modules()) == parts
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)
    assert model(x).shape == (6, LABELS)


def test_within_a_budget() -> None:
    model, x = made(), rows()
    folded = compress(model, budget=1800, data=[x], loss=lambda net, batch: net(batch).square().mean())
    assert list(folded_weights(folded)) == ["input.weight", "output.weight"]
    assert folded.found(x).ids.shape == (6 * 5,)


def test_there_is_no_onnx_of_it(tmp_path) -> None:
    pytest.importorskip("onnxscript")
    with pytest.raises(InputError, match="layers must be torch's; got SparseLinear as input"):
        export_onnx(compress(made(), CodebookConfig(3)), tmp_path / "m.onnx", (rows(),))
    assert not list(tmp_path.iterdir())


def test_a_layer_that_was_fused_is_folded() -> None:
    model = fused()
    model.output.unfuse()
    assert type(compress(model, CodebookConfig(3)).output) is FoldedLSHLinear


@pytest.mark.parametrize("index", INDEXES)
def test_a_copy_looks_at_its_own_weights(index: str) -> None:
    """From tables in the state of the layer's own."""
    model, x = made(index=index), rows()
    model.output.rebuild()
    with torch.no_grad():
        model.output.weight.add_(torch.randn(LABELS, WIDTH))
    copied, scores = copy.deepcopy(model), model.found(x).scores
    np.testing.assert_array_equal(copied.found(x).ids, model.found(x).ids)
    np.testing.assert_array_equal(copied.found(x).scores, model.found(x).scores)
    with torch.no_grad():
        copied.output.weight.zero_()
        copied.output.bias.zero_()
    if index != "exact":  # others look at their tables first
        copied.output.rebuild()
    assert not copied.found(x).scores.any() or index == "lsh"  # its scores are collisions
    np.testing.assert_array_equal(model.found(x).scores, scores)
