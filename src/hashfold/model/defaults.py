"""Settings chosen from the data, so that training works with no options but the files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from hashfold import checks
from hashfold.data import Statistics
from hashfold.model.network import NetworkConfig

ALL_LABELS = 2_048  # up to here, computing every label costs no more than choosing some
FEW_STEPS = 1_500  # small data sets are gone through until so many steps are made


@dataclass(frozen=True)
class Settings:
    """`network`, and the arguments of the training's configuration; `reasons`, a line for each choice."""

    network: NetworkConfig
    training: dict[str, Any]
    reasons: list[str]


def choose(data: Statistics, overrides: Mapping[str, Any]) -> Settings:
    """Network and training settings for rows like these; `overrides`, by name, are taken as they are.

    Names of `NetworkConfig` go to the network, all others to the training; `seed` to both.
    """
    network, training = _network(data), _training(data)
    known = {field.name for field in fields(NetworkConfig)}
    network |= {name: value for name, value in overrides.items() if name in known}
    training |= {name: value for name, value in overrides.items() if name not in known or name == "seed"}
    checks.integer("train", "batch_size", training["batch_size"], low=1)
    config = NetworkConfig(num_features=data.features, num_labels=data.labels, **network)
    return Settings(config, training, _reasons(data, config, training, set(overrides)))


def _network(data: Statistics) -> dict[str, Any]:
    small = data.rows < 5_000
    # Measured on eurlex57k, citeulike-t (sigmoid) and acl-authors (softmax).
    softmax = data.max_labels_per_row == 1 or (data.labels > 50_000 and data.labels_per_row < 5)
    sampled = data.labels > ALL_LABELS
    return {
        "hidden": 128 if small else 512 if data.labels <= 10_000 < data.rows else 256,
        "loss": "softmax" if softmax else "sigmoid",
        "dropout": 0.1 if small else 0.5 if data.labels <= 10_000 else 0.3,
        "negatives": min(4096, data.labels // 4) if sampled else 0,
        "hard_negatives": 0,
        "index": "clustered" if sampled else "exact",
        "lr": 1e-2 if small else 5e-3,
    }


def _training(data: Statistics) -> dict[str, Any]:
    batch = max(8, min(256, data.rows // 64))
    steps = max(1, data.rows // batch)
    return {"batch_size": batch, "epochs": max(10, min(100, FEW_STEPS // steps)) if data.rows < 300_000 else 5}


def _reasons(data: Statistics, network: NetworkConfig, training: Mapping[str, Any], given: set[str]) -> list[str]:
    """What was chosen, and from what; settings that were given are marked."""
    chosen = {
        **{name: getattr(network, name) for name in ("hidden", "loss", "dropout", "lr", "negatives")},
        **{name: getattr(network, name) for name in ("hard_negatives", "index")},
        **{name: training[name] for name in ("epochs", "batch_size")},
    }
    told = ", ".join(f"{name} {value}{' (given)' if name in given else ''}" for name, value in chosen.items())
    return [
        f"data: {data.rows:,} rows, {data.features:,} features ({data.features_per_row:.1f} a row), "
        f"{data.labels:,} labels ({data.labels_per_row:.1f} a row)",
        f"settings: {told}",
    ]
