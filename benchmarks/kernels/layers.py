"""Output layers to look labels up in, and queries to do it with: made up, or trained."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import data_folder

ROWS = 1000  # that ask
HIDDEN = {"acl-authors": 256, "kowiki-articles": 128}
TOPICAL, TOPIC_ROWS, TOPIC_STD = "kowiki-articles", 60_000, 0.05


def unit(x: Any) -> Any:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def synthetic() -> tuple[Any, Any]:
    """Label vectors of norm 12 and unit queries near some of them."""
    rng = np.random.default_rng(0)

    def around(centres: Any, count: int, noise: float) -> Any:
        at = centres[rng.integers(0, len(centres), count)]
        return unit(at + noise * unit(rng.standard_normal(at.shape, np.float32)))

    topics = around(around(unit(rng.standard_normal((256, 128), np.float32)), 16_384, 0.9), 670_091, 0.8)
    return 12 * topics, around(topics, ROWS, 0.6)


def trained(name: str) -> tuple[Any, Any]:
    """The output layer of a network trained to be looked up, and the hidden vectors of test rows."""
    kept = Path(os.environ["BENCH_LAYERS"]) / f"{name}.npz" if "BENCH_LAYERS" in os.environ else None
    if kept is None or not kept.exists():
        vectors, queries = from_topics(name) if name == TOPICAL else from_random(name)
        if kept is None:
            return vectors, queries
        np.savez(kept, vectors=vectors, queries=queries)
    found = np.load(kept)
    return found["vectors"], np.ascontiguousarray(found["queries"][:ROWS])


def some_rows(test: Any) -> Any:
    return np.sort(np.random.default_rng(0).permutation(len(test))[:ROWS])


def from_random(name: str) -> tuple[Any, Any]:
    """As the command line trains it: random weights, the epochs chosen from the data."""
    from hashfold.data import drop_unusable, read
    from hashfold.train import fit_model

    train = drop_unusable(read(data_folder() / name / "train.txt.xz"))[0]
    sizes = {"num_features": train.num_features, "num_labels": train.num_labels}
    test = read(data_folder() / name / "test.txt.xz", **sizes)
    overrides = {"hidden": HIDDEN[name], "label_norm": 12.0, "storage": "fp32"}
    model, _ = fit_model(train, overrides=overrides, parts=("deep",))
    hidden = model.network.hidden(model.encode(test.x.take(some_rows(test)))).detach().numpy()
    return model.network.output.weight.detach().numpy(), hidden


def from_topics(name: str) -> tuple[Any, Any]:
    """An epoch from where documents of alike words lie close: hidden units start as the two signs of the leading
    right singular vectors of the rows (latent semantic analysis), label vectors at the means of their rows.
    """
    from benchmarks.end_to_end.time_to_accuracy import examples
    from hashfold.model import LookupNetwork, NetworkConfig
    from hashfold.train import TrainConfig, fit

    train, test = examples(name, None)
    held = {"unit_hidden": True, "label_norm": 12.0, "label_bias": False}
    sizes = {"num_features": train.num_features, "num_labels": train.num_labels, "hidden": HIDDEN[name]}
    net = LookupNetwork(NetworkConfig(**sizes, dropout=0.0, lr=1e-2, **held))
    topics = torch.from_numpy(leading_topics(train.x, HIDDEN[name] // 2))
    with torch.no_grad():
        net.input.weight.copy_(torch.cat([topics, -topics], 1))
    net.start_labels(train.x, train.y)
    fit(net, train, None, TrainConfig(epochs=1, batch_size=1024))
    top = net.top_k(test.x, 1)[0][:, 0]
    print(name, "P@1 of the layer", np.mean([label in test.y[i] for i, label in enumerate(top)]))
    hidden = net.hidden(test.x.take(some_rows(test))).detach().numpy()
    return net.output.weight.detach().numpy(), hidden


def leading_topics(x: Any, count: int) -> Any:
    """(features, count): right singular vectors of some rows, each over the root of its singular value."""
    from scipy.sparse.linalg import svds

    rows = x.take(np.sort(np.random.default_rng(0).permutation(len(x))[:TOPIC_ROWS])).to_scipy()
    _, lengths, across = svds(rows, k=count, v0=np.ones(min(rows.shape)))
    topics = across.T / np.sqrt(lengths)
    return (TOPIC_STD / topics.std() * topics).astype(np.float32)
