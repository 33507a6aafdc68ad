"""A trained model, whole: how its input is read and weighted, the network, the names of its labels."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from scipy.special import expit, softmax

from hashfold import checks
from hashfold.data import (
    CodeVectorizer,
    Dataset,
    LabelVocabulary,
    TextVectorizer,
    TfIdf,
    drop_unusable,
    guess_format,
    read,
)
from hashfold.data.streams import Source, source_name
from hashfold.metrics import propensities
from hashfold.model.deep import DeepPath
from hashfold.model.explain import Explanation, explain
from hashfold.model.folder import load_model, save_model
from hashfold.model.lookups import Lookups, key_of
from hashfold.model.report import Way, evaluate_model
from hashfold.model.targets import Targets
from hashfold.sparse import CsrBatch, Float32, Int32, Int64, RaggedIds

_FORMATS = {
    type(None): ("svmlight", "xmc"),
    TextVectorizer: ("csv", "jsonl", "parquet", "tsv"),
    CodeVectorizer: ("python",),
}

Rows = CsrBatch | Sequence[str]
"""What can be predicted: sparse rows as in training, before weighting; or texts, if there is a vectorizer."""


@dataclass
class HashfoldModel:
    """Rows or texts in, ranked labels out.

    lookups: the network, the neighbours and the cross weights, and how their scores are combined. weighting: of
    the input, fitted on the training rows. vectorizer: turns texts into counts; None for a model of sparse rows.
    targets: what labels look like. num_rows: training rows. reading: how the training file was read.
    data, training, metrics: facts for the model card. params: the estimator's arguments, if one made it.
    """

    lookups: Lookups
    weighting: TfIdf
    targets: Targets
    num_rows: int
    vectorizer: Any = None
    reading: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def network(self) -> DeepPath | None:
        """The deep path, where the model has one."""
        return self.lookups.network

    @property
    def label_counts(self) -> Int64:
        """(num_labels,) int64: training rows of each label."""
        return self.lookups.counts

    @property
    def num_features(self) -> int:
        return self.weighting.num_features

    @property
    def num_labels(self) -> int:
        return len(self.lookups.counts)

    @property
    def takes_texts(self) -> bool:
        return self.vectorizer is not None

    def read(self, source: Source, *, labels: bool = True, **reading: Any) -> Dataset:
        """Reads rows to predict or to score, the way the training file was read but for `reading`.

        labels: whether the rows must have them. Raises FileFormatError, InputError (see `hashfold.data.read`).
        """
        format = reading.get("format") or guess_format(source)
        known = _FORMATS[type(self.vectorizer)]
        if format not in known:
            expected = (
                f"rows must be in a format like that of the file the model was trained on: {', '.join(known)}"
            )
            checks.fail(source_name(source), expected, format)
        names = self.targets.text_names()
        options = {name: value for name, value in self.reading.items() if name != "format"}
        return read(
            source,
            **{**options, **reading, "format": format},
            label_required=labels,
            vectorizer=self.vectorizer,
            label_vocabulary=LabelVocabulary(names) if names is not None else None,
            num_features=self.num_features,
            num_labels=self.num_labels,
        )

    def encode(self, rows: Rows) -> CsrBatch:
        """The input of the look-ups. Raises InputError: texts without a vectorizer, another number of features."""
        return self.weighting.transform(rows if isinstance(rows, CsrBatch) else self._counted(rows))

    def _counted(self, texts: Sequence[str]) -> CsrBatch:
        if self.vectorizer is None:
            checks.fail("predict", "this model takes sparse rows", "texts", "train it on texts")
        return cast(CsrBatch, self.vectorizer.transform(texts))

    def top_k(
        self,
        rows: Rows,
        k: int = 5,
        *,
        lookup: bool = False,
        parts: Collection[str] | None = None,
        rare: float = 0.0,
    ) -> tuple[Int32, Float32]:
        """The k best label ids of each row and their scores, best first: (rows, k) each.

        Scores are log-odds that the label is true (of a model with the deep path alone: its logits; of
        neighbours alone, where too few rows could be held out: logarithms of votes). lookup: the deep path
        proposes the labels that its index finds, instead of scoring all of them. parts: use only these
        of the model's look-ups ("deep", "wide", "near"). rare: this many times log(1 / propensity) is added to
        the score of each label, in favour of those seen rarely. Rows with fewer than k candidates end in id -1,
        score -inf.
        """
        k = checks.integer("top_k", "k", k, low=1)
        checks.number("top_k", "rare", rare, low=0.0)
        boost = None
        if rare:
            boost = (-rare * np.log(self.propensities(self.num_labels))).astype(np.float32)
        return self.lookups.top_k(
            self.encode(rows), min(k, self.num_labels), lookup=lookup, parts=parts, boost=boost
        )

    def evaluate(
        self,
        dataset: Dataset,
        ks: Sequence[int] = (1, 2, 3, 4, 5),
        *,
        lookup: bool = False,
        parts: Collection[str] | None = None,
        rare: float = 0.0,
        candidates: bool = True,
        bands: bool = False,
        contributions: bool = False,
    ) -> dict[str, Any]:
        """Ranking metrics on rows with known labels, and what predicting cost. lookup, parts, rare: as of `top_k`.

        Keys: `P@k`, `nDCG@k`, `R@k`, `PSP@k`, `PSnDCG@k` for each k, shares in [0, 1]; `rows`, `seconds`,
        `ms_per_row` (wall time of predicting, reading excluded), `active_fraction` (share of the labels
        scored).
        With candidates, `recall@100`: the share of the rows' labels that are among the candidates, which
        are the 100 labels that the deep path proposes and the 100 that the neighbours do, whoever takes part.
        Where scores are log-odds and `rare` is 0, `ECE@1` and `ECE@5`: expected calibration error of the
        probabilities of the first predictions of each row.
        With bands, `bands`: by the labels' training rows (`low` to `high`), how many `labels` there are,
        their `occurrences` in the rows, and `R@k`, the share of these among the first k.
        With contributions, `contributions`: `P@1`, `P@3`, `P@5` with all look-ups ("deep+wide+near"), with each
        left out in turn, and with the deep path alone.
        """
        way = Way(lookup, parts, rare)
        shown = {"candidates": candidates, "bands": bands, "contributions": contributions}
        return evaluate_model(self, dataset, ks, way, **shown)

    def explain(
        self,
        rows: Rows,
        k: int = 1,
        *,
        top: int = 5,
        parts: Collection[str] | None = None,
        feature_names: Sequence[str] | None = None,
    ) -> list[Explanation]:
        """What spoke for the k best labels of each row: one `Explanation` for each, in the order of the rows.

        Of each look-up the `top` largest contributions: the cross weights of wide; through the deep path, each
        feature's gradient times its value, and the hidden units; the nearest training rows, and whether they have
        the label; and what each look-up added to the score. parts: as of `top_k`. feature_names: by id; by
        default the vectorizer's.
        """
        return explain(self, rows, k, top, parts, feature_names)

    def probabilities(self, rows: Rows) -> Float32:
        """(rows, num_labels), dense: for few labels. 0 for labels that nothing proposes.

        The sigmoid of log-odds; where every row has one label, scaled to sum 1. Of a softmax alone, its
        probabilities; of neighbours whose votes were not calibrated, shares of the votes.
        """
        ids, scores = self.top_k(rows, self.num_labels)
        odds = np.full((len(ids), self.num_labels + 1), -np.inf, np.float64)  # the last column takes ids of -1
        np.put_along_axis(odds, np.where(ids < 0, self.num_labels, ids).astype(np.int64), scores, 1)
        odds = odds[:, :-1]
        if not self.gives_log_odds():
            return softmax(odds, axis=1).astype(np.float32)
        chances = expit(odds)
        if self.targets.kind == "classes":
            total = chances.sum(1, keepdims=True)
            chances = np.divide(chances, total, out=np.full_like(chances, 1 / self.num_labels), where=total > 0)
        return chances.astype(np.float32)

    def gives_log_odds(self, parts: Collection[str] | None = None) -> bool:
        """Scores of these look-ups (by default all) are log-odds of a label, not a softmax's logits."""
        key = key_of(self.lookups.parts if parts is None else parts)
        alone = self.network is not None and self.network.config.loss == "sigmoid"
        return key in self.lookups.mixers or alone

    def active_fraction(self, rows: CsrBatch, k: int = 5) -> float:
        """The share of all labels whose scores a lookup of k labels computes, mean over rows.

        Raises InputError: a model without a deep path.
        """
        self.lookups.check_lookup("active_fraction")
        assert self.network is not None
        found = self.network.candidates(self.encode(rows), k, lookup=True).found
        return float(found.mean()) / self.num_labels

    def propensities(self, num_labels: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Of each label; labels beyond those of training count as never seen."""
        counts = np.zeros(max(num_labels, self.num_labels), np.int64)
        counts[: self.num_labels] = self.label_counts
        return propensities(counts, self.num_rows)

    def add(self, rows: Dataset | Rows, labels: Any = None) -> int:
        """New training rows, found by the neighbours at once; nothing is trained again.

        Their labels may be new: the neighbours vote for them, the deep path and the cross weights do not know
        them. Rows and labels that are far from the new ones are predicted as before, but that counts of labels
        have grown.

        Args:
            rows: sparse rows, texts, or a data set (`read`) with its labels in it.
            labels: in the form that training had, one entry a row; or ids, `RaggedIds`.

        Returns: how many were added: rows without labels or features are left out. Raises InputError, and nothing
        is added: a model without neighbours, unusable rows or labels.
        """
        if isinstance(rows, Dataset):
            x, (targets, y) = rows.x, self.targets.grown(rows.y, rows.label_names)
        else:
            x = rows if isinstance(rows, CsrBatch) else self._counted(rows)
            learn = self.targets.grown if isinstance(labels, RaggedIds) else self.targets.extend
            targets, y = learn(labels)
        if len(x) != len(y):
            checks.fail("add", f"labels must have an entry for each of the {len(x)} rows", len(y))
        usable, _ = drop_unusable(Dataset(x, y))
        if not len(usable):
            checks.fail("add", "there must be rows with labels and features", f"none of {len(x)}")
        self.lookups.add(self.encode(usable.x), usable.y)
        self.targets = targets
        self.num_rows += len(usable)
        most = max(int(self.data.get("max_labels_per_row", 1)), int(usable.y.counts.max()))
        added = int(self.data.get("rows_added", 0)) + len(usable)
        grown = {"rows": self.num_rows, "rows_added": added, "labels": self.num_labels, "max_labels_per_row": most}
        self.data = {**self.data, **grown}
        return len(usable)

    def save(self, path: str | Path, *, overwrite: bool = False, storage: str | None = None) -> Path:
        """Writes the model folder, whole or not at all.

        storage: of the network's weights, "fp32", "fp16" or "int8"; None: the network's own, in which a model
        that `fit_model` trained is saved without loss: loaded again, it predicts the same bits. Raises
        InputError (weights that the storage cannot hold, or none), and as `hashfold.io.save_model_folder`.
        """
        return save_model(self, path, overwrite=overwrite, storage=storage)

    @classmethod
    def load(cls, path: str | Path) -> HashfoldModel:
        """Loads a model folder. Raises ModelFolderError: damaged, newer, of another kind."""
        return load_model(cls, path)
