"""The rules that choose settings: sensible for every shape of data, overridden one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hashfold.data import Statistics
from hashfold.errors import InputError
from hashfold.model import PARTS
from hashfold.optim import OPTIMIZERS
from hashfold.train.defaults import OF_NETWORKS, choose, choose_parts

TYPICAL = Statistics(
    rows=90_000,
    features=37_000,
    labels=100_000,
    nnz=5_000_000,
    features_per_row=55.0,
    labels_per_row=3.5,
    max_labels_per_row=40,
    labels_seen=97_000,
    label_count_quantiles={"99": 36.0},
    rows_without_labels=0,
    rows_without_features=0,
    values_are_counts=True,
)


def test_many_labels_are_sampled_and_few_computed() -> None:
    many = replace(TYPICAL, labels_per_row=9.0)
    sampled, computed = (choose(replace(many, labels=n), parts=("deep",))[0] for n in (TYPICAL.labels, 4000))
    assert (sampled.negatives, sampled.hard_negatives > 0) == (4096, True)
    assert (computed.negatives, computed.hard_negatives) == (0, 0)
    assert not sampled.phases
    assert not computed.phases


def test_of_many_rows_labels_that_are_drawn_start_at_their_rows_and_need_fewer_epochs() -> None:
    drawn, computed = (choose(replace(TYPICAL, labels=n)) for n in (4_000, 1_000))
    assert (drawn[0].loss, drawn[0].label_start > 0, computed[0].label_start) == ("sigmoid", True, 0)
    assert drawn[1].epochs < computed[1].epochs
    assert choose(replace(TYPICAL, labels=4_000, rows=5_000))[0].label_start == 0
    assert choose(replace(TYPICAL, labels=4_000), {"label_start": 0.0})[1].epochs == computed[1].epochs


def test_a_softmax_over_many_labels_alone_starts_at_their_rows_and_looks_up_later() -> None:
    network = choose(TYPICAL, parts=("deep",))[0]
    assert (network.loss, network.index) == ("softmax", "tree")
    assert network.phases[0][1:] == [0, 0]
    assert network.phases[-1][1] > 0
    assert network.label_start == choose(TYPICAL)[0].label_start > 0
    assert choose(TYPICAL, {"label_norm": 12.0}, parts=("deep",))[0].label_start == 0.0
    for asked in (
        {"negatives": 512},
        {"hard_negatives": 4},
        {"label_norm": 12.0},
        {"index": "lsh"},
        {"loss": "sigmoid"},
    ):
        assert not choose(TYPICAL, asked, parts=("deep",))[0].phases
    assert not choose(TYPICAL)[0].phases


def test_labels_of_few_rows_join_a_network_alone_where_others_have_rows_enough() -> None:
    few = replace(TYPICAL, label_count_quantiles={"99": 9.0})
    for found, asked, least in (
        (TYPICAL, {}, 5),
        (few, {}, 1),
        (few, {"least_rows": 3}, 3),
        (TYPICAL, {"least_rows": 1}, 1),
    ):
        network, _, beside, _ = choose(found, asked, parts=("deep",))
        assert beside.least_rows == least
        # all labels: none drawn; the frequent ones: drawn too, as there are few
        assert (network.phases[-1][2] > 0) == (least > 1)
    assert choose(TYPICAL, {"negatives": 512}, parts=("deep",))[2].least_rows == 1
    assert choose(replace(TYPICAL, labels=4_000), parts=("deep",))[2].least_rows == 1


def test_a_network_among_three_look_ups_is_smaller_and_trained_shorter() -> None:
    alone, combined = choose(TYPICAL, parts=("deep",)), choose(TYPICAL)
    assert combined[0].hidden < alone[0].hidden
    assert combined[0].negatives < alone[0].negatives
    assert combined[0].hard_negatives == 0  # the cross weights have them
    assert combined[1].epochs < alone[1].epochs
    assert (combined[2].held_out > 0, alone[2].held_out) == (True, 0)


def test_labels_of_few_rows_are_left_to_near_where_there_are_many_labels() -> None:
    parts = (("deep", "wide", "near"), ("deep", "near"), ("deep", "wide"), ("deep",), ("wide", "near"))
    assert [choose(TYPICAL, parts=p)[2].least_rows for p in parts] == [4, 4, 1, 5, 1]
    assert choose(replace(TYPICAL, labels=8_000))[2].least_rows == 1
    assert choose(TYPICAL, {"least_rows": 7})[2].least_rows == 7


def test_high_effort_keeps_fewer_cross_weights_each_its_own_of_many_rows() -> None:
    high, normal = (choose(TYPICAL, effort=effort)[2] for effort in ("high", "normal"))
    assert (high.weights, normal.weights) == (high.buckets // 5, 0)
    assert choose(TYPICAL, {"weights": 77})[2].weights == 77
    few_rows, few_rows_a_label = (
        replace(TYPICAL, rows=5_000),
        replace(TYPICAL, labels_seen=300_000, labels=300_000),
    )
    few_rows_a_label = replace(few_rows_a_label, label_count_quantiles={"99": 2.0})
    for found in (few_rows, few_rows_a_label):
        assert choose(found, effort="high", parts=("wide", "near"))[2].weights == 0


@pytest.mark.parametrize(
    ("changes", "loss"),
    [
        ({}, "softmax"),
        ({"labels_per_row": 11.0}, "sigmoid"),
        ({"labels": 4000}, "sigmoid"),
        ({"labels": 4000, "labels_per_row": 1.0, "max_labels_per_row": 1}, "softmax"),
    ],
)
def test_loss_follows_the_labels_of_a_row(changes: dict[str, object], loss: str) -> None:
    assert choose(replace(TYPICAL, **changes))[0].loss == loss  # type: ignore[arg-type]


def test_beside_other_look_ups_all_labels_are_computed_only_where_they_are_few() -> None:
    few, some, many = (choose(replace(TYPICAL, labels=n))[0] for n in (1000, 4000, TYPICAL.labels))
    assert (few.negatives, some.negatives, many.negatives) == (0, 1024, 1024)
    assert few.hidden > some.hidden > many.hidden


def test_small_data_gets_small_batches() -> None:
    small, usual = choose(replace(TYPICAL, rows=500, labels=50))[1], choose(TYPICAL)[1]
    assert small.batch_size < usual.batch_size
    assert small.epochs * 500 / small.batch_size >= 1000  # steps
    assert choose(replace(TYPICAL, rows=1, labels=1))[1].epochs <= 100


def test_overrides_win_and_what_depends_on_them_follows() -> None:
    network, training, _, reasons = choose(
        TYPICAL, {"negatives": 0, "epochs": 3, "label_norm": 12.0, "warmup_fraction": 0.1, "dropout": None}
    )
    assert (network.negatives, network.loss, network.hidden, network.label_norm) == (0, "sigmoid", 384, 12.0)
    assert (training.epochs, training.warmup_fraction) == (3, 0.1)
    assert "epochs 3: as asked" in reasons


def test_the_rate_is_the_optimizers() -> None:
    rates = {rule: choose(TYPICAL, {"optimizer": rule})[0].lr for rule in OPTIMIZERS}
    assert rates["adam"] == rates["rowwise_adam"] == rates["compact_adam"] == choose(TYPICAL)[0].lr
    assert rates["rowwise_adagrad"] > 10 * rates["adam"]
    assert choose(TYPICAL, {"optimizer": "rowwise_adagrad", "lr": 0.3})[0].lr == 0.3


def test_a_huge_network_is_trained_with_compact_state() -> None:
    huge = replace(TYPICAL, features=135_909, labels=670_091, labels_seen=600_000)
    assert (choose(TYPICAL)[0].optimizer, choose(huge)[0].optimizer) == ("adam", "compact_adam")
    assert choose(huge, {"hidden": 64})[0].optimizer == "adam"
    assert choose(huge, {"optimizer": "adam"})[0].optimizer == "adam"


def test_labels_of_one_length_have_no_biases_and_a_rate_of_their_own() -> None:
    free, held = choose(TYPICAL)[0], choose(TYPICAL, {"label_norm": 12.0})[0]
    assert held.loss == free.loss == "softmax"
    assert (free.unit_hidden, free.label_bias, free.label_norm) == (False, True, 0.0)
    assert (held.unit_hidden, held.label_bias, held.label_norm) == (True, False, 12.0)
    assert held.lr > free.lr
    asked = choose(TYPICAL, {"label_norm": 12.0, "label_bias": True, "lr": 1e-3})[0]
    assert (asked.label_bias, asked.lr) == (True, 1e-3)
    many = choose(TYPICAL, {"label_norm": 12.0, "loss": "sigmoid"})[0]
    assert (many.unit_hidden, many.label_bias) == (False, True)  # a sigmoid needs its biases


@pytest.mark.parametrize("labels", [10_000, 52_946, 103_602, 513_884, 10_000_000])
def test_buckets_stay_small_however_many_labels(labels: int) -> None:
    options = choose(replace(TYPICAL, labels=labels, labels_per_row=9.0), parts=("deep",))[0].index_options
    assert 32 <= labels / 2 ** options["hashes_per_table"] <= 64


def test_every_choice_has_its_reason() -> None:
    network, training, beside, reasons = choose(TYPICAL)
    said = {line.split()[0] for line in reasons}
    assert {"loss", "hidden", "dropout", "negatives", "lr", "epochs", "batch_size", "held_out", "buckets"} <= said
    assert f"hidden {network.hidden}:" in " ".join(reasons)
    assert f"epochs {training.epochs}:" in " ".join(reasons)
    assert f"buckets {beside.buckets}:" in " ".join(reasons)


def test_effort_buys_epochs_and_width() -> None:
    low, normal, high = (choose(TYPICAL, effort=effort) for effort in ("low", "normal", "high"))
    assert low[1].epochs < normal[1].epochs < high[1].epochs
    assert low[0].hidden == normal[0].hidden < high[0].hidden
    assert low[2].starts < normal[2].starts < high[2].starts
    few = replace(TYPICAL, rows=5_000)  # a wider network, or a longer run, learned no more of them
    low, normal, high = (choose(few, effort=effort) for effort in ("low", "normal", "high"))
    assert low[1].epochs < normal[1].epochs == high[1].epochs
    assert normal[0].hidden == high[0].hidden
    with pytest.raises(InputError, match="effort"):
        choose(TYPICAL, effort="heroic")


def test_rows_are_held_out_only_where_there_is_something_to_combine() -> None:
    assert choose(TYPICAL)[2].held_out == 4_000
    assert choose(replace(TYPICAL, rows=3_000))[2].held_out == 300
    assert choose(replace(TYPICAL, rows=40))[2].held_out == 0
    assert choose(TYPICAL, parts=("deep",))[2].held_out == 0
    assert choose(TYPICAL, {"held_out": 7, "buckets": 99})[2].buckets == 99


@pytest.mark.parametrize("overrides", [{"colour": 1}, {"hidden": 0}, {"epochs": -1}, {"loss": "hinge"}])
def test_bad_overrides_are_refused(overrides: dict[str, object]) -> None:
    with pytest.raises(InputError):
        choose(TYPICAL, overrides)


SPARSE = replace(  # kowiki-articles
    TYPICAL,
    rows=700_000,
    labels=513_884,
    labels_per_row=1.0,
    labels_seen=513_884,
    label_count_quantiles={"99": 2.0},
)


@pytest.mark.parametrize(
    ("changes", "deep"),
    [
        ({}, False),
        ({"rows": 2 * 513_884}, True),
        ({"labels_per_row": 2.0}, True),
        ({"label_count_quantiles": {"99": 9.0}}, True),  # a tenth of acl-authors
        ({"labels_seen": 300_000}, True),  # the others have no rows, and do not count
        ({"rows": 70, "labels": 100, "labels_seen": 60}, True),  # few labels: a network costs nothing
    ],
)
def test_a_network_is_left_out_where_labels_have_too_few_rows(changes: dict[str, object], deep: bool) -> None:
    parts, reasons = choose_parts(replace(SPARSE, **changes))  # type: ignore[arg-type]
    assert parts == (PARTS if deep else ("wide", "near"))
    assert [line.split(":")[0] for line in reasons] == ([] if deep else ["deep left out"])


def test_what_is_asked_for_is_trained() -> None:
    assert choose_parts(SPARSE, PARTS) == (PARTS, [])
    assert choose_parts(SPARSE, ["near", "deep"]) == (("deep", "near"), [])
    assert choose_parts(SPARSE, without=["near"])[0] == ("deep", "wide")  # who else would propose labels?
    assert choose_parts(SPARSE, without=["wide"])[0] == ("near",)
    assert choose_parts(TYPICAL, without=["deep"])[0] == ("wide", "near")
    parts, (reason,) = choose_parts(SPARSE, overrides={"hidden": 64, "buckets": 9, "epochs": None})
    assert parts == PARTS
    assert "deep kept" in reason
    assert "hidden" in reason
    assert choose_parts(SPARSE, overrides={"seed": 1, "threads": 2, "buckets": 9})[0] == ("wide", "near")


def test_labels_of_one_or_two_rows_lose_alike() -> None:
    assert choose(SPARSE, parts=("wide", "near")).beside.alike
    assert not choose(SPARSE, {"alike": False}, parts=("wide", "near")).beside.alike
    assert not choose(SPARSE).beside.alike  # the network would lose its rows
    assert not choose(TYPICAL, parts=("wide", "near")).beside.alike


def test_values_below_zero_have_no_neighbours() -> None:
    below = replace(SPARSE, values_below_zero=True)
    assert choose_parts(below)[0] == ("deep", "wide")
    assert "near left out" in choose_parts(below)[1][0]
    with pytest.raises(InputError, match=r"got wide; near needs values of at least 0; train with deep"):
        choose_parts(below, without=["deep"])


@pytest.mark.parametrize("parts", [("wide",), ()])
def test_somebody_must_propose_labels(parts: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="deep or near must be left"):
        choose_parts(TYPICAL, parts)
    with pytest.raises(InputError, match="deep or near must be left"):
        choose_parts(TYPICAL, without=set(PARTS) - set(parts))
    with pytest.raises(InputError, match="parts must be one of"):
        choose_parts(TYPICAL, without=["luck"])


def test_without_deep_there_are_no_settings_of_networks() -> None:
    network, training, beside, reasons = choose(TYPICAL, {"seed": 3, "threads": 1}, parts=("wide", "near"))
    assert (network, training) == (None, None)
    assert (beside.parts, beside.seed, beside.threads) == (("wide", "near"), 3, 1)
    with_deep = choose(TYPICAL).beside
    assert (beside.held_out, beside.buckets) == (with_deep.held_out, with_deep.buckets)
    assert {line.split()[0] for line in reasons} == {"held_out", "buckets", "starts"}
    for name in sorted(OF_NETWORKS):
        with pytest.raises(InputError, match=f"network to set {name}"):
            choose(TYPICAL, {name: 1}, parts=("near",))
    assert {"hidden", "epochs", "storage", "patience"} <= OF_NETWORKS
    with pytest.raises(InputError, match="one of"):
        choose(TYPICAL, {"colour": 1}, parts=("near",))
