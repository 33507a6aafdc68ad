"""Models that are trained while they are folded: what they compute, what gets which gradient, what stays."""

from __future__ import annotations

import copy

import pytest
import torch
from compress.small_models import TiedLanguageModel, assert_same
from nn.folded_cases import CASES, Case
from torch import Tensor, nn

from hashfold.compress import (
    DKM,
    CodebookConfig,
    HashConfig,
    PruneConfig,
    Schedule,
    StraightThrough,
    compress,
    convert,
    prepare,
)
from hashfold.compress.config import Config
from hashfold.compress.dkm import SoftKMeans
from hashfold.compress.registry import SCHEMES
from hashfold.compress.transform import PreparedLayer
from hashfold.errors import InputError
from hashfold.nn import CodebookWeight

CONFIGS: dict[str, Config] = {
    "hash": HashConfig(2, tile=1),
    "fixed codes": CodebookConfig(2, group_rows=4),
    "refreshed codes": CodebookConfig(2, tuning=StraightThrough(1)),
    "refreshed vectors": CodebookConfig(2, dim=2, tuning=StraightThrough(1)),
    "pruned, fixed": CodebookConfig(2, prune=PruneConfig(0.5, steps=(0, 2), every=1)),
    "pruned, refreshed": CodebookConfig(2, prune=PruneConfig(0.5), tuning=StraightThrough(1)),
    "soft": CodebookConfig(2, group_rows=8, group_cols=8, tuning=DKM(1.0, iterations=2, block=50)),
    "soft vectors": CodebookConfig(1, dim=2, tuning=DKM()),
    "soft, pruned": CodebookConfig(2, prune=PruneConfig(0.5, "global"), tuning=DKM()),
    "pruned": PruneConfig(0.4, steps=(0, 2), every=1),
}
each_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
each_layer = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def test_every_scheme_is_here() -> None:
    assert {type(config) for config in CONFIGS.values()} == set(SCHEMES)


def train(model: nn.Module, call, steps: int = 3, rate: float = 0.01) -> None:
    schedule = Schedule(model)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], rate)
    for _ in range(steps):
        loss = sum((y - 1).square().mean() for y in call(model))
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
        optimizer.step()
        schedule.step()


@each_config
@each_layer
def test_every_config_on_every_layer(config: Config, case: Case) -> None:
    """Trained, it computes in eval mode what its converted model does; who was handed in is left alone."""
    torch.manual_seed(2)
    model = nn.ModuleDict({"layer": case.make()})
    before, inputs = copy.deepcopy(model), case.inputs()
    prepared = prepare(model, config)
    assert_same(model, before)
    start = copy.deepcopy(prepared)
    train(prepared, lambda made: case.call(made["layer"], inputs))
    assert any(not torch.equal(a, b) for a, b in zip(prepared.parameters(), start.parameters(), strict=True))
    prepared.eval()
    ours = case.call(prepared["layer"], inputs)
    trained = copy.deepcopy(prepared)
    made = convert(prepared)
    assert_same(prepared, trained)
    assert type(made["layer"]) is type(compress(model, config)["layer"])
    for mine, yours in zip(ours, case.call(made["layer"], inputs), strict=True):
        torch.testing.assert_close(mine, yours)


@each_config
def test_tied_weights_stay_tied(config: Config) -> None:
    torch.manual_seed(0)
    prepared = prepare(TiedLanguageModel(), config)
    ids = torch.arange(12).view(3, 4)
    train(prepared, lambda made: (made(ids),), steps=1)
    made = convert(prepared)
    assert made.output.weight is made.embedding.weight
    torch.testing.assert_close(made.eval()(ids), prepared.eval()(ids))


@each_config
def test_saved_and_loaded_it_goes_on_the_same(config: Config) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(9, 8), nn.Linear(8, 8)), torch.randn(5, 9)
    one, other = prepare(model, config), prepare(model, config)
    train(one, lambda made: (made(x),))
    other.load_state_dict(one.state_dict())
    for made in (one, other):
        train(made, lambda made: (made(x),))
    assert_same(one, other)


def quantised(layer: PreparedLayer) -> nn.Linear:
    """The dense layer of the weights that it sees."""
    dense = copy.deepcopy(layer.layer).requires_grad_(True)
    dense.weight.data = layer.transforms["weight"].shared.dense().detach()
    return dense


