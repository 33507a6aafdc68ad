"""Every config on every layer type, and what holds for all of them."""

from __future__ import annotations

import copy

import pytest
import torch
from compress.small_models import TiedLanguageModel, assert_same
from nn.folded_cases import CASES, Case
from torch import nn

import hashfold
from hashfold.compress import CodebookConfig, HashConfig, PruneConfig, compress
from hashfold.compress.config import Config
from hashfold.compress.registry import SCHEMES
from hashfold.errors import InputError
from hashfold.nn.folded import FOLDED_LAYERS, FoldedLinear, folded_weights, unfold_layer, weight_matrices

CONFIGS: dict[str, Config] = {
    "element-wise hash": HashConfig(2, tile=1),
    "tiles without signs": HashConfig(1.5, tile=4, sign=False),
    "codebook": CodebookConfig(3),
    "codebooks of groups": CodebookConfig(2, group_rows=4, group_cols=3),
    "vectors": CodebookConfig(4, dim=2),
    "pruned codebook": CodebookConfig(2, prune=PruneConfig(0.5)),
    "pruned": PruneConfig(0.4, "global"),
}

each_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
each_layer = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def test_every_scheme_is_here() -> None:
    assert {type(config) for config in CONFIGS.values()} == set(SCHEMES)


def dense_of(case: Case) -> nn.Module:
    torch.manual_seed(2)
    return case.make()


@each_config
@each_layer
def test_every_config_on_every_layer(config: Config, case: Case) -> None:
    """It is the torch layer of weights near those it had; the model handed in is left alone."""
    model = nn.ModuleDict({"layer": dense_of(case)}).eval()
    before = copy.deepcopy(model)
    made = compress(model, config)["layer"]
    assert_same(model, before)
    assert not made.training
    dense = made if type(made) in FOLDED_LAYERS else unfold_layer(made)
    inputs = case.inputs()
    for mine, yours in zip(case.call(made, inputs), case.call(dense, inputs), strict=True):
        torch.testing.assert_close(mine, yours)
    for (name, old), new in zip(
        weight_matrices(model["layer"]).items(), weight_matrices(dense).values(), strict=True
    ):
        assert float((new - old).norm()) < float(old.norm()), name
    stored = [p for p in made.parameters() if p.requires_grad]
    sum(y.square().sum() for y in case.call(made, inputs)).backward()
    assert all(p.grad is not None and not p.grad.isnan().any() for p in stored)


@each_config
def test_tied_weights_stay_tied(config: Config) -> None:
    torch.manual_seed(0)
    model = TiedLanguageModel()
    made = compress(model, config)
    assert made.output.weight is made.embedding.weight
    assert model.output.weight is model.embedding.weight
    assert made(torch.arange(12).view(3, 4)).shape == (12, 50)


@each_config
def test_a_layer_met_twice_is_one_layer(config: Config) -> None:
    layer = nn.Linear(8, 8)
    made = compress(nn.Sequential(layer, nn.ReLU(), layer), config)
    assert made[0] is made[2]
    alone = compress(layer, config)
    torch.testing.assert_close(alone.state_dict()["bias"], layer.bias)


@each_config
def test_the_same_bits_each_time(config: Config) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 16), nn.Linear(16, 16))
    assert_same(compress(model, config), compress(copy.deepcopy(model), config))


def test_no_two_layers_hash_alike() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    seeds = {weight.seed for weight in folded_weights(compress(model, HashConfig(2, tile=1))).values()}
    assert len(seeds) == 2


def test_frozen_stays_frozen_and_shared_biases_shared() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))
    model[0].weight.requires_grad_(False)
    model[1].bias = model[0].bias
    made = compress(model, CodebookConfig(2))
    assert not made[0].weight.codebook.requires_grad
    assert made[1].weight.codebook.requires_grad
    assert made[0].bias is made[1].bias
    assert made[0].bias is not model[0].bias


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.body = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
        self.head = nn.Linear(16, 4)


def bits_of(made: nn.Module) -> dict[str, object]:
    return {
        name.removesuffix(".weight"): getattr(weight, "bits", "hash")
        for name, weight in folded_weights(made).items()
    }


def test_names_go_before_types_before_the_default() -> None:
    four, three, two = (CodebookConfig(bits) for bits in (4, 3, 2))
    made = compress(Net(), {"default": four, nn.Linear: three, r"body\.0": two, "head": HashConfig(2, tile=1)})
    assert bits_of(made) == {"conv": 4, "body.0": 2, "body.1": 3, "head": "hash"}
    made = compress(Net(), {r"body\..*": two, r"body\.1": three})
    assert bits_of(made) == {"body.0": 2, "body.1": 2}
    made = compress(Net(), {"default": four, nn.Conv2d: None, "head": None})
    assert bits_of(made) == {"body.0": 4, "body.1": 4}
    assert type(made.head) is nn.Linear
    assert type(made.norm) is nn.BatchNorm2d


def test_the_module_can_be_called() -> None:
    made = hashfold.compress(nn.Linear(4, 4), hashfold.CodebookConfig(bits=2))
    assert type(made) is FoldedLinear
    assert hashfold.compress.compress is compress


