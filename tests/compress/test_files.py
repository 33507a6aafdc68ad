"""Compressed models come back from their file bit for bit, and nothing else does."""

import base64
import json
import re
import threading

import pytest
import torch
from compress.small_models import (
    TiedLanguageModel,
    assert_same,
    dense_net,
    folded_language_model,
    folded_net,
    stored,
)
from safetensors.torch import load_file, save_file
from torch import nn

from hashfold import HashedLSHLinear
from hashfold.compress import CodebookConfig, HashConfig, PruneConfig, compress, load, prepare, save
from hashfold.compress.files import encode
from hashfold.errors import FileFormatError, InputError, MissingDependencyError
from hashfold.nn.folded import FoldedLinear, HashedWeight


@pytest.mark.parametrize("entropy", [False, True])
@pytest.mark.parametrize("given", ["factory", "dense", "folded"])
def test_round_trip(tmp_path, entropy, given):
    model, path = folded_language_model(), tmp_path / "m.safetensors"
    written = save(model, path, entropy=entropy)
    assert written == path.stat().st_size
    architecture = {"factory": TiedLanguageModel, "dense": TiedLanguageModel(), "folded": model}[given]
    again = load(path, architecture).eval()
    assert_same(model, again)
    ids = torch.randint(50, (3, 7), generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(ids), again(ids))
    assert again.output.weight is again.embedding.weight
    assert again.output.weight is not model.output.weight
    assert torch.equal(again.scale, model.scale)


@pytest.mark.parametrize("entropy", [False, True])
def test_shared_buckets_are_stored_once_and_shared_again(tmp_path, entropy):
    model = folded_net()
    save(model, tmp_path / "m", entropy=entropy)
    again = load(tmp_path / "m", dense_net)
    assert_same(model, again)
    assert again[5].weight.buckets is again[3].weight.buckets
    again(torch.randn(2, 1, 8, 8)).sum().backward()  # parameters are trained on
    assert again[3].weight.buckets.grad is not None


def test_what_is_left_trains_as_it_did(tmp_path):
    model = folded_net()
    model[0].bias.requires_grad_(False)
    architecture = dense_net()
    architecture[0].bias.requires_grad_(False)
    save(model, tmp_path / "m")
    again = load(tmp_path / "m", architecture)
    assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in model.parameters()]
    assert all(type(p) is nn.Parameter for p in again.parameters())


@pytest.mark.parametrize("entropy", [False, True])
def test_the_same_model_gives_the_same_bytes(entropy):
    assert encode(folded_language_model(), entropy=entropy) == encode(folded_language_model(), entropy=entropy)


@pytest.mark.parametrize("entropy", [False, True])
def test_half_is_rounded_and_smaller(tmp_path, entropy):
    model = folded_net()
    whole = save(model, tmp_path / "m", entropy=entropy)
    part = save(model, tmp_path / "m", entropy=entropy, half=r"bias$")
    least = save(model, tmp_path / "m", entropy=entropy, half=".")
    assert whole > part > least
    again = stored(load(tmp_path / "m", dense_net))
    for name, tensor in stored(model).items():
        assert torch.equal(again[name], tensor.half().float())
    with torch.no_grad():
        model[0].bias[0] = 1e6
    with pytest.raises(InputError, match=r"0\.bias must lie within float16"):
        save(model, tmp_path / "m", half="bias")


def test_any_dtype_comes_back(tmp_path):
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for i, dtype in enumerate((torch.bfloat16, torch.float16, torch.float64, torch.int8, torch.int64)):
                self.register_buffer(f"b{i}", torch.arange(-5, 7).to(dtype).view(3, 4))
            self.register_buffer("flags", torch.arange(9) % 2 == 0)
            self.register_buffer("empty", torch.zeros(0, 4))
            self.register_buffer("one", torch.tensor(-0.0))

    for entropy in (False, True):
        save(Odd(), tmp_path / "m", entropy=entropy)
        again = load(tmp_path / "m", Odd)
        assert_same(Odd(), again)
        assert torch.signbit(again.one)


def test_a_factory_that_looks_at_its_weights(tmp_path):
    def factory() -> nn.Module:
        model = dense_net()
        assert float(model[0].weight.abs().sum()) > 0  # cannot be told on the meta device
        return model

    save(folded_net(), tmp_path / "m")
    assert_same(folded_net(), load(tmp_path / "m", factory))


def test_layers_that_look_up_their_neurons(tmp_path):
    def factory() -> nn.Module:
        return nn.Sequential(nn.Linear(8, 16), HashedLSHLinear(16, 100, compression_ratio=4))

    model = factory()
    save(model, tmp_path / "m", entropy=True)
    assert_same(model, load(tmp_path / "m", factory))
    assert_same(model, load(tmp_path / "m", model))