def test_a_shared_value_gets_the_sum_of_its_weights_gradients() -> None:
    """Han et al. 2016, equation 3; and the weight, straight through, the gradient of its value."""
    torch.manual_seed(0)
    layer = prepare(nn.Linear(20, 15), CodebookConfig(2, tuning=StraightThrough(5)))
    dense, x = quantised(layer), torch.randn(7, 20)
    for made in (layer, dense):
        made(x).square().sum().backward()
    torch.testing.assert_close(layer.layer.weight.grad, dense.weight.grad)
    shared: CodebookWeight = layer.transforms["weight"].shared
    sums = torch.zeros(4).index_add(0, shared.unpacked().flatten().int(), dense.weight.grad.flatten())
    torch.testing.assert_close(shared.codebook.grad.flatten(), sums)
    fixed = prepare(nn.Linear(20, 15), CodebookConfig(2))
    assert not fixed.layer.weight.requires_grad


@pytest.mark.parametrize("dim", [1, 3])
def test_refreshed_each_weight_has_the_nearest_value(dim: int) -> None:
    torch.manual_seed(0)
    config = CodebookConfig(2, dim=dim, group_rows=4, group_cols=6, tuning=StraightThrough(2))
    layer = prepare(nn.Linear(13, 9), config)
    schedule, shared = Schedule(layer), layer.transforms["weight"].shared
    weight = layer.layer.weight.data.normal_()
    shared.codebook.data = shared.codebook.data.flip(1)  # training can put them into any order
    before = shared.codes.clone()
    schedule.step()
    assert torch.equal(shared.codes, before)
    schedule.step()
    near = shared.dense()
    for codes in range(4):  # no other code would be nearer
        other = CodebookWeight(9, 13, torch.full_like(shared.codes, 0x55 * codes), shared.codebook, 2, **groups())
        ours, theirs = (vector_errors(w - weight, dim) for w in (near, other.dense()))
        assert (ours <= theirs + 1e-6).all()


def groups() -> dict[str, int]:
    return {"group_rows": 4, "group_cols": 6}


def vector_errors(difference: Tensor, dim: int) -> Tensor:
    return nn.functional.pad(difference, (0, -13 % dim)).view(9, -1, dim).square().sum(2)


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_pruning_is_gradual_and_what_is_pruned_stays_zero(scope: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 20), nn.Tanh(), nn.Linear(20, 30))
    config = PruneConfig(0.8, scope, steps=(2, 10), every=4)
    prepared = prepare(model, config)
    schedule, x, zeros = Schedule(prepared), torch.randn(6, 10), []
    optimizer = torch.optim.SGD(prepared.parameters(), 0.1, momentum=0.9)
    for _ in range(14):
        prepared(x).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        parts = [layer.transforms["weight"] for layer in (prepared[0], prepared[2])]
        zeros.append([int(part.pruned.sum()) for part in parts])
    made = convert(prepared)
    assert [int((made[at].weight == 0).sum()) for at in (0, 2)] == zeros[-1]
    done = {4: 0.8 * (1 - 0.75**3), 8: 0.8 * (1 - 0.25**3), 10: 0.8}
    for step, expected in done.items():
        counts = zeros[step - 1]
        if scope == "layer":
            assert counts == [int(expected * 200), int(expected * 600)]
        assert abs(sum(counts) - expected * 800) <= 2
    assert zeros[0] == [0, 0]
    assert zeros[-1] == zeros[9]


@pytest.mark.parametrize("tuning", [StraightThrough(), StraightThrough(1), DKM()], ids=repr)
def test_pruned_weights_of_a_codebook_are_zero_throughout(tuning: StraightThrough | DKM) -> None:
    torch.manual_seed(0)
    config = CodebookConfig(2, prune=PruneConfig(0.6, steps=(0, 3), every=1), tuning=tuning)
    layer, x = prepare(nn.Linear(12, 10), config), torch.randn(4, 12)
    train(layer, lambda made: (made(x),), 4)
    pruned = layer.transforms["weight"].pruned
    made = convert(layer)
    assert int(pruned.sum()) == 72
    assert torch.equal(made.weight.dense() == 0, pruned)
    assert torch.equal(made.weight.unpacked() == 0, pruned)


