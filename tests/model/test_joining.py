"""Labels of few rows join the network that learned the others."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from train.small_model import StopAt

from hashfold.data import Dataset, synthetic
from hashfold.errors import InputError, Interrupted
from hashfold.metrics import evaluate
from hashfold.model import HashfoldModel, LookupNetwork, NetworkConfig, Outputs, join_labels
from hashfold.model.joining import JOINED, LESS
from hashfold.train import Checkpoints, fit_model

FEATURES, LABELS, LEAST = 300, 120, 12
ALONE = {"parts": ("deep",), "overrides": {"least_rows": LEAST, "epochs": 6, "loss": "softmax", "storage": "fp32"}}
CONFIG = NetworkConfig(FEATURES, LABELS, hidden=16, loss="softmax")


@pytest.fixture(scope="module")
def examples() -> tuple[Dataset, Dataset]:
    return synthetic(900, FEATURES, LABELS, features_per_row=12, seed=1)


@pytest.fixture(scope="module")
def joined(examples) -> HashfoldModel:
    return fit_model(*examples, **ALONE)[0]


def partial(y, labels: list[int]) -> tuple[LookupNetwork, Outputs]:
    network, outputs = (
        LookupNetwork(replace(CONFIG, num_labels=len(labels))),
        Outputs(np.array(labels, np.int32), LABELS),
    )
    with torch.no_grad():
        network.output.bias.copy_(torch.linspace(-3, 0, len(labels)))
    return network, outputs


def test_those_that_join_are_where_their_rows_are_and_the_others_stay(examples) -> None:
    rows = examples[0]
    own = [label for label in range(LABELS) if label % 3]
    network, outputs = partial(rows.y, own)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    whole = join_labels(network, outputs, rows.x, rows.y)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    assert torch.equal(whole.output.weight[own], network.output.weight)
    assert torch.equal(whole.output.bias[own], network.output.bias)
    h, length = network.hidden(rows.x).detach().numpy(), network.output.weight.norm(dim=1).mean().item()
    for label in range(0, LABELS, 3):
        having = [i for i in range(len(rows)) if label in rows.y[i]]
        place = h[having].mean(0) - h.mean(0) if having else np.zeros(16)
        expected = JOINED * length * place / max(1e-6, np.linalg.norm(place))
        np.testing.assert_allclose(whole.output.weight[label].detach(), expected, rtol=1e-3, atol=1e-3)
        share = max(0.1, len(having)) / len(rows)
        assert whole.output.bias[label].item() == pytest.approx(np.log(share) - LESS, rel=1e-4)


def test_logits_of_learned_labels_are_what_they_were(examples) -> None:
    rows = examples[0]
    network, outputs = partial(rows.y, [label for label in range(LABELS) if label % 3])
    whole = join_labels(network, outputs, rows.x, rows.y)
    ids, scores = whole.top_k(rows.x, LABELS)
    own, theirs = network.top_k(rows.x, len(outputs))
    kept = outputs.places(ids) >= 0
    np.testing.assert_array_equal(ids[kept].reshape(len(rows), -1), outputs.labels(own))
    np.testing.assert_allclose(scores[kept].reshape(len(rows), -1), theirs, rtol=1e-5, atol=1e-5)


def test_a_model_of_the_network_alone_finds_labels_that_it_did_not_learn(examples, joined) -> None:
    train, test = examples
    counts = np.bincount(train.y.ids, minlength=LABELS)
    rare = np.flatnonzero((counts > 0) & (counts < LEAST))
    assert len(rare) > 10
    assert joined.network.config.num_labels == LABELS
    found = joined.top_k(train.x, 5)[0]
    hits = [label for i in range(len(train)) for label in found[i] if label in rare and label in train.y[i]]
    assert len(hits) > 0.15 * np.isin(found, rare).sum() > 20
    assert joined.metrics["P@1"] == pytest.approx(evaluate(joined.top_k(test.x, 5)[0], test.y)["P@1"])


def test_an_interrupted_run_ends_as_the_same_model(examples, joined, tmp_path: Path) -> None:
    stop = StopAt(9, lambda: os.kill(os.getpid(), signal.SIGINT))
    again = {**ALONE, "checkpoints": Checkpoints(tmp_path / "c")}
    with pytest.raises(Interrupted):
        fit_model(*examples, **again, callbacks=[stop])
    model, result = fit_model(*examples, **again, resume=True)
    for name, value in joined.network.state_dict().items():
        assert torch.equal(model.network.state_dict()[name], value)
    assert result.metrics == joined.metrics


def test_cross_weights_beside_it_are_of_all_labels(examples) -> None:
    asked = {**ALONE["overrides"], "wide_epochs": 1, "starts": 1}
    lookups = fit_model(examples[0], parts=("deep", "wide"), overrides=asked)[0].lookups
    assert lookups.network.config.num_labels == LABELS
    assert not lookups.outputs.partial


def test_it_is_saved_whole(examples, joined, tmp_path: Path) -> None:
    again = HashfoldModel.load(joined.save(tmp_path / "m"))
    for want, have in zip(joined.top_k(examples[1].x, 5), again.top_k(examples[1].x, 5), strict=True):
        np.testing.assert_array_equal(want, have)


@pytest.mark.parametrize("asked", [{"loss": "sigmoid"}, {"label_norm": 4.0}, {"label_bias": False}])
def test_where_no_scores_are_known_to_join_at_it_is_refused_before_training(examples, asked) -> None:
    with pytest.raises(InputError, match="labels of fewer than least_rows join a softmax"):
        fit_model(
            examples[0],
            parts=("deep",),
            overrides={"least_rows": LEAST, "epochs": 10**6, "loss": "softmax", **asked},
        )
