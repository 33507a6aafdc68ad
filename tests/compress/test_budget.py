"""The file fits the budget, and no better choice of schemes is overlooked."""

import itertools
import math

import numpy as np
import pytest
import torch
from compress.small_models import TiedLanguageModel, assert_same
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from hashfold import CodebookConfig, HashConfig, PruneConfig, compress
from hashfold.compress import allocate, budget, save
from hashfold.compress.budget import parse_bytes
from hashfold.compress.choice import Option, cheapest_loss, without_dominated
from hashfold.compress.files import encode
from hashfold.errors import InputError
from hashfold.nn.folded import CodebookWeight

SCHEMES = (
    *(CodebookConfig(bits=bits) for bits in (6, 4, 3, 2, 1)),
    *(CodebookConfig(bits=3, prune=PruneConfig(fraction)) for fraction in (0.5, 0.8, 0.9)),
    CodebookConfig(bits=4, dim=4),
    HashConfig(ratio=8),
)


def loss(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


@pytest.fixture(scope="module")
def digits():
    """A trained net of 64-100-50-10, and batches of its data."""
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 50), nn.ReLU(), nn.Linear(50, 10))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(8):
        for rows in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            loss(model, (x[rows], y[rows])).backward()
            optimizer.step()
    return model.eval(), [(x[:500], y[:500]), (x[500:1000], y[500:1000])]


def mean_loss(model, data) -> float:
    with torch.no_grad():
        return float(sum(loss(model, batch) for batch in data)) / len(data)


@pytest.fixture(scope="module")
def tight(digits):
    return allocate(*digits[:1], "5KB", digits[1], loss, schemes=SCHEMES)


def test_it_fits_and_is_what_it_says(digits, tight, tmp_path):
    model, data = digits
    assert tight.file_bytes <= 5_000
    assert save(tight.model, tmp_path / "m", entropy=True) == tight.file_bytes
    assert_same(tight.model, compress(model, tight.config))
    assert tight.loss == pytest.approx(mean_loss(tight.model, data), rel=1e-4)
    assert tight.dense_loss == pytest.approx(mean_loss(model, data))
    assert set(tight.layers) == {"0", "2", "4"}
    for name, options in tight.layers.items():
        assert tight.config[name] in [scheme for scheme, _, _ in options]
        sizes, losses = [o[1] for o in options], [o[2] for o in options]
        assert sizes == sorted(sizes)
        assert losses == sorted(losses, reverse=True)


def test_it_beats_one_scheme_for_all(digits, tight):
    model, data = digits
    beaten = 0
    for scheme in SCHEMES:
        uniform = compress(model, scheme)
        if len(encode(uniform, entropy=True)) <= 5_000:
            assert tight.loss < mean_loss(uniform, data)
            beaten += 1
    assert beaten > 2


def test_more_bytes_less_loss(digits, tight):
    model, data = digits
    wide = allocate(model, 12_000, data, loss, schemes=SCHEMES, rounds=1)
    assert 5_000 < wide.file_bytes <= 12_000
    assert wide.loss < tight.loss
    dense = allocate(model, "1MB", data, loss, schemes=SCHEMES[:2])
    assert dense.loss <= dense.dense_loss + 1e-6


def test_the_real_file_counts_however_wrong_the_estimates(digits, monkeypatch):
    model, data = digits
    known = budget._Search._file_bytes
    monkeypatch.setattr(budget._Search, "_file_bytes", lambda self, result: int(0.8 * known(self, result)))
    for size in (4_000, 6_000, 8_000):
        assert allocate(model, size, data, loss, schemes=SCHEMES, rounds=0).file_bytes <= size


def test_choosing_anew_never_makes_it_worse(digits, tight):
    once = allocate(*digits[:1], "5KB", digits[1], loss, schemes=SCHEMES, rounds=0)
    assert tight.loss <= once.loss


