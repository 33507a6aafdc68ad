"""Compressed models as torch's dense ones, and as ONNX files that compute the same."""

import numpy as np
import pytest
import torch
from compress.small_models import TiedLanguageModel, folded_language_model
from torch import nn

from hashfold import CodebookConfig, HashConfig, compress
from hashfold.compress import export_onnx, to_dense
from hashfold.compress.export import _Gathered
from hashfold.compress.files import encode
from hashfold.errors import InputError
from hashfold.nn.folded import CodebookWeight, FoldedLinear, FoldedWeight, HashedWeight


def test_dense_models_compute_the_same_and_stay_tied():
    for model in (folded_language_model(), compress(TiedLanguageModel(), CodebookConfig(bits=3)).eval()):
        dense = to_dense(model)
        assert not any(isinstance(part, FoldedWeight) for part in dense.modules())
        assert dense.embedding.weight is dense.output.weight
        ids = torch.randint(50, (2, 5), generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(dense(ids), model(ids), rtol=1e-4, atol=1e-5)
        assert list(TiedLanguageModel().state_dict()) == list(dense.state_dict())


def test_padding_keeps_its_own_vector():
    model = nn.Sequential(nn.Embedding(20, 4, padding_idx=0))
    dense = to_dense(compress(model, CodebookConfig(bits=2)))
    assert not dense[0].weight[0].any()


def test_a_layer_without_a_dense_form_is_named():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = HashedWeight(4, 4, 8)

    with pytest.raises(InputError, match=r"to_dense: layer inner: .*got Odd"):
        to_dense(nn.ModuleDict({"inner": Odd()}))


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize(
    "layout", [{}, {"group_rows": 4}, {"group_cols": 6}, {"group_rows": 5, "group_cols": 4, "dim": 2}], ids=str
)
def test_gathered_weights_are_those_of_the_codebook(bits, layout):
    torch.manual_seed(bits)
    weight = CodebookWeight.from_dense(torch.randn(10, 13), bits, **layout)
    gathered = _Gathered(weight, torch.Size((10, 13)))
    assert torch.equal(gathered(torch.empty(0)), weight.dense())


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # within torch's exporter
def test_onnx(tmp_path):
    pytest.importorskip("onnxscript")
    import onnx
    from onnx.reference import ReferenceEvaluator

    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 100), nn.ReLU(), nn.Linear(100, 64)),
        *(nn.Tanh(), nn.Linear(64, 10)),
    )
    configs = {"0": CodebookConfig(bits=3), "3": CodebookConfig(bits=4, group_rows=50), "5": HashConfig(ratio=4)}
    folded = compress(model, configs).eval()
    before = encode(folded)
    written = export_onnx(folded, tmp_path / "m.onnx", (torch.zeros(2, 2, 8, 8),), dynamic_shapes=({0: "rows"},))
    assert encode(folded) == before
    assert written.file_bytes == (tmp_path / "m.onnx").stat().st_size
    assert written.gathered == ["0.weight", "3.weight"]
    assert written.dense == ["5.weight"]
    assert "memory does not stay small" in written.note
    graph = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(graph)
    stored = sum(len(tensor.raw_data) for tensor in graph.graph.initializer)
    assert stored < 28_800 / 2 + 6_400 * 4 + 10_000 < written.dense_bytes / 2
    x = torch.randn(5, 2, 8, 8)
    (y,) = ReferenceEvaluator(graph).run(None, {graph.graph.input[0].name: x.numpy()})
    np.testing.assert_allclose(y, folded(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_tied_and_padded_weights_are_told(tmp_path, monkeypatch):
    """Which weights are gathered, without the exporter."""
    from hashfold.compress import export

    model = compress(nn.Sequential(nn.Embedding(9, 4, padding_idx=2), nn.Linear(4, 9)), CodebookConfig(bits=2))
    plain = to_dense(model)
    assert export._gather_codebooks(model, plain) == {id(model[1].weight)}
    x = torch.randint(9, (3, 5))
    torch.testing.assert_close(plain(x), model(x))
    assert isinstance(model[1], FoldedLinear)
