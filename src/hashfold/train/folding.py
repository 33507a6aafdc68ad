"""A trained model folded: its three look-ups made smaller, and their scores brought back to what they meant."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hashfold import checks
from hashfold.data import Dataset
from hashfold.index.rows_packed import packed_bytes
from hashfold.model import FoldedNetwork, HashfoldModel, LookupNetwork, Lookups, Near, PrunedWide, Wide, key_of
from hashfold.model.near import heavier_share
from hashfold.model.pruned import list_bytes, table_bytes
from hashfold.sparse import CsrBatch, Float32, Int64, Ragged
from hashfold.train.lookups import LookupConfig, fit_wide, shortlists
from hashfold.train.pruning import BUCKETS_A_WEIGHT

SAMPLE_ROWS = 2_000
DEEP = ((3, 3), (2, 3), (1, 2))
"""Bits of a feature's and of a label's weights, the best first."""
WIDE_FIRST = 0.2  # of the weights that are worth keeping have their bytes before the deep path has any
SHARE_OF_NEAR = 0.5  # of what a budget leaves to near and wide, as far as it is of use to either
NEAR_BITS = 2
ENOUGH = 0.95  # of a stored row's squared length: what the light terms add is not worth their time


@dataclass(frozen=True)
class Fold:
    """How small each look-up becomes; None leaves it as it is.

    bits: of a feature's weight in the deep path, 1 to 8, shared values in codebooks; label_bits: of a label's, by
    default as many. weights: cross weights, each a feature's and a label's own, in packed lists; the others are 0.
    buckets, instead: cross weights shared by hashing, a byte each. near_bits: of a value of the stored rows, 1 to
    8, which then lie in packed lists. near_share: of each row's squared length that its entries left, the
    heaviest, make up; then near_bits is 2 by default. without_deep: the deep path is left out.
    """

    bits: int | None = None
    label_bits: int | None = None
    buckets: int | None = None
    weights: int | None = None
    near_bits: int | None = None
    near_share: float | None = None
    without_deep: bool = False

    def __post_init__(self) -> None:
        for name, high in _HIGHEST.items():
            if getattr(self, name) is not None:
                checks.integer("Fold", name, getattr(self, name), low=1, high=high)
        if self.near_share is not None:
            checks.number("Fold", "near_share", self.near_share, above=0, high=1)
        if self.label_bits is not None and self.bits is None:
            checks.fail("Fold", "label_bits must come with bits", "none")
        if self.weights is not None and self.buckets is not None:
            checks.fail("Fold", "weights must not be given with buckets", self.weights)
        if self.without_deep and self.bits is not None:
            checks.fail("Fold", "bits must not be given without the deep path", self.bits)

    @property
    def packs_near(self) -> bool:
        return self.near_bits is not None or self.near_share is not None


_HIGHEST = {"bits": 8, "label_bits": 8, "buckets": 2**28, "weights": 2**30, "near_bits": 8}


def fold_model(model: HashfoldModel, fold: Fold, say: Callable[[str], None] = lambda line: None) -> HashfoldModel:
    """A smaller model, on disk and in memory; `model` stays as it is. Needs no data: near keeps the training rows.

    deep: codebooks and packed codes, from which rows are computed where they are used; it can be trained no more.
    wide: trained anew on the rows that near stores, in fewer buckets; or without hashing, its largest weights kept
    and trained once more. near: the heaviest terms of each row, in packed lists. What the look-ups then say is
    scaled to what they said before, on a sample of the stored rows (each without itself as a neighbour, by least
    squares), so that the mixture goes on as it was fitted.

    Raises InputError, and nothing is changed: a model without the part to be folded, or folded already; buckets
    and no neighbours to train on.
    """
    lookups = model.lookups
    _check(lookups, fold)
    stored = None if lookups.near is None else Dataset(lookups.near.index.rows(), lookups.near.labels())
    folded = replace(lookups, mixers=dict(lookups.mixers))
    if fold.bits is not None:
        assert isinstance(lookups.network, LookupNetwork)
        folded.network = FoldedNetwork.of(lookups.network, fold.bits, fold.label_bits)
        say(f"deep: {fold.bits} bits a weight of a feature, {fold.label_bits or fold.bits} of a label")
    if fold.without_deep:
        folded.network = None
        folded.mixers = {key: mixer for key, mixer in lookups.mixers.items() if "deep" not in mixer.names}
        say("deep: left out")
    if (fold.buckets or fold.weights) and lookups.wide is not None:
        assert stored is not None
        before, folded.wide = _hashed(lookups), _trained_again(lookups, stored, fold)
        kept = f"{fold.buckets:,} buckets" if fold.buckets else f"{fold.weights:,} weights of their own"
        say(f"wide: {kept} instead of {before.num_buckets:,} buckets")
    if fold.packs_near and lookups.near is not None:
        folded.near = lookups.near.packed(fold.near_bits or NEAR_BITS, fold.near_share or 1.0)
        say(f"near: {folded.near.index.nbytes:,} bytes of rows, not {lookups.near.index.nbytes:,}")
    if stored is not None and lookups.mixers:
        _adapt(lookups, folded, stored)
    return replace(model, lookups=folded, training={**model.training, "fold": vars(fold)})


def fold_within(model: HashfoldModel, most_bytes: int) -> Fold:
    """How to fold a model so that its look-ups take at most so many bytes in memory.

    Wide and near share what is left by the deep path and by what cannot be folded: near gets `SHARE_OF_NEAR`, up
    to the bytes for a share of `ENOUGH` of its rows' squared length, in 2 bits a value; wide the rest, up to a
    weight of its own for every `BUCKETS_A_WEIGHT` of its buckets; what it does not need is near's. The deep path
    gets the first of `DEEP` that leaves wide `WIDE_FIRST` of these weights; if none does, it is left out where the
    model was fitted to do without it. What fits as it is stays, and so does a wide path of weights of their own.

    Raises InputError: fewer bytes than the smallest fold takes; a model folded before.
    """
    lookups, op = model.lookups, "fold_within"
    if "fold" in model.training:
        checks.fail(op, "a model is folded once", "a folded one")
    fixed = 4 * model.num_features + 8 * model.num_labels + _tables(lookups)
    hashed = lookups.wide if isinstance(lookups.wide, Wide) else None
    fixed += 0 if lookups.wide is None or hashed is not None else lookups.wide.nbytes
    whole_wide = 0 if hashed is None else hashed.nbytes
    wide = _Weights(hashed)
    rows = None if lookups.near is None else _Packing(lookups.near.index.rows())
    bits = _deep_bits(lookups, most_bytes - fixed, wide, rows)
    deep = _deep_bytes(lookups, *bits) if bits else 0
    own = {"bits": bits[0], "label_bits": bits[1]} if bits else {"without_deep": lookups.network is not None}
    rest = most_bytes - fixed - deep
    least_near = rows.bytes(0.01) if rows else 0
    if rest < least_near + wide.bytes(1):
        least = fixed + deep + wide.bytes(1) + least_near
        checks.fail(op, f"there must be at least {least:,} bytes for this model", f"{most_bytes:,}")
    if lookups.near is None or rows is None:
        return Fold(**own, buckets=rest if rest < whole_wide else None)
    if lookups.near.index.nbytes + whole_wide <= rest:
        return Fold(**own)
    share = rows.share(min(rest - wide.bytes(1), max(rows.shared(rest), rest - wide.bytes(wide.wanted))))
    weights = None if hashed is None else wide.within(rest - rows.bytes(share))
    return Fold(**own, weights=weights, near_bits=NEAR_BITS, near_share=share)


def _deep_bits(lookups: Lookups, most: int, wide: _Weights, rows: _Packing | None) -> tuple[int, int] | None:
    """Of the deep path, which shares `most` bytes with wide and near; None: there is none, or it is left out."""
    if lookups.network is None:
        return None
    for bits in DEEP:
        taken = _deep_bytes(lookups, *bits)
        near = 0 if rows is None else rows.shared(most - taken)
        if taken <= most / 2 and most - taken - near >= wide.bytes(int(WIDE_FIRST * wide.wanted)):
            return bits
    return None if key_of(("wide", "near")) in lookups.mixers else (1, 1)


class _Weights:
    """How many weights of their own a wide path should have, and at most how many bytes they take."""

    def __init__(self, wide: Wide | None) -> None:
        self.wanted = 0 if wide is None else max(1, wide.num_buckets // BUCKETS_A_WEIGHT)
        self._virtual = 1 if wide is None else wide.num_features * max(1, wide.num_labels)

    def bytes(self, count: int) -> int:
        return list_bytes(count, self._virtual) if self.wanted else 0

    def within(self, most: int) -> int:
        """The largest number up to what is wanted that takes so many bytes, or 1."""
        return max(1, bisect_right(range(self.wanted + 1), most, key=self.bytes) - 1)


class _Packing:
    """How many bytes stored rows take in packed lists, by the share of their squared length that is kept."""

    def __init__(self, rows: CsrBatch) -> None:
        self._rows, self._before = rows, heavier_share(rows)

    def bytes(self, share: float) -> int:
        lengths = np.bincount(self._rows.indices[self._before < share], minlength=self._rows.num_cols)
        return packed_bytes(lengths, len(self._rows), NEAR_BITS)

    def shared(self, most: int) -> int:
        """Bytes that rows should have of so many for them and wide."""
        return max(self.bytes(0.01), min(self.bytes(ENOUGH), int(most * SHARE_OF_NEAR)))

    def share(self, most: int) -> float:
        """The largest that fits into so many bytes, in hundredths, from the least to enough."""
        shares = np.arange(1, round(100 * ENOUGH) + 1) / 100
        return float(shares[max(1, bisect_right(shares, most, key=self.bytes)) - 1])


def _check(lookups: Lookups, fold: Fold) -> None:
    op = "fold"
    if fold.bits is not None and not isinstance(lookups.network, LookupNetwork):
        came = "a model without one" if lookups.network is None else "a folded one"
        checks.fail(op, "bits are of a deep path", came, "leave bits out")
    if fold.without_deep and (lookups.network is None or key_of(("wide", "near")) not in lookups.mixers):
        checks.fail(op, "without_deep is for models fitted to combine deep, wide and near", key_of(lookups.parts))
    wide = fold.buckets or fold.weights
    for what, part, value in (
        ("buckets and weights", "wide", wide),
        ("near_bits and near_share", "near", fold.near_bits or fold.near_share),
    ):
        if value is not None and part not in lookups.parts:
            checks.fail(op, f"{what} are of {part}", "a model without it")
    if wide is not None and isinstance(lookups.wide, PrunedWide):
        checks.fail(op, "a wide path is folded once", "a folded one")
    if wide is not None and lookups.near is None:
        remedy = "train with fewer: hashfold train --buckets"
        checks.fail(op, "cross weights are trained on the rows that near stores", "a model without near", remedy)


def _hashed(lookups: Lookups) -> Wide:
    assert isinstance(lookups.wide, Wide)
    return lookups.wide


def _trained_again(lookups: Lookups, stored: Dataset, fold: Fold) -> Wide | PrunedWide | None:
    """In fewer buckets, or of the largest weights."""
    wide = _hashed(lookups)
    config = LookupConfig(
        buckets=fold.buckets or wide.budget_buckets,
        weights=fold.weights or 0,
        wide_epochs=wide.rule.epochs,
        wide_lr=wide.rule.lr,
        seed=wide.seed,
    )
    lists = shortlists(lookups, stored, np.arange(len(stored), dtype=np.int32), config)
    return fit_wide(stored, lists, config)


def _adapt(before: Lookups, after: Lookups, stored: Dataset) -> None:
    """Mixers of `after` that take its features for those of `before`."""
    rng = np.random.default_rng(0)
    ids = np.sort(rng.choice(len(stored), min(SAMPLE_ROWS, len(stored)), replace=False)).astype(np.int32)
    x = stored.x.take(ids)
    was, now = (lookups.features(x, after.parts, exclude=ids) for lookups in (before, after))
    old, new = _shared(was[0], now[0])
    whole = before.mixers.get(key_of(after.parts))
    if whole is None or not len(old):
        return
    importance = _importance(whole.scores(was[1]), was[0])[old]
    slope, offset = _lines(now[1][new], was[1][old], importance)
    for key, mixer in list(after.mixers.items()):
        columns = [whole.names.index(name) for name in mixer.names]
        after.mixers[key] = mixer.after(slope[columns], offset[columns])


def _shared(one: Ragged, other: Ragged) -> tuple[Int64, Int64]:
    """Positions, in both, of the pairs of a row and a label that both have."""
    a, b = (np.repeat(np.arange(len(p), dtype=np.int64) << 32, p.counts) | p.ids for p in (one, other))
    _, first, second = np.intersect1d(a, b, assume_unique=True, return_indices=True)
    return first, second


def _importance(scores: Float32, pairs: Ragged) -> Float32:
    """Of each pair: the root of its odds against the best of its row. Where the ranking is decided counts."""
    row = np.repeat(np.arange(len(pairs)), pairs.counts)
    best = np.full(len(pairs), -np.inf, np.float32)
    np.maximum.at(best, row, scores)
    importance: Float32 = np.exp(0.5 * (scores - best[row]))
    return importance


def _lines(x: Float32, y: Float32, weight: Float32) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Slope (above 0) and offset of each column of y over that of x, by weighted least squares."""
    w = (weight / weight.sum(dtype=np.float64))[:, None]
    mean_x, mean_y = (w * x).sum(0), (w * y).sum(0)
    square = (w * (x - mean_x) ** 2).sum(0)
    slope = np.divide((w * (x - mean_x) * (y - mean_y)).sum(0), square, out=np.ones(len(square)), where=square > 0)
    slope = np.maximum(slope, 1e-3)
    return slope, mean_y - slope * mean_x


def _deep_bytes(lookups: Lookups, bits: int, label_bits: int) -> int:
    network = lookups.network
    if not isinstance(network, LookupNetwork):
        checks.fail("fold", "a deep path is folded once", "a folded one")
    config = network.config
    sides = ((config.num_features, bits), (config.num_labels, label_bits))
    codes_and_books = sum(rows * (-(-config.hidden * b // 8) + 4) for rows, b in sides)
    return codes_and_books + 4 * (config.num_labels + config.hidden)


def _tables(lookups: Lookups) -> int:
    """Bytes that stay whatever the fold, beside the rows."""
    near: Near | None = lookups.near
    labels = 0 if near is None else near.nbytes - near.index.nbytes
    labels += 0 if lookups.outputs is None else lookups.outputs.nbytes
    if lookups.wide is None:
        return labels
    return labels + table_bytes(lookups.wide.num_features, lookups.wide.num_labels)
