"""Settings chosen from the data: rules that are written down, so that they can be checked and overridden."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from hashfold import checks
from hashfold.data import Statistics
from hashfold.model import NetworkConfig
from hashfold.train.config import TrainConfig

DENSE_LABELS = 8_192  # up to so many labels, computing all of them costs no more than choosing some
MANY_LABELS_A_ROW = 5.0
LARGE_ROWS, HUGE_ROWS = 20_000, 300_000
FEW_STEPS = 1_500  # small data sets are gone through until so many steps are made


def choose(
    found: Statistics, overrides: Mapping[str, Any] | None = None
) -> tuple[NetworkConfig, TrainConfig, list[str]]:
    """The network and the training run for data like `found`, and a line for each choice with its reason.

    Args:
        found: of the training rows, without those that cannot be used.
        overrides: settings by name, of `NetworkConfig` or `TrainConfig`; None values are ignored. They are
            taken as they are, and what depends on them follows.

    Raises: InputError for an unknown name or a value out of range.
    """
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    network: dict[str, Any] = {"num_features": max(1, found.features), "num_labels": max(1, found.labels)}
    training: dict[str, Any] = {}
    reasons: list[str] = []

    def settle(settings: dict[str, Any], name: str, value: Any, reason: str) -> Any:
        chosen = given.get(name, value)
        settings[name] = chosen
        reasons.append(f"{name} {chosen}: {'as asked' if name in given else reason}")
        return chosen

    _settle_network(found, network, settle)
    _settle_training(found, network, training, settle)
    _take_the_rest(given, network, training)
    return NetworkConfig(**network), TrainConfig(**training), reasons


def hashes_per_table(labels: int) -> int:
    """So many that a bucket holds 32 to 64 labels: a row then looks at a few thousand, however many there are."""
    return max(4, (labels // 32).bit_length() - 1)


def _settle_network(found: Statistics, network: dict[str, Any], settle: Any) -> None:
    few, rows = found.labels <= DENSE_LABELS, found.rows
    reason = f"{found.labels} labels, all computed" if few else f"{found.labels} labels; uniform ones a batch"
    negatives = settle(network, "negatives", 0 if few else 4096, reason)
    dense = negatives == 0 or negatives >= found.labels
    reason = "no look-up where all labels are computed" if dense else "labels looked up for each row"
    hard = settle(network, "hard_negatives", 0 if dense else 8, reason)
    if settle(network, "index", "lsh" if hard else "clustered", "of the output layer") == "lsh":
        bits = hashes_per_table(found.labels)
        tables = {"num_tables": 16, "hashes_per_table": bits}
        settle(network, "index_options", tables, f"{found.labels >> bits} labels a bucket")
    single = found.max_labels_per_row <= 1
    many = dense or found.labels_per_row >= MANY_LABELS_A_ROW
    reason = "one label a row" if single else f"{found.labels_per_row:.1f} labels a row"
    settle(network, "loss", "sigmoid" if many and not single else "softmax", reason)
    width = 128 if rows < FEW_STEPS else 512 if dense and rows >= LARGE_ROWS else 256
    settle(network, "hidden", width, f"{rows} rows, {found.labels} labels")
    dropout = 0.1 if rows < FEW_STEPS else 0.5 if dense else 0.3
    settle(network, "dropout", dropout, "more where all labels share the hidden vector")
    settle(network, "storage", "int8", "a quarter of the memory; rounding costs less than a tenth of a point")
    network["output_std"] = 0.02 if network["loss"] == "sigmoid" else 0.05
    settle(network, "lr", 1e-2 if rows < FEW_STEPS else 5e-3, "Adam, with warm-up and cosine decay")


def _settle_training(found: Statistics, network: dict[str, Any], training: dict[str, Any], settle: Any) -> None:
    rows = found.rows
    batch = 256 if rows >= LARGE_ROWS else max(8, min(64, rows // 16))
    batch = settle(training, "batch_size", batch, f"{rows} rows")
    enough = -(-FEW_STEPS * batch // rows) if rows else 1  # epochs for FEW_STEPS steps
    usual = 6 if rows >= HUGE_ROWS else 9 if network["negatives"] == 0 else 12
    settle(training, "epochs", min(100, max(usual, enough)), f"{rows} rows")
    settle(training, "seed", 0, "the same seed gives the same model")


def _take_the_rest(given: dict[str, Any], network: dict[str, Any], training: dict[str, Any]) -> None:
    """Overrides of settings that have no rule."""
    of_network = {f.name for f in fields(NetworkConfig)}
    of_training = {f.name for f in fields(TrainConfig)}
    for name, value in given.items():
        checks.one_of("settings", "name", name, of_network | of_training)
        if name in of_network:
            network[name] = value
        if name in of_training:
            training[name] = value