def test_an_architecture_that_cannot_be_copied(tmp_path):
    model = folded_net()
    save(model, tmp_path / "m")
    model.lock = threading.Lock()
    with pytest.raises(InputError, match=r"must be one that can be copied.*give a callable"):
        load(tmp_path / "m", model)


def test_the_architecture_is_left_as_it_is(tmp_path):
    save(folded_net(), tmp_path / "m")
    architecture = dense_net()
    before = {name: t.clone() for name, t in architecture.state_dict().items()}
    load(tmp_path / "m", architecture)
    assert isinstance(architecture[3], nn.Linear)
    assert all(torch.equal(before[name], t) for name, t in architecture.state_dict().items())


def wider() -> nn.Module:
    return nn.Sequential(*dense_net()[:3], nn.Linear(144, 31), nn.ReLU(), nn.Linear(31, 10))


def without_bias() -> nn.Module:
    model = dense_net()
    model[3] = nn.Linear(144, 30, bias=False)
    return model


def with_more() -> nn.Module:
    return nn.Sequential(*dense_net(), nn.Linear(10, 3))


def with_another_layer() -> nn.Module:
    model = dense_net()
    model[3] = nn.Bilinear(4, 4, 30)
    return model


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (wider, r"weight 3\.weight is \(30, 144\) \(out, in\) there; got \(31, 144\)"),
        (without_bias, r"tensor 3\.bias is no part"),
        (with_more, r"tensor 6\.weight \(3, 10\) of the architecture is not in the file"),
        (with_another_layer, r"layer 3 must be one that can be folded, for its weight; got Bilinear"),
        (lambda: dense_net()[:3], r"layer 3 is no part"),
        (lambda: 7, r"must be a module, or make one; got int"),
    ],
)
def test_another_architecture(tmp_path, factory, message):
    save(folded_net(), tmp_path / "m")
    with pytest.raises(InputError, match=message):
        load(tmp_path / "m", factory)


def test_files_that_are_no_models(tmp_path):
    with pytest.raises(FileFormatError, match="nothing: cannot be read"):
        load(tmp_path / "nothing", dense_net)
    (tmp_path / "text").write_text("hello, world, this is text")
    with pytest.raises(FileFormatError, match="must be a safetensors file"):
        load(tmp_path / "text", dense_net)
    save_file({"a": torch.zeros(3)}, tmp_path / "other")
    with pytest.raises(FileFormatError, match="no compressed model of hashfold's"):
        load(tmp_path / "other", dense_net)


def rewritten(path, change) -> None:
    """The file with its metadata changed by `change`."""
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    about = json.loads(header["__metadata__"]["hashfold_compressed"])
    save_file(load_file(path), path, {"hashfold_compressed": json.dumps(change(about))})


@pytest.mark.parametrize("entropy", [False, True])
def test_versions(tmp_path, entropy):
    save(folded_net(), tmp_path / "m", entropy=entropy)
    rewritten(tmp_path / "m", lambda about: about | {"version": 2})
    with pytest.raises(FileFormatError, match="is of format version 2; this hashfold reads 1"):
        load(tmp_path / "m", dense_net)
    for version in (0, "1", None, True):
        rewritten(tmp_path / "m", lambda about, version=version: about | {"version": version})
        with pytest.raises(FileFormatError, match=r"format version .* none"):
            load(tmp_path / "m", dense_net)


def test_an_altered_tensor_is_named(tmp_path):
    path = tmp_path / "m"
    save(folded_net(), path)
    tensors = load_file(path)
    tensors["3.bias"][2] += 1e-6
    header = path.read_bytes()[8:]
    metadata = json.loads(header[: int.from_bytes(path.read_bytes()[:8], "little")])["__metadata__"]
    save_file(tensors, path, metadata)
    with pytest.raises(FileFormatError, match=re.escape(f"{path}: tensor 3.bias does not match its checksum")):
        load(path, dense_net)