def test_the_one_call(digits):
    model, data = digits
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    made = compress(model, {"4": None, nn.Linear: CodebookConfig(bits=4)}, budget="20 KB", data=data, loss=loss)
    assert len(encode(made, entropy=True)) <= 20_000
    assert isinstance(made[4], nn.Linear)
    assert isinstance(made[0].weight, CodebookWeight)
    assert made[0].weight.bits == made[2].weight.bits == 4
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    half = allocate(model, "4KB", data, loss, schemes=SCHEMES, half="bias$", rounds=0)
    assert len(encode(half.model, entropy=True, half="bias$")) == half.file_bytes <= 4_000


def test_layers_that_share_are_folded_alike():
    torch.manual_seed(0)
    model = TiedLanguageModel().eval()
    data = [torch.randint(50, (4, 9)) for _ in range(2)]

    def next_word(model, ids):
        return F.cross_entropy(model(ids[:, :-1]), ids[:, 1:].flatten())

    schemes = (CodebookConfig(bits=4), CodebookConfig(bits=2))
    made = allocate(model, 10_000, data, next_word, schemes=schemes, rounds=1)
    assert made.file_bytes <= 10_000
    assert made.config["embedding"] == made.config["output"]
    assert made.model.output.weight is made.model.embedding.weight
    assert set(made.layers) == {"embedding", "lstm"}
    assert_same(made.model, compress(model, made.config))


def test_what_cannot_be_done(digits):
    model, data = digits
    with pytest.raises(
        InputError, match=r"budget must be at least [\d,]+ bytes, [\d,]+ of them for biases.*; got 900"
    ):
        allocate(model, 900, data, loss, schemes=SCHEMES[3:5])
    with pytest.raises(InputError, match="data and loss must be given beside a budget"):
        compress(model, budget=10_000, data=data)
    with pytest.raises(InputError, match="config or budget must be given"):
        compress(model)
    with pytest.raises(InputError, match="at least one batch"):
        compress(model, budget=10_000, data=[], loss=loss)
    with pytest.raises(InputError, match="must be a mapping"):
        compress(model, CodebookConfig(), budget=10_000, data=data, loss=loss)
    with pytest.raises(InputError, match=r"0\.weight: HashConfig: ratio"):
        allocate(model, 10_000, data, loss, config={"0": HashConfig(ratio=5000)}, schemes=SCHEMES[:1])
    with pytest.raises(InputError, match="no finite loss"):
        allocate(model, 10_000, data, lambda model, batch: torch.tensor(math.nan), schemes=SCHEMES[:1])


@pytest.mark.parametrize(
    ("text", "size"), [("64KB", 64_000), ("1.5 mb", 1_500_000), ("64KiB", 65_536), ("7", 7), (9, 9), ("12 B", 12)]
)
def test_sizes(text, size):
    assert parse_bytes("compress", text) == size


@pytest.mark.parametrize("text", ["", "KB", "-3KB", "3TB", "1e3", "64 I", 0, 1.5, None, True])
def test_no_sizes(text):
    with pytest.raises(InputError, match="budget must be"):
        parse_bytes("compress", text)


def test_no_choice_is_better():
    rng = np.random.default_rng(0)
    for _ in range(40):
        groups = [
            [Option(i, int(rng.integers(1, 60)), float(rng.normal())) for i in range(rng.integers(1, 6))]
            for _ in range(4)
        ]
        room = int(rng.integers(20, 160))
        fitting = [c for c in itertools.product(*groups) if sum(o.size for o in c) <= room]
        found = cheapest_loss([without_dominated(group) for group in groups], room)
        if not fitting:
            assert found is None
            continue
        chosen = [group[i] for group, i in zip(groups, found, strict=True)]
        assert sum(o.size for o in chosen) <= room
        assert sum(o.loss for o in chosen) == pytest.approx(min(sum(o.loss for o in c) for c in fitting))
    assert cheapest_loss([[Option(0, 1, 0.0)]], -1) is None
