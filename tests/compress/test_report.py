"""What a report says is what is there, and a model that takes more memory than it promises is found out."""

import json

import pytest
import torch
from compress.small_models import Failing, Hoarder, dense_net, folded_language_model, folded_net
from torch import nn

from hashfold import CodebookConfig, PruneConfig, compress, report
from hashfold.compress import fresh, reporting, save
from hashfold.compress.sizes import layer_sizes, num_weights, stored_bytes
from hashfold.errors import InputError


def pixels(rows: int = 100) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, 1, 8, 8, generator=generator), torch.arange(rows) % 10


@pytest.fixture(scope="module")
def whole() -> tuple[nn.Module, reporting.Report]:
    torch.manual_seed(0)
    model = dense_net()
    folded = compress(model, CodebookConfig(bits=3, prune=PruneConfig(0.8)))
    return folded, report(folded, data=pixels())


def test_the_whole(whole, tmp_path):
    model, found = whole
    assert found.model.file_bytes == save(model, tmp_path / "m", entropy=True)
    assert found.model.stored_bytes == sum(t.numel() * t.element_size() for t in model.state_dict().values())
    assert found.model.weights == sum(p.numel() for p in dense_net().parameters())
    x, y = pixels()
    assert found.model.accuracy == pytest.approx(float((model(x).argmax(1) == y).float().mean()))
    process = found.model.process
    assert set(process.latencies) == {1, 64}
    assert 0 < process.latencies[1] < 1
    assert process.peak_bytes > process.base_bytes > 1e7
    assert abs(process.model_bytes) < reporting.SLACK_BYTES + found.model.stored_bytes


def test_it_can_be_read(whole):
    _, found = whole
    text = str(found)
    for words in (
        "accuracy",
        "file, bytes",
        "resident above",
        "predicting 64 rows",
        "codebook, 3 bits",
        "The base",
    ):
        assert words in text
    widths = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert set(widths) == {3, 8}
    told = json.loads(json.dumps(found.as_dict()))
    assert told["model"]["process"]["base_bytes"] == found.model.process.base_bytes
    assert found.tables()[1].row_count == len(found.layers) + 1


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_plot(whole, tmp_path, ending):
    path = whole[1].plot(tmp_path / f"plot.{ending}")
    assert path.stat().st_size > 5_000
    with pytest.raises(InputError, match="end of path"):
        whole[1].plot(tmp_path / "plot.txt")


@pytest.mark.parametrize("entropy", [False, True])
def test_layers_sum_up_to_the_file(entropy, tmp_path):
    model = folded_language_model()
    layers = layer_sizes(model, entropy=entropy)
    assert sum(layer.stored_bytes for layer in layers) == stored_bytes(model) - model.scale.numel() * 4
    in_file = sum(layer.file_bytes for layer in layers)
    written = save(model, tmp_path / "m", entropy=entropy)
    assert 0 < written - in_file < 4_000  # names, specs, checksums
    weights = sum(layer.weights for layer in layers)
    assert weights == num_weights(model) - model.scale.numel()
    by_name = {layer.name: layer for layer in layers}
    assert "output.weight" not in by_name  # tied: it stands where it comes first
    assert by_name["embedding.weight"].scheme == "hashed 1/4, tiles of 8"
    assert by_name["embedding.weight"].bits_per_weight == 8
    assert by_name["lstm"].scheme == "dense"  # biases


def test_a_model_that_takes_more_than_it_promises():
    model = Hoarder()
    with pytest.raises(reporting.MemoryPromiseError, match=r"resident memory must be at most 1\.25 x") as caught:
        report(model, inputs=[torch.randn(1, 8)], entropy=False)
    assert caught.value.report.model.process.model_bytes > 15e6
    assert caught.value.report.model.process.loaded_bytes < caught.value.report.model.process.ran_bytes - 15e6


def test_a_process_that_fails_is_told():
    with pytest.raises(fresh.FreshProcessError, match="far from home"):
        report(Failing(), inputs=[torch.randn(1, 4)])


def test_without_a_process_or_data():
    class Local(nn.Linear):
        """No other process can import it."""

    found = report(nn.Sequential(Local(4, 3)), fresh_process=False)
    assert found.model.process is None
    assert found.model.accuracy is None
    assert "resident" not in str(found)
    with pytest.raises(InputError, match="fresh process must find the classes"):
        report(nn.Sequential(Local(4, 3)))


def test_scores_of_ones_own_and_batches():
    model = folded_net().train()
    x, y = pixels(30)
    by_batches = report(model, data=[(x[:10], y[:10]), (x[10:], y[10:])], fresh_process=False).model.accuracy
    assert by_batches == report(model, data=(x, y), fresh_process=False).model.accuracy
    assert model.training
    found = report(model, model, data=(x, y), score=lambda model, data: len(data[0]), fresh_process=False)
    assert found.model.accuracy == found.baseline.accuracy == 30
    assert "| accuracy | 30.0000 | 30.0000 |  |" in str(found)
    assert "| file, bits a weight |" in str(found)


def test_bad_arguments():
    with pytest.raises(InputError, match="model must be a torch module; got int"):
        report(3)
    with pytest.raises(InputError, match="data must have rows"):
        report(folded_net(), data=[], fresh_process=False)
    x, y = pixels(3)
    with pytest.raises(InputError, match="outputs must be"):
        report(folded_net(), data=(x, y[:, None]), fresh_process=False)