def test_a_schedule_resumes() -> None:
    layer = prepare(nn.Linear(10, 10), PruneConfig(0.5, steps=(0, 4), every=1))
    first, second = Schedule(layer), Schedule(layer)
    first.step()
    second.load_state_dict(first.state_dict())
    for _ in range(3):
        second.step()
    assert int(layer.transforms["weight"].pruned.sum()) == 50
    with pytest.raises(InputError, match="steps must be an integer"):
        second.load_state_dict({})


def soft(block: int, dtype: torch.dtype = torch.float64, **options) -> tuple[SoftKMeans, Tensor]:
    torch.manual_seed(0)
    weight = torch.randn(12, 10, dtype=dtype)
    config = CodebookConfig(2, tuning=DKM(2.0, 3, block), **options)
    shared = CodebookWeight.from_dense(weight, 2, dim=config.dim, zero=config.prune is not None)
    pruned = weight.abs() < 0.3 if config.prune else None
    return SoftKMeans(config, shared, pruned, weight), weight


@pytest.mark.parametrize("options", [{}, {"dim": 2}, {"prune": PruneConfig(0.5)}], ids=["", "vectors", "pruned"])
def test_soft_k_means_is_what_it_says_in_any_blocks(options: dict) -> None:
    """Beside the formulas of Cho et al. written out, forward and backward."""
    results = []
    for block in (7, 1 << 16):
        transform, weight = soft(block, **options)
        weight.requires_grad_()
        first, dim = int(transform.shared.zero), transform.shared.dim
        means, kept = transform.shared.codebook[0, first:].detach().clone(), weight.detach().abs() >= 0.3
        seen = transform(weight)
        vectors = weight.reshape(-1, dim)
        counted = kept.reshape(-1, 1).double() if first else torch.ones(len(vectors), 1).double()
        for _ in range(3):
            near = torch.softmax(-torch.cdist(vectors, means).square() / transform.temperatures[0], 1)
            means = ((near * counted).T @ vectors) / (near * counted).sum(0)[:, None]
        near = torch.softmax(-torch.cdist(vectors, means).square() / transform.temperatures[0], 1)
        expected = (near @ means).view_as(weight) * (kept if first else 1)
        cotangent = torch.linspace(-1, 2, weight.numel(), dtype=torch.float64).view_as(weight)
        gradients = [torch.autograd.grad(y, weight, cotangent)[0] for y in (seen, expected)]
        torch.testing.assert_close(seen, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(transform.shared.codebook[0, first:], means.detach(), rtol=1e-5, atol=1e-5)
        results.append((seen.detach(), gradients[0]))
    for small, whole in zip(*results, strict=True):
        torch.testing.assert_close(small, whole)


def test_soft_k_means_keeps_no_attention_for_backward() -> None:
    """What autograd saves is a few times the weight, not 2^bits times, in every iteration."""
    weight = torch.randn(200, 100, requires_grad=True)
    config = CodebookConfig(6, tuning=DKM(1.0, iterations=5, block=1000))
    transform = SoftKMeans(config, CodebookWeight.from_dense(weight.detach(), 6), None, weight.detach())
    saved: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        transform(weight).sum()
    assert sum(saved.values()) < 6 * weight.numel() * 4 < 64 * weight.numel() * 4


def test_what_was_not_prepared_cannot_be_converted() -> None:
    with pytest.raises(InputError, match="convert: model must be a prepared one; got Sequential"):
        convert(nn.Sequential(nn.Linear(3, 3)))


@pytest.mark.parametrize("again", [prepare, compress])
def test_what_is_prepared_is_converted_first(again) -> None:
    prepared = prepare(nn.Sequential(nn.Linear(3, 3)), CodebookConfig(2))
    with pytest.raises(InputError, match="must not be a prepared one; got 0 prepared; convert it first"):
        again(prepared, CodebookConfig(2))


def test_errors_name_the_layer_and_leave_the_model_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight.data[0, 0] = float("inf")
    with pytest.raises(InputError, match=r"prepare: 1\.weight must be finite; got inf"):
        prepare(model, CodebookConfig())
    assert type(model[0]) is nn.Linear


def test_a_transformer_layer_can_be_prepared() -> None:
    torch.manual_seed(0)
    model, x = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval(), torch.randn(2, 5, 16)
    prepared = prepare(model, CodebookConfig(8))
    with torch.no_grad():
        torch.testing.assert_close(prepared(x), model(x), rtol=0, atol=0.05)
