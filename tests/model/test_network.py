"""The deep path learns, repeats itself, and predicts the same with and without its index."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hashfold.errors import InputError
from hashfold.metrics import evaluate
from hashfold.model import LookupNetwork, NetworkConfig
from hashfold.optim import OPTIMIZERS
from hashfold.sparse import CsrBatch, RaggedIds

ROWS, FEATURES, LABELS = 600, 80, 40


def planted() -> tuple[CsrBatch, RaggedIds]:
    """Each label owns two features; a row has its labels' features and two of noise."""
    random = np.random.default_rng(0)
    labels = [random.choice(LABELS, random.integers(1, 4), replace=False).tolist() for _ in range(ROWS)]
    dense = np.zeros((ROWS, FEATURES), np.float32)
    for row, own in enumerate(labels):
        dense[row, [f for label in own for f in (2 * label, 2 * label + 1)]] = 1.0
        dense[row, random.integers(0, FEATURES, 2)] = 1.0
    dense /= np.linalg.norm(dense, axis=1, keepdims=True)
    return CsrBatch.from_scipy(dense), RaggedIds.from_lists(labels, LABELS)


def config(**changes: object) -> NetworkConfig:
    settings = {"hidden": 32, "negatives": 12, "dropout": 0.1, "lr": 0.02, "output_std": 0.1, **changes}
    return NetworkConfig(FEATURES, LABELS, **settings)  # type: ignore[arg-type]


def trained(epochs: int = 12, **changes: object) -> LookupNetwork:
    x, y = planted()
    network = LookupNetwork(config(**changes))
    network.set_label_prior(np.bincount(y.ids, minlength=LABELS), ROWS)
    for step in range(epochs * 10):
        rows = np.random.default_rng(step).choice(ROWS, 64, replace=False)
        network.training_step(x.take(rows), y.take(rows), seed=step)
    return network


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "softmax"},
        {"loss": "sigmoid"},
        {"loss": "sigmoid", "negatives": 0},
        {"loss": "softmax", "hard_negatives": 4, "index": "exact"},
        {"loss": "softmax", "hard_negatives": 4, "index": "lsh"},
        {"loss": "softmax", "unit_hidden": True, "label_norm": 12.0, "label_bias": False},
        {"loss": "softmax", "optimizer": "rowwise_adam"},
        {"loss": "sigmoid", "optimizer": "compact_adam"},
        {"loss": "softmax", "optimizer": "rowwise_adagrad", "lr": 0.2},
    ],
)
def test_learns_planted_labels(changes: dict[str, object]) -> None:
    x, y = planted()
    network = trained(**changes)
    untrained = evaluate(LookupNetwork(config(**changes)).top_k(x, 5)[0], y)["P@1"]
    assert untrained < 0.3
    assert evaluate(network.top_k(x, 5)[0], y)["P@1"] > 0.9


STATE_BYTES = {"adam": (8, 8), "rowwise_adam": (4, 8), "compact_adam": (2, 8), "rowwise_adagrad": (0, 4)}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_optimizer_state_is_as_small_as_it_says(kind: str) -> None:
    network, (a_weight, a_bias) = trained(1, optimizer=kind), STATE_BYTES[kind]
    for layer in (network.input, network.output):
        weight, bias, state = layer.weight, layer.bias, network.optimizer.state
        rows = 0 if kind == "adam" else 4 * len(weight)
        assert sum(s.nbytes for s in state[weight].values()) == weight.numel() * a_weight + rows
        assert bias is None or sum(s.nbytes for s in state[bias].values()) == bias.numel() * a_bias