def test_pruned_weights_are_zero_and_the_largest_are_kept() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 30))
    with torch.no_grad():
        model[1].weight.mul_(4)
    each, together = compress(model, PruneConfig(0.75)), compress(model, PruneConfig(0.75, "global"))
    assert [int((layer.weight == 0).sum()) for layer in each] == [75, 225]
    zeros = [int((layer.weight == 0).sum()) for layer in together]
    assert sum(zeros) == 300
    assert zeros[0] > 90
    coded = compress(model, CodebookConfig(2, prune=PruneConfig(0.75)))
    for mine, yours in zip(coded, each, strict=True):
        assert torch.equal(mine.weight.dense() == 0, yours.weight == 0)
        assert torch.equal(mine.weight.unpacked() == 0, yours.weight == 0)


def test_equal_magnitudes_are_pruned_in_number() -> None:
    model = nn.Linear(10, 10)
    nn.init.constant_(model.weight, -0.5)
    assert int((compress(model, PruneConfig(0.3)).weight == 0).sum()) == 30
    assert int((compress(model, PruneConfig(0.001)).weight == 0).sum()) == 0


def test_a_transformer_layer_runs_without_its_fused_kernel() -> None:
    torch.manual_seed(0)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2).eval()
    made, x = compress(encoder, CodebookConfig(8)), torch.randn(2, 5, 16)
    with torch.inference_mode():
        torch.testing.assert_close(made(x), encoder(x), rtol=0, atol=0.05)


def broken(change) -> nn.Module:
    model = Net()
    change(model)
    return model


def set_nan(model: Net) -> None:
    model.body[1].weight.data[2, 3] = float("nan")


def tie_to_dense(model: Net) -> None:
    model.extra = nn.Bilinear(1, 1, 1)
    model.extra.weight = model.head.weight


def hook(model: Net) -> None:
    model.head.register_forward_hook(lambda *_: None)


class Odd(nn.Linear):
    pass


FOUR = CodebookConfig(4)
BAD = {
    "nan": (broken(set_nan), FOUR, r"body\.1\.weight must be finite; got nan"),
    "type": (Net(), {"norm": FOUR}, "layer norm.* got BatchNorm2d"),
    "subclass": (nn.Sequential(Odd(4, 4)), {nn.Linear: FOUR}, "layer 0.* got Odd"),
    "ratio": (Net(), HashConfig(100), r"conv\.weight: HashConfig: ratio must leave at least 8 buckets"),
    "blocks": (Net(), HashConfig(2, blocks=5), r"conv\.weight: .*blocks must be"),
    "tied": (broken(tie_to_dense), FOUR, r"head\.weight must be folded in all .* extra\.weight is the same"),
    "hooks": (broken(hook), FOUR, "layer head must have no hooks"),
    "half": (Net().half(), FOUR, r"conv\.weight must be float32 or float64 on the CPU"),
    "weight norm": (nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), {".*": FOUR}, "layer"),
    "max_norm": (nn.Embedding(4, 4, max_norm=1.0), FOUR, "max_norm"),
    "nothing": (nn.ReLU(), FOUR, "model must have a layer to fold"),
    "all skipped": (Net(), {"default": None}, "model must have a layer to fold"),
    "typo": (Net(), {"default": FOUR, "hed": None}, "none for 'hed'"),
    "pattern": (Net(), {"(": FOUR}, "regular expressions"),
    "key": (Net(), {3: FOUR}, "keys must be"),
    "value": (Net(), {"head": 4}, "must be a config or None"),
    "config": (Net(), 4, "config must be a config, or a mapping"),
    "model": ("model", FOUR, "model must be a torch module"),
    "no data": (Net(), CodebookConfig(4, weighting="activation"), "data must be given"),
    "no loss": (Net(), CodebookConfig(4, weighting="fisher"), "data and loss must be given"),
}


@pytest.mark.parametrize(("model", "config", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_is_refused_and_the_model_left_alone(model, config, message: str) -> None:
    before = copy.deepcopy(model)
    with pytest.raises(InputError, match=rf"^compress: .*{message}"):
        compress(model, config)
    if isinstance(model, nn.Module):
        assert [type(part) for part in model.modules()] == [type(part) for part in before.modules()]
        for old, new in zip(before.state_dict().values(), model.state_dict().values(), strict=True):
            torch.testing.assert_close(old, new, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("first", "second"), [(FOUR, CodebookConfig(3)), (FOUR, None), (HashConfig(2, tile=1), FOUR)]
)
def test_tied_weights_with_two_configs_are_refused(first: Config, second: Config | None) -> None:
    with pytest.raises(InputError, match=r"(embedding|output)\.weight must be folded in all layers"):
        compress(TiedLanguageModel(), {"embedding": first, "output": second})


@pytest.mark.parametrize(
    "make",
    [
        lambda: HashConfig(0.5),
        lambda: HashConfig(tile=3),
        lambda: HashConfig(seed=-1),
        lambda: CodebookConfig(0),
        lambda: CodebookConfig(9),
        lambda: CodebookConfig(dim=2, group_cols=3),
        lambda: CodebookConfig(weighting="hessian"),
        lambda: CodebookConfig(prune=0.5),
        lambda: CodebookConfig(dim=2, prune=PruneConfig(0.5)),
        lambda: CodebookConfig(tuning="dkm"),
        lambda: PruneConfig(1.0),
        lambda: PruneConfig(float("nan")),
        lambda: PruneConfig(0.5, "network"),
        lambda: PruneConfig(0.5, steps=(5, 2)),
        lambda: hashfold.DKM(temperature=0),
        lambda: hashfold.StraightThrough(-1),
    ],
)
def test_bad_settings(make) -> None:
    with pytest.raises(InputError, match="must be"):
        make()
