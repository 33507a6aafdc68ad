"""The neighbours, the folded cross weights, and how the three look-ups are combined, after the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hashfold import checks
from hashfold.data import Dataset, label_counts
from hashfold.metrics import contains, propensities
from hashfold.model import (
    PARTS,
    DeepPath,
    LookupNetwork,
    Lookups,
    Near,
    Outputs,
    PrunedWide,
    Wide,
    combinations,
    feature_names,
    fit_mixer,
    key_of,
)
from hashfold.model.mixing import STARTS
from hashfold.sparse import Int32, Int64, Ragged, RaggedIds
from hashfold.train.pruning import prune

FEWEST_ROWS = 20  # held-out rows with a true label among their candidates; fewer cannot fit the weights
_BLOCK_ROWS = 8_192


@dataclass(frozen=True)
class LookupConfig:
    """Settings of the look-ups beside the network.

    parts: which of deep, wide and near the model has. held_out: rows that only fit the weights of the scores.
    alike: all labels lose a row while those are fitted, see `split_alike`; for models without a network.
    least_rows: of a label that the network learns, 1: all labels; those with fewer are left to the neighbours and
    the cross weights, or, where near is no part, join the network once it is trained (`model.join_labels`).
    shortlist: labels of a row's neighbours that the cross weights learn to tell from its own. buckets: cross
    weights in all, a byte each. weights: above 0, the largest so many are kept instead, each its own, see
    `hashfold.train.pruning`. wide_epochs, wide_lr: of their training (Adagrad, linear decay). starts: of the
    mixture of all scores, see `fit_mixer`. rare: favours labels seen rarely, for PSP@k at the price of P@k: in the
    fit of the mixture a true label counts 1 / propensity to this power, beside the others of its row (0: all
    alike; 1/2 is a good try), and probabilities are fitted as ever. threads: as of `TrainConfig`.
    """

    parts: tuple[str, ...] = PARTS
    held_out: int = 1_000
    alike: bool = False
    least_rows: int = 1
    shortlist: int = 60
    buckets: int = 2**24
    weights: int = 0
    wide_epochs: int = 3
    wide_lr: float = 0.4
    starts: int = STARTS
    rare: float = 0.0
    seed: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        op = "LookupConfig"
        for part in self.parts:
            checks.one_of(op, "part", part, PARTS)
        if not {"deep", "near"} & set(self.parts):
            checks.fail(op, "parts must hold deep or near, which propose labels", key_of(self.parts) or "none")
        if self.alike and "deep" in self.parts:
            remedy = "hold out rows at random, or train without deep"
            checks.fail(op, "alike must be false where rows train a network", "alike with deep", remedy)
        if self.threads is not None:
            checks.integer(op, "threads", self.threads, low=1)
        for name in ("shortlist", "wide_epochs", "starts", "least_rows"):
            checks.integer(op, name, getattr(self, name), low=1)
        checks.integer(op, "buckets", self.buckets, low=1, high=2**28)
        checks.integer(op, "weights", self.weights, low=0, high=2**30)
        checks.integer(op, "held_out", self.held_out, low=0)
        checks.integer(op, "seed", self.seed, low=0)
        checks.number(op, "wide_lr", self.wide_lr, above=0.0)
        if checks.number(op, "rare", self.rare, low=0.0) and self.parts == ("deep",):
            remedy = "train with wide or near, or favour rare labels when predicting"
            checks.fail(op, "rare is of the mixture's fit, which deep alone has not", self.rare, remedy)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def split(rows: int, held_out: int, seed: int) -> tuple[Int64, Int64]:
    """Row ids for the network's training, and those held out; both ascend.

    Raises InputError where none would be left to train on.
    """
    checks.integer("train", "held_out", held_out, low=0, high=rows - 1)
    order = np.random.default_rng((seed, 11)).permutation(rows)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def split_alike(y: RaggedIds, seed: int) -> tuple[Int64, Int64]:
    """Row ids, ascending: those left, and those withheld: one of each label that has others left.

    Held out at random, a row takes one from its own labels, the right ones, and none from the wrong ones they
    compete with. That is little to a label with many rows, and half of what a label with two rows has. A row is
    withheld if in a random order it is the first of each of its labels, and none of them has it alone: where rows
    have one label, all labels with two rows or more lose one.
    """
    order = np.random.default_rng((seed, 11)).permutation(len(y))
    shuffled = y.take(order)
    first = np.zeros(len(shuffled.ids), bool)
    first[np.unique(shuffled.ids, return_index=True)[1]] = True
    gives = first & (label_counts(y)[shuffled.ids] > 1)
    row = np.repeat(order, shuffled.counts)
    withheld = np.zeros(len(y), bool)
    withheld[row[gives]] = True
    withheld[row[~gives]] = False
    return np.flatnonzero(~withheld), np.flatnonzero(withheld)


def fit_lookups(
    network: LookupNetwork | None,
    train: Dataset,
    counts: Int64,
    config: LookupConfig,
    say: Callable[[str], None] = lambda line: None,
    outputs: Outputs | None = None,
) -> Lookups:
    """Neighbours and cross weights of all rows of `train` (weighted), and mixers fitted on those held out.

    `network`, there if deep is among the parts, was trained on the first ids of `split(len(train),
    config.held_out, config.seed)`; outputs: the labels that it learned, by default all. The weights of the
    scores are fitted with neighbours, cross weights and counts of labels that have not seen the held-out rows (a
    label counted once more than the others know it would be known for the right one); then these join the
    neighbours, and the cross weights are trained anew, on all rows. No row counts as its own neighbour. With
    `alike`, more rows than fit the weights are held out.

    Where the held-out rows are too few, the deep path is left alone, or the neighbours where it is not there or
    does not know all labels.
    """
    if config.parts == ("deep",):
        return Lookups(network, counts, outputs=outputs)
    kept, held, fitting = _parted(train, config)
    if not len(held):
        say(f"{_left_alone(network, outputs)} alone: no rows are held out to combine it with others")
        return _alone(network, train, counts, config, outputs)
    rows = train.take(kept)
    lookups = Lookups(network, label_counts(rows.y), near=_neighbours(rows, config), outputs=outputs)
    pairs = shortlists(lookups, rows, np.arange(len(rows), dtype=np.int32), config)
    lookups.wide = fit_wide(rows, pairs, config)
    _fit_mixers(lookups, len(rows), train.take(fitting), config, say)
    if not lookups.mixers:
        return _alone(network, train, counts, config, outputs)
    lookups.near, lookups.counts = _neighbours(train, config), counts
    if lookups.wide is not None:
        others = shortlists(lookups, train.take(held), held.astype(np.int32), config)
        everything = train.take(np.concatenate([kept, held]))
        lookups.wide = fit_wide(everything, _concatenated([pairs, others]), config)
    return lookups


def _parted(train: Dataset, config: LookupConfig) -> tuple[Int64, Int64, Int64]:
    """Row ids: those left, those held out, and those of the latter that fit the weights of the scores."""
    if not (config.alike and config.held_out):
        kept, held = split(len(train), config.held_out, config.seed)
        return kept, held, held
    kept, held = split_alike(train.y, config.seed)
    some = np.random.default_rng((config.seed, 12)).permutation(len(held))[: config.held_out]
    return kept, held, held[np.sort(some)]


def _left_alone(network: DeepPath | None, outputs: Outputs | None) -> str:
    """Which look-up needs no weights of scores: the network, if it is there and knows all labels."""
    return "near" if network is None or (outputs is not None and outputs.partial) else "deep"


def _alone(
    network: LookupNetwork | None, train: Dataset, counts: Int64, config: LookupConfig, outputs: Outputs | None
) -> Lookups:
    if _left_alone(network, outputs) == "deep":
        return Lookups(network, counts)
    return Lookups(None, counts, near=_neighbours(train, config))


def _neighbours(rows: Dataset, config: LookupConfig) -> Near | None:
    if "near" not in config.parts:
        return None
    near = Near(rows.num_features, rows.num_labels)
    near.add(rows.x, rows.y)
    return near


def shortlists(lookups: Lookups, examples: Dataset, ids: Int32, config: LookupConfig) -> Ragged:
    """Each row's own labels, then the best of its neighbours' (the network's, without neighbours) others.

    ids: of these rows among the neighbours. Rows held out must not be neighbours: their labels would be wrong
    answers wherever they are looked up, and never right ones.
    """
    parts = []
    for begin in range(0, len(examples), _BLOCK_ROWS):
        rows = np.arange(begin, min(len(examples), begin + _BLOCK_ROWS))
        x, y = examples.x.take(rows), examples.y.take(rows)
        if lookups.near is not None:
            parts.append(lookups.near.rivals(x, y, config.shortlist, ids[rows]))
        else:
            parts.append(_united(y, lookups.deep.ranked(x, config.shortlist, lookup=False)[0]))
    return _concatenated(parts)


def _united(y: Ragged, found: Ragged) -> Ragged:
    rows = [np.concatenate([y[i], found[i][~np.isin(found[i], y[i])]]) for i in range(len(y))]
    return Ragged(np.concatenate([[0], np.cumsum([len(r) for r in rows])]), np.concatenate(rows).astype(np.int32))


def _concatenated(parts: list[Ragged]) -> Ragged:
    counts = np.concatenate([part.counts for part in parts])
    return Ragged(np.concatenate([[0], np.cumsum(counts)]), np.concatenate([part.ids for part in parts]))


def fit_wide(rows: Dataset, pairs: Ragged, config: LookupConfig) -> Wide | PrunedWide | None:
    """Cross weights trained on pairs of a row and a label, each row's own labels first; None without wide."""
    if "wide" not in config.parts:
        return None
    wide = Wide(
        rows.num_features,
        rows.num_labels,
        budget_buckets=config.buckets,
        sign=True,
        initial_sum=1.0,
        epochs=config.wide_epochs,
        lr=config.wide_lr,
        seed=config.seed,
    )
    rank = np.arange(len(pairs.ids)) - np.repeat(pairs.indptr[:-1], pairs.counts)
    targets = (rank < np.repeat(rows.y.counts, pairs.counts)).astype(np.float32)
    if config.weights:
        return prune(rows, pairs, targets, config.weights, wide.rule, start_bias=wide.start_bias)
    wide.fit(rows.x, pairs, targets)
    return wide


def _fit_mixers(
    lookups: Lookups, rows: int, held: Dataset, config: LookupConfig, say: Callable[[str], None]
) -> None:
    """One for all the parts, and one for each of them left out. rows: that `lookups` knows."""
    names = feature_names(lookups.parts)
    pairs, features = lookups.features(held.x)
    true = contains(held.y, pairs)
    row = np.repeat(np.arange(len(held)), pairs.counts)
    told = np.unique(row[true]).size
    if told < FEWEST_ROWS or true.all():
        left = _left_alone(lookups.network, lookups.outputs)
        say(f"{left} alone: {told} held-out rows with a true candidate are too few to combine it")
        return
    weights = propensities(lookups.counts, rows)[pairs.ids] ** -config.rare if config.rare else None
    for parts in combinations(config.parts):
        wanted = feature_names(parts)
        columns = [names.index(name) for name in wanted]
        mixer = fit_mixer(
            wanted,
            np.ascontiguousarray(features[:, columns]),
            pairs.indptr,
            true,
            weights=weights,
            seed=config.seed,
            starts=config.starts if len(parts) == len(config.parts) else 1,  # what is left out is seldom asked for
        )
        lookups.mixers[key_of(parts)] = mixer
    units = len(lookups.mixers[key_of(config.parts)].out)
    say(f"combined on {len(held)} held-out rows, with {units} hidden units")