def test_what_cannot_be_saved(tmp_path):
    class Unknown(HashedWeight):
        pass

    model = nn.Sequential(FoldedLinear(8, 4, weight=Unknown(4, 8, num_buckets=16)))
    with pytest.raises(InputError, match=r"Unknown as 0\.weight; give it a kind"):
        save(model, tmp_path / "m")
    with pytest.raises(InputError, match="a folded weight alone"):
        save(model[0].weight, tmp_path / "m")
    with pytest.raises(InputError, match="model must be converted; got 3, still prepared"):
        save(prepare(dense_net(), {"3": CodebookConfig()}), tmp_path / "m")
    complex_model = nn.Sequential()
    complex_model.register_buffer("z", torch.zeros(3, dtype=torch.complex64))
    with pytest.raises(InputError, match="z must be real numbers"):
        save(complex_model, tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_without_the_library(tmp_path, monkeypatch):
    from hashfold.compress import entropy

    monkeypatch.setitem(__import__("sys").modules, "constriction", None)
    entropy._library.cache_clear()
    entropy._bernoulli.cache_clear()
    with pytest.raises(MissingDependencyError, match=r"install hashfold\[compress\]"):
        save(folded_net(), tmp_path / "m", entropy=True)
    entropy._library.cache_clear()
    save(folded_net(), tmp_path / "m")


@pytest.mark.parametrize("entropy", [False, True])
@pytest.mark.parametrize(
    "config",
    [
        CodebookConfig(bits=3, prune=PruneConfig(0.9)),
        CodebookConfig(bits=4, group_rows=7),
        CodebookConfig(bits=4, dim=4),
        {"lstm": HashConfig(ratio=4), "default": CodebookConfig(bits=8)},
        PruneConfig(0.9),
    ],
    ids=str,
)
def test_every_scheme(tmp_path, config, entropy):
    model = compress(TiedLanguageModel(), config).eval()
    written = save(model, tmp_path / "m", entropy=entropy)
    again = load(tmp_path / "m", TiedLanguageModel).eval()
    assert_same(model, again)
    ids = torch.arange(12).view(3, 4)
    assert torch.equal(model(ids), again(ids))
    assert written == len(encode(again, entropy=entropy))


def test_pruned_codes_take_about_their_entropy(tmp_path):
    model = compress(nn.Sequential(nn.Linear(400, 300)), CodebookConfig(bits=3, prune=PruneConfig(0.95)))
    codes = torch.bincount(model[0].weight.unpacked().flatten().int()) / 120_000
    entropy = float(-(codes * codes.log2()).nansum()) * 120_000 / 8
    assert save(model, tmp_path / "m", entropy=True) < 1.01 * entropy + 300 * 4 + 800
    assert save(model, tmp_path / "m") > 4 * entropy


def test_an_old_file_is_read(tmp_path):
    """Written once: what the format was then, it is."""
    (tmp_path / "m").write_bytes(base64.b64decode("".join(OLD)))
    model = load(tmp_path / "m", lambda: nn.Sequential(nn.Linear(20, 6), nn.ReLU(), nn.Linear(6, 2)))
    dense = [((torch.arange(n) * 7919 + i * 31) % 23 - 11) / 8 for i, n in enumerate((120, 6, 12, 2))]
    kept = model[0].weight.dense().flatten() != 0
    assert int(kept.sum()) == 36
    assert float((model[0].weight.dense().flatten() - dense[0])[kept].abs().max()) < 0.25
    assert float(dense[0][~kept].abs().max()) <= float(dense[0][kept].abs().min())
    torch.testing.assert_close(model[0].bias, dense[1], rtol=0, atol=0)
    torch.testing.assert_close(model[2].weight.dense().flatten(), dense[2], rtol=0, atol=1e-6)
    torch.testing.assert_close(model[2].bias, dense[3], rtol=0, atol=0)


OLD = [
    "oAAAAAAAAAB7Il9fbWV0YWRhdGFfXyI6eyJoYXNoZm9sZF9jb21wcmVzc2VkIjoie1widmVyc2lvblwiOjEsXCJkaWdlc3RcIjpc",
    "IjBhYjExYTA4ZDM0YzU3NWJjNWNiZjhmNFwifSJ9LCJjb2RlZCI6eyJkdHlwZSI6IlU4Iiwic2hhcGUiOlsyNzVdLCJkYXRhX29m",
    "ZnNldHMiOlswLDI3NV19fSAgvQAAAOWUOw7CMBBEI87jYj3rXTuH8SUgbc6EaOkouAI9JSU3wEZRlI9FECkosv16dkZvfNhV1c9u",
    "dOIFvRWUrejYCGjF5ZiI60KMGGvrOMJ2BoG4Txi8edJouAYTIKwFBJfQdZlcZhYNUOpxnCwOa6NGolGo8wGSv6bUIpicY1ekAvVI",
    "Gk6DZ6tAsSjfFIyt8xSIpE5azb6Zrw7vhOFoLMirJWE2Xd1zSOnO2D7Ox+uz2vZs3f+6udz/q3+6rX3hBQAAgAAAgLY4Pbk0PAAv",
    "t8cAum1xAKiLnAC/vz8AAL22sKCAQAAAAMAgQICgoKCgoAh0O6ZSGSf0Jd6hFRAwMfoTCP+hOgqefrEOL0a8GFIYAAA=",
]
