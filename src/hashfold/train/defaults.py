"""Settings chosen from the data: rules that are written down, so that they can be checked and overridden."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from hashfold import checks
from hashfold.data import Statistics
from hashfold.model import NetworkConfig
from hashfold.model.wide import FEWEST, LEAST_BUCKETS, MOST
from hashfold.train.config import TrainConfig
from hashfold.train.lookups import LookupConfig

DENSE_LABELS = 8_192  # up to so many labels, computing all of them costs no more than choosing some
MANY_LABELS_A_ROW = 5.0
LARGE_ROWS, HUGE_ROWS = 20_000, 300_000
EFFORTS = {"low": 0.5, "normal": 1.0, "high": 1.5}  # times the epochs
MOST_HELD_OUT = 4_000
FEWEST_ROWS = 50  # with fewer there is nothing to hold out
FEW_STEPS = 1_000  # small data sets are gone through until so many steps are made


def choose(
    found: Statistics,
    overrides: Mapping[str, Any] | None = None,
    *,
    effort: str = "normal",
    combine: bool = True,
) -> tuple[NetworkConfig, TrainConfig, LookupConfig, list[str]]:
    """The network, its training run and the look-ups beside it for data like `found`, and a line for each
    choice with its reason.

    Args:
        found: of the training rows, without those that cannot be used.
        overrides: settings by name, of `NetworkConfig` or `TrainConfig`; None values are ignored. They are
            taken as they are, and what depends on them follows.
        effort: of `EFFORTS`; "high" also doubles the hidden vector.
        combine: there are look-ups beside the network, so rows are held out to fit their weights.

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

    beside: dict[str, Any] = {}
    checks.one_of("settings", "effort", effort, EFFORTS)
    _settle_network(found, network, settle, effort, combine)
    _settle_training(found, network, training, settle, effort, combine)
    if combine:
        _settle_lookups(found, network, beside, settle)
    else:
        beside["held_out"] = 0
    _take_the_rest(given, network, training, beside)
    return NetworkConfig(**network), TrainConfig(**training), LookupConfig(**beside), reasons


def hashes_per_table(labels: int) -> int:
    """So many that a bucket holds 32 to 64 labels: a row then looks at a few thousand, however many there are."""
    return max(4, (labels // 32).bit_length() - 1)


def _settle_network(found: Statistics, network: dict[str, Any], settle: Any, effort: str, combine: bool) -> None:
    few, rows = found.labels <= DENSE_LABELS, found.rows
    reason = f"{found.labels} labels, all computed" if few else f"{found.labels} labels; uniform ones a batch"
    negatives = settle(network, "negatives", 0 if few else 1024 if combine else 4096, reason)
    dense = negatives == 0 or negatives >= found.labels
    reason = "no look-up where all labels are computed" if dense else "labels looked up for each row"
    if combine and not dense:
        reason = "the cross weights learn from hard negatives"
    hard = settle(network, "hard_negatives", 0 if dense or combine else 8, reason)
    if settle(network, "index", "lsh" if hard else "clustered", "of the output layer") == "lsh":
        bits = hashes_per_table(found.labels)
        tables = {"num_tables": 16, "hashes_per_table": bits}
        settle(network, "index_options", tables, f"{found.labels >> bits} labels a bucket")
    single = found.max_labels_per_row <= 1
    many = dense or found.labels_per_row >= MANY_LABELS_A_ROW
    reason = "one label a row" if single else f"{found.labels_per_row:.1f} labels a row"
    settle(network, "loss", "sigmoid" if many and not single else "softmax", reason)
    wide, narrow = (384, 192) if combine else (512, 256)
    width = 128 if rows < FEW_STEPS else wide if dense and rows >= LARGE_ROWS else 256 if dense else narrow
    width *= 2 if effort == "high" else 1
    settle(network, "hidden", width, f"{rows} rows, {found.labels} labels")
    dropout = 0.1 if rows < FEW_STEPS else 0.5 if dense else 0.3
    settle(network, "dropout", dropout, "more where all labels share the hidden vector")
    settle(network, "storage", "int8", "a quarter of the memory; rounding costs less than a tenth of a point")
    network["output_std"] = 0.02 if network["loss"] == "sigmoid" else 0.05
    settle(network, "lr", 1e-2 if rows < FEW_STEPS else 5e-3, "Adam, with warm-up and cosine decay")


def _settle_lookups(found: Statistics, network: dict[str, Any], beside: dict[str, Any], settle: Any) -> None:
    """A twentieth of the rows is held out, of few rows a tenth; as many cross weights as the network has."""
    held_out = 0 if found.rows < FEWEST_ROWS else min(MOST_HELD_OUT, found.rows // 10, max(500, found.rows // 20))
    settle(beside, "held_out", held_out, "rows that fit the weights of the three scores")
    weights = network["hidden"] * (found.features + found.labels)
    buckets = min(MOST, found.features * found.labels, max(FEWEST, weights))
    settle(
        beside,
        "buckets",
        max(LEAST_BUCKETS * found.labels_seen, buckets),
        "cross weights, a byte each: as many as the network has weights",
    )
    beside["seed"] = 0


def _settle_training(
    found: Statistics,
    network: dict[str, Any],
    training: dict[str, Any],
    settle: Any,
    effort: str,
    combine: bool,
) -> None:
    rows = found.rows
    batch = 256 if rows >= LARGE_ROWS else max(8, min(64, rows // 16))
    batch = settle(training, "batch_size", batch, f"{rows} rows")
    enough = -(-FEW_STEPS * batch // rows) if rows else 1  # epochs for FEW_STEPS steps
    usual = 6 if rows >= HUGE_ROWS else 9 if network["negatives"] == 0 else 12
    if combine and rows >= LARGE_ROWS:  # the other look-ups carry what a longer run would add
        usual, enough = 3 if rows >= HUGE_ROWS else 6, 1
    epochs = max(1, round(EFFORTS[effort] * min(100, max(usual, enough))))
    settle(training, "epochs", epochs, f"{rows} rows, {effort} effort")
    settle(training, "seed", 0, "the same seed gives the same model")


def _take_the_rest(
    given: dict[str, Any], network: dict[str, Any], training: dict[str, Any], beside: dict[str, Any]
) -> None:
    """Overrides of settings that have no rule."""
    known = [(NetworkConfig, network), (TrainConfig, training), (LookupConfig, beside)]
    owners = [({f.name for f in fields(config)} - {"parts"}, settings) for config, settings in known]
    for name, value in given.items():
        checks.one_of("settings", "name", name, set().union(*(names for names, _ in owners)))
        for names, settings in owners:
            if name in names:
                settings[name] = value