def test_labels_start_where_their_rows_are() -> None:
    x, y = planted()
    seen = np.flatnonzero([7 not in y[i] for i in range(ROWS)])
    x, y = x.take(seen), y.take(seen)
    network = LookupNetwork(config(label_start=2.0))
    before = network.output.weight.detach().clone()
    network.start_labels(x, y, block_rows=100)
    h = network.hidden(x).detach().numpy()
    for label in range(LABELS):
        own = [i for i in range(len(y)) if label in y[i]]
        mean = h[own].mean(0) - h.mean(0) if own else before[label].numpy()
        expected = 2.0 * mean / np.linalg.norm(mean) if own else mean
        np.testing.assert_allclose(network.output.weight[label].detach(), expected, rtol=1e-3, atol=1e-4)
    started = evaluate(network.top_k(x, 5)[0], y)["P@1"]
    assert started > 2 * evaluate(LookupNetwork(config()).top_k(x, 5)[0], y)["P@1"]


def test_labels_that_are_held_to_a_norm_start_with_it() -> None:
    network = LookupNetwork(config(label_start=2.0, label_norm=12.0))
    network.start_labels(*planted())
    norms = network.output.weight.detach().norm(dim=1)
    torch.testing.assert_close(norms, torch.full_like(norms, 12.0))


def test_same_seed_same_bits() -> None:
    first, second, third = trained(2), trained(2), trained(2, seed=1)
    for ours, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(first.output.weight, third.output.weight)


def by_autograd(network: LookupNetwork, x: CsrBatch, y: RaggedIds, seed: int) -> None:
    """The twin of `training_step`, up to the index's schedule."""
    h = network.hidden(x, dropout_seed=seed)
    active = network.select(h, y, seed)
    _, grad = network.output.loss_step(h.detach(), active, network.config.loss)
    torch.autograd.backward(h, grad)
    network.optimizer.step()
    network.optimizer.zero_grad()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dropout": 0.0},
        {"loss": "sigmoid", "negatives": 0},
        {"unit_hidden": True, "label_norm": 12.0, "label_bias": False},
        {"unit_hidden": True, "dropout": 0.0, "hard_negatives": 3, "index": "exact"},
    ],
)
def test_a_step_is_what_autograd_does(changes: dict[str, object]) -> None:
    x, y = planted()
    ours, twin, ahead = (LookupNetwork(config(precision="fp32", **changes)) for _ in range(3))
    for seed in range(4):
        rows = np.random.default_rng(seed).choice(ROWS, 48, replace=False)
        batch = x.take(rows), y.take(rows)
        ours.training_step(*batch, seed)
        by_autograd(twin, *batch, seed)
        ahead.training_step(*batch, seed, ahead.prepare(*batch, seed))
    for p, same, near in zip(ours.parameters(), ahead.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p, same)
        torch.testing.assert_close(p, near, rtol=1e-4, atol=1e-5)
    assert ours.optimizer.param_groups[0]["step"] == 4


def test_label_norm_holds() -> None:
    network = trained(3, unit_hidden=True, label_norm=12.0, label_bias=False)
    norms = network.output.weight.detach().norm(dim=1)
    torch.testing.assert_close(norms, torch.full_like(norms, 12.0))


def test_scores_are_the_logits_and_the_best() -> None:
    x, _ = planted()
    network = trained(3)
    ids, scores = network.top_k(x, 5)
    with torch.no_grad():
        best = torch.topk(network.output(network.hidden(x)), 5)
    np.testing.assert_allclose(scores, best.values.numpy(), rtol=1e-5, atol=1e-5)
    assert (ids == best.indices.numpy()).mean() > 0.99


@pytest.mark.parametrize(
    ("search", "options"),
    [
        ("exact", {}),
        ("clustered", {"probes": 6, "num_clusters": 6}),
        ("lsh", {"hashes_per_table": 1, "rerank": True, "pool": 40}),
    ],
)
def test_lookup_that_reaches_everything_predicts_as_scoring_all(search: str, options: dict[str, object]) -> None:
    x, _ = planted()
    network = trained(3, search=search, search_options=options)
    ids, scores = network.top_k(x, 5)
    found, found_scores = network.top_k(x, 5, lookup=True)
    np.testing.assert_allclose(scores, found_scores, rtol=1e-5, atol=1e-5)
    assert (ids == found).mean() > 0.99


