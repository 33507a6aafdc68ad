"""Settings chosen from the data: rules that are written down, so that they can be checked and overridden."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from hashfold import checks
from hashfold.data import Statistics
from hashfold.model import PARTS, NetworkConfig
from hashfold.model.wide import FEWEST, LEAST_BUCKETS, MOST
from hashfold.train.config import TrainConfig
from hashfold.train.lookups import LookupConfig
from hashfold.train.pruning import BUCKETS_A_WEIGHT

DENSE_LABELS = 8_192  # up to so many labels, computing all of them costs no more than choosing some
DENSE_BESIDE = 2_048  # the same where the other look-ups carry what a stronger network would add
LEAST_ROWS = 4  # of a label that the network learns, where others know the rest
LEAST_ALONE = 5  # the same where the rest joins it untrained, once it is trained
MANY_LABELS_A_ROW = 5.0
LARGE_ROWS, HUGE_ROWS = 20_000, 300_000
EFFORTS = {"low": 0.5, "normal": 1.0, "high": 1.5}  # times the epochs
STARTS = {"low": 1, "normal": 3, "high": 6}  # of the mixtures of scores
MOST_HELD_OUT = 4_000
FEWEST_ROWS = 50  # with fewer there is nothing to hold out
FEW_STEPS = 1_000  # small data sets are gone through until so many steps are made
RISING = (
    (0.4, 0, 0),
    (0.7, 2, 0),
    (1.0, 8, 0),
)  # phases: up to a share of the steps, labels looked up, uniform ones
OF_FREQUENT = (
    (0.3, 0, 0),
    (0.5, 0, 512),
    (1.0, 4, 512),
)  # the same, where only labels with rows enough are learned
START = 4.0  # the length of label vectors at first: 8 learns faster, and less in the end
WITHOUT_PHASES = {"negatives", "hard_negatives", "index", "label_norm", "loss"}  # who asks for one of these
COMPACT_WEIGHTS = 1 << 26  # of a network, whose Adam would keep half a GB; small sets lose .003 of P@1 by less
ADAGRAD_RATE = 1e-1  # its steps shrink as its sums grow
HELD_RATE = 4e-2  # of label vectors held to a length, whose gradients are small beside them
FEW_ROWS_A_LABEL = 2.0  # with fewer in the mean, and hardly any label with more, a network learned nothing
SOME_ROWS = 5.0  # where 1 label in 100 has so many, it did
OF_NETWORKS = {f.name for kind in (NetworkConfig, TrainConfig) for f in fields(kind)} - {
    f.name for f in fields(LookupConfig)
}
"""Settings that only models with a network have."""


class Settings(NamedTuple):
    """What `choose` chose. network, training: None without the deep path. reasons: a line for each choice."""

    network: NetworkConfig | None
    training: TrainConfig | None
    beside: LookupConfig
    reasons: list[str]


def choose_parts(
    found: Statistics,
    parts: Collection[str] | None = None,
    without: Collection[str] = (),
    overrides: Mapping[str, Any] | None = None,
) -> tuple[tuple[str, ...], list[str]]:
    """Which of deep, wide and near a model of data like `found` has, and a line for each one left out by a rule.

    Near needs values of at least 0. Deep needs labels that have rows to learn from: where there are many labels,
    with fewer than `FEW_ROWS_A_LABEL` rows each, and 99 in 100 of them with fewer than `SOME_ROWS`, it is left
    out, unless asked for. (kowiki-articles, 1.4 and 2: P@1 .0003 by the network alone, a point less with it than
    without; a tenth of acl-authors' rows, 1.6 and 9: .016, a third of a point more.)

    Args:
        parts: those asked for; None: all that the rules leave.
        without: those that shall be left out.
        overrides: settings as of `choose`; one that only a network has asks for deep.

    Raises: InputError: an unknown part, or deep and near both left out, so that none proposes labels.
    """
    for part in (*(parts or ()), *without):
        checks.one_of("train", "parts", part, PARTS)
    chosen = [p for p in PARTS if (parts is None or p in parts) and p not in without]
    reasons = []
    if "near" in chosen and found.values_below_zero:
        chosen.remove("near")
        reasons.append("near left out: neighbours need values of at least 0")
    if parts is None and {"deep", "near"} <= set(chosen) and few_rows_a_label(found):
        rows = rows_a_label(found)
        asked = [name for name, value in (overrides or {}).items() if value is not None and name in OF_NETWORKS]
        if asked:
            reasons.append(f"deep kept, with {rows:.2f} rows a label: {asked[0]} is a setting of its network")
        else:
            chosen.remove("deep")
            reasons.append(f"deep left out: {rows:.2f} rows a label are too few for a network to learn from")
    if "deep" not in chosen and "near" not in chosen:
        came = "+".join(chosen) or "none"
        remedy = (
            "near needs values of at least 0; train with deep" if found.values_below_zero else "train with one"
        )
        checks.fail("train", "deep or near must be left to propose labels", came, remedy)
    return tuple(chosen), reasons


def few_rows_a_label(found: Statistics) -> bool:
    """Many labels, with one or two rows each, hardly any with more."""
    few = rows_a_label(found) < FEW_ROWS_A_LABEL and found.label_count_quantiles["99"] < SOME_ROWS
    return found.labels > DENSE_LABELS and few


def rows_a_label(found: Statistics) -> float:
    """Of the labels that occur, in the mean."""
    return found.labels_per_row * found.rows / max(1, found.labels_seen)


def choose(
    found: Statistics,
    overrides: Mapping[str, Any] | None = None,
    *,
    effort: str = "normal",
    parts: Collection[str] = PARTS,
) -> Settings:
    """The network, its training run and the look-ups beside it for data like `found`, and a line for each
    choice with its reason.

    Args:
        found: of the training rows, without those that cannot be used.
        overrides: settings by name, of `NetworkConfig`, `TrainConfig` or `LookupConfig`; None values are ignored.
            They are taken as they are, and what depends on them follows.
        effort: of `EFFORTS`; "high" trains a network twice as wide for longer, of `LARGE_ROWS` or more, fewer
            cross weights that are each its own, and fits mixtures of scores from more starts.
        parts: of the model. With wide or near, rows are held out to fit the weights of the scores.

    Raises: InputError for an unknown name or a value out of range, or a network's setting without deep.
    """
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    deep, combine = "deep" in parts, set(parts) != {"deep"}
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
    if deep:
        _settle_network(found, network, settle, effort, combine, given)
        _settle_training(found, network, training, settle, effort, combine)
    if combine:
        width = network.get("hidden", hidden_width(found, found.labels <= DENSE_BESIDE, effort, combine))
        _settle_lookups(found, width, beside, settle, effort)
        settle(beside, "starts", STARTS[effort], f"mixtures of scores, {effort} effort")
        if {"deep", "near"} <= set(parts) and found.labels > DENSE_LABELS:
            settle(
                beside, "least_rows", LEAST_ROWS, "of a label, for the network to learn it; others know the rest"
            )
        if not deep and few_rows_a_label(found):
            settle(beside, "alike", True, f"{rows_a_label(found):.2f} rows a label: all lose one to the fit")
    else:
        beside["held_out"] = 0
        if _phased(found, combine, given):
            least = least_rows_alone(found)
            reason = (
                "of a label, for the network to learn it; others join it later" if least > 1 else "all learned"
            )
            settle(beside, "least_rows", least, reason)
    beside["parts"] = tuple(part for part in PARTS if part in parts)
    _take_the_rest(given, deep, network, training, beside)
    chosen = LookupConfig(**beside)
    if not deep:
        return Settings(None, None, chosen, reasons)
    return Settings(NetworkConfig(**network), TrainConfig(**training), chosen, reasons)


def least_rows_alone(found: Statistics) -> int:
    """Of a label that a network alone learns: more than 1 where a hundredth of the labels have twice as many."""
    return LEAST_ALONE if found.label_count_quantiles["99"] >= 2 * LEAST_ALONE else 1


def _sparse(found: Statistics) -> bool:
    """Many labels, few a row."""
    return found.labels > DENSE_LABELS and found.labels_per_row < MANY_LABELS_A_ROW


def _phased(found: Statistics, combine: bool, given: Mapping[str, Any]) -> bool:
    """A softmax network alone over many labels, without settings that phases stand for."""
    return _sparse(found) and not combine and not WITHOUT_PHASES & given.keys()


def hidden_width(found: Statistics, dense: bool, effort: str, combine: bool) -> int:
    """Of a network for data like `found`; dense: it computes all labels."""
    wide, narrow = (384, 192) if combine else (512, 256)
    few, large = found.rows < FEW_STEPS, found.rows >= LARGE_ROWS
    width = 128 if few else wide if dense and large else 256 if found.labels <= DENSE_LABELS else narrow
    return 2 * width if effort == "high" and large else width  # of few rows a wider one learns no more


def hashes_per_table(labels: int) -> int:
    """So many that a bucket holds 32 to 64 labels: a row then looks at a few thousand, however many there are."""
    return max(4, (labels // 32).bit_length() - 1)


def _settle_network(
    found: Statistics,
    network: dict[str, Any],
    settle: Any,
    effort: str,
    combine: bool,
    given: Mapping[str, Any],
) -> None:
    rows, sparse = found.rows, _sparse(found)
    phased = _phased(found, combine, given)
    dense = not phased and _settle_negatives(found, network, settle, combine)
    single = found.max_labels_per_row <= 1
    many = dense or not sparse
    reason = "one label a row" if single else f"{found.labels_per_row:.1f} labels a row"
    settle(network, "loss", "sigmoid" if many and not single else "softmax", reason)
    settle(network, "hidden", hidden_width(found, dense, effort, combine), f"{rows} rows, {found.labels} labels")
    dropout = 0.1 if rows < FEW_STEPS else 0.5 if dense else 0.3
    settle(network, "dropout", dropout, "more where all labels share the hidden vector")
    settle(network, "storage", "int8", "a quarter of the memory; rounding costs less than a tenth of a point")
    network["output_std"] = 0.02 if network["loss"] == "sigmoid" else 0.05
    if phased:
        _settle_phases(network, settle, given.get("least_rows", least_rows_alone(found)) > 1)
    held = _settle_norms(network, settle, given)
    large = combine and rows >= LARGE_ROWS
    if (network["loss"] == "softmax" or large) and not dense and not held:
        settle(network, "label_start", START, "label vectors start where their rows are")
    rate = HELD_RATE if held else 1e-2 if rows < FEW_STEPS else 5e-3
    weights = network["hidden"] * (network["num_features"] + network["num_labels"])
    compact = "a quarter of Adam's state, for so many weights", "compact_adam"
    reason, best = compact if weights >= COMPACT_WEIGHTS else ("two float32 of state a weight in training", "adam")
    rule = settle(network, "optimizer", best, reason)
    rate = ADAGRAD_RATE if rule == "rowwise_adagrad" else rate
    settle(network, "lr", rate, f"{rule}, with warm-up and cosine decay")


def _settle_negatives(found: Statistics, network: dict[str, Any], settle: Any, combine: bool) -> bool:
    """Which labels training computes; whether these are all of them."""
    few = found.labels <= (DENSE_BESIDE if combine else DENSE_LABELS)
    reason = f"{found.labels} labels, all computed" if few else f"{found.labels} labels; uniform ones a batch"
    negatives: int = settle(network, "negatives", 0 if few else 1024 if combine else 4096, reason)
    dense = negatives == 0 or negatives >= found.labels
    reason = "no look-up where all labels are computed" if dense else "labels looked up for each row"
    if combine and not dense:
        reason = "the cross weights learn from hard negatives"
    hard = settle(network, "hard_negatives", 0 if dense or combine else 8, reason)
    if settle(network, "index", "lsh" if hard else "clustered", "of the output layer") == "lsh":
        bits = hashes_per_table(found.labels)
        tables = {"num_tables": 16, "hashes_per_table": bits}
        settle(network, "index_options", tables, f"{found.labels >> bits} labels a bucket")
    return dense


def _settle_phases(network: dict[str, Any], settle: Any, frequent: bool) -> None:
    """Of a softmax network alone over many labels, or the frequent ones: in place of the same negatives all the
    time.
    """
    phases = [list(phase) for phase in (OF_FREQUENT if frequent else RISING)]
    settle(network, "phases", phases, "the batch's labels, then labels looked up")
    settle(network, "index", "tree", "of the output layer, asked in training")
    settle(network, "index_options", {"probes": 8}, "clusters visited: negatives need not be the hardest")
    settle(network, "reinsert", "fixed:100", "labels that moved are found where they are")


def _settle_norms(network: dict[str, Any], settle: Any, given: Mapping[str, Any]) -> bool:
    """Whether label vectors are held to one length, for look-up; with a softmax hidden vectors are then, too, and
    there are no biases.
    """
    held = bool(given.get("label_norm")) and network["loss"] == "softmax"
    if held:
        reason = "labels of one length: the nearest to a hidden vector is the best"
        settle(network, "unit_hidden", True, reason)
        settle(network, "label_bias", False, reason)
    return held


def _settle_lookups(found: Statistics, width: int, beside: dict[str, Any], settle: Any, effort: str) -> None:
    """A twentieth of the rows is held out, of few rows a tenth. Cross weights: half as many again as a network of
    this width has, also where there is none; of few labels twice as many (each has more rows to learn from), and
    no more than it has where labels have one or two. With high effort and many rows, fewer that are each its own.
    """
    held_out = 0 if found.rows < FEWEST_ROWS else min(MOST_HELD_OUT, found.rows // 10, max(500, found.rows // 20))
    settle(beside, "held_out", held_out, "rows that fit the weights of the three scores")
    each = 2 * width if found.labels <= DENSE_LABELS else width if few_rows_a_label(found) else width * 3 // 2
    weights = each * (found.features + found.labels)
    buckets = min(MOST, found.features * found.labels, max(FEWEST, weights))
    reason = f"cross weights, a byte each: {each} for each feature and label"
    buckets = settle(beside, "buckets", max(LEAST_BUCKETS * found.labels_seen, buckets), reason)
    if effort == "high" and found.rows >= LARGE_ROWS and not few_rows_a_label(found):
        settle(beside, "weights", buckets // BUCKETS_A_WEIGHT, "cross weights each its own, high effort")
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
    usual = 6 if rows >= HUGE_ROWS else 9 if network.get("negatives") == 0 else 12
    if combine and rows >= LARGE_ROWS:  # the other look-ups carry what a longer run would add
        few = 5 if network.get("label_start") else 9  # labels that start at their rows have less far to go
        usual, enough = 3 if rows >= HUGE_ROWS else few if found.labels <= DENSE_LABELS else 6, 1
    longer = EFFORTS[effort] if rows >= LARGE_ROWS else min(1.0, EFFORTS[effort])
    epochs = max(1, round(longer * min(100, max(usual, enough))))
    settle(training, "epochs", epochs, f"{rows} rows, {effort} effort")
    settle(training, "seed", 0, "the same seed gives the same model")


def _take_the_rest(
    given: dict[str, Any], deep: bool, network: dict[str, Any], training: dict[str, Any], beside: dict[str, Any]
) -> None:
    """Overrides of settings that have no rule."""
    if not deep and (asked := sorted(OF_NETWORKS & given.keys())):
        remedy = "leave the setting out, or train with deep"
        checks.fail("settings", f"there must be a network to set {asked[0]}", "a model without deep", remedy)
    known = [(NetworkConfig, network), (TrainConfig, training), (LookupConfig, beside)]
    owners = [({f.name for f in fields(config)} - {"parts"}, settings) for config, settings in known]
    for name, value in given.items():
        checks.one_of("settings", "name", name, set().union(*(names for names, _ in owners)))
        for names, settings in owners:
            if name in names:
                settings[name] = value