def test_lookup_scores_fewer_labels_and_says_how_many() -> None:
    x, y = planted()
    network = trained(search_options={"num_clusters": 8, "probes": 2})
    found = network.candidates(x, 3, lookup=True)
    assert found.found.mean() < 0.6 * LABELS
    assert evaluate(network.top_k(x, 5, lookup=True)[0], y)["P@1"] > 0.8


def test_predictions_follow_the_weights() -> None:
    x, y = planted()
    network = trained(3)
    first = network.top_k(x, 5, lookup=True)
    network.training_step(x, y, seed=0)
    second = network.top_k(x, 5, lookup=True)
    assert not np.array_equal(first[1], second[1])
    network.load_state_dict(trained(3).state_dict())
    assert np.array_equal(network.top_k(x, 5, lookup=True)[1], first[1])


def test_statistics_say_what_was_computed() -> None:
    x, y = planted()
    network = LookupNetwork(config(negatives=7, hard_negatives=3, index="exact"))
    result = network.training_step(x.take(range(4)), y.take(range(4)), seed=0)
    labels = len(np.unique(y.take(range(4)).ids))
    assert result.rows == 4
    assert result.stats.candidates == 12
    assert 4 * (labels + 7) <= result.stats.active <= 4 * (labels + 7 + 12)
    assert np.isfinite(result.loss)


@pytest.mark.parametrize("rebuild", ["fixed:10", "growing:4:1.5", "drift:0.01:2"])
def test_training_rebuilds_the_index_by_its_schedule(rebuild: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = planted()
    network = LookupNetwork(config(hard_negatives=3, index="lsh", rebuild=rebuild))
    at: list[int] = []
    rebuild_tables = network.output.rebuild

    def noted() -> None:
        at.append(network.steps)
        rebuild_tables()

    monkeypatch.setattr(network.output, "rebuild", noted)
    for step in range(20):
        network.training_step(x.take(range(32)), y.take(range(32)), seed=step)
    # 0 is the first build, before the first lookup
    expected = {"fixed:10": [0, 10, 20], "growing:4:1.5": [0, 4, 10, 19], "drift:0.01:2": list(range(0, 21, 2))}
    assert at == expected[rebuild]


def test_labels_that_moved_are_reinserted_when_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = planted()
    settings = {"phases": [[0.5, 0, 0], [1.0, 3, 4]], "reinsert": "fixed:4", "rebuild": "fixed:10"}
    network = LookupNetwork(config(index="tree", **settings))
    moved: dict[int, set[int]] = {}
    reinsert = network.output.reinsert

    def noted(ids: Any) -> None:
        moved[network.steps] = set(ids.tolist())
        reinsert(ids)

    monkeypatch.setattr(network.output, "reinsert", noted)
    computed: list[set[int]] = []
    for step in range(20):
        network.set_progress(step / 20)
        rows = np.random.default_rng(step).choice(ROWS, 4, replace=False)
        before = network.output.weight.detach().clone()
        network.training_step(x.take(rows), y.take(rows), seed=step)
        computed.append(set(np.flatnonzero((network.output.weight != before).any(1).numpy()).tolist()))
    # counted from the first step that looks up, the eleventh; the tenth of these rebuilds
    assert moved == {14: set().union(*computed[10:14]), 18: set().union(*computed[14:18])}


@pytest.mark.parametrize(
    "phases", [[[0.5, 0, 0]], [[0.5, 0], [1, 0, 0]], [[0.5, 0, 0], [0.4, 1, 1], [1, 0, 0]], [[1, -1, 0]]]
)
def test_phases_that_are_none_are_refused(phases: list[list[float]]) -> None:
    with pytest.raises(InputError, match="phase"):
        config(phases=phases)


def test_config_round_trip_and_refusals() -> None:
    assert NetworkConfig.from_dict(config().to_dict()) == config()
    with pytest.raises(InputError, match="known settings"):
        NetworkConfig.from_dict({**config().to_dict(), "colour": 1})
    for changes in ({"hidden": 0}, {"loss": "hinge"}, {"dropout": 1.0}, {"lr": 0}, {"negatives": -1}):
        with pytest.raises(InputError):
            config(**changes)
