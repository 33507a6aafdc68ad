"""The scikit-learn face: `HashfoldClassifier`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from hashfold import checks
from hashfold.data import Dataset, LabelVocabulary, TextVectorizer, read
from hashfold.model import HashfoldModel
from hashfold.model.targets import Targets
from hashfold.sparse import CsrBatch, RaggedIds
from hashfold.train import fit_model, progress

_OP = "HashfoldClassifier"
_SETTINGS = (
    *("hidden", "loss", "dropout", "negatives", "hard_negatives", "index", "label_norm", "lr", "optimizer"),
    *("epochs", "batch_size", "patience", "seed", "threads", "buckets", "weights", "least_rows", "rare"),
)


class HashfoldClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier for very many labels, one or several a row, whose output layer is looked up by hashing.

    Settings left at None are chosen from the data (see `hashfold.train.defaults`).

    Args:
        hidden: width of the hidden vector. loss: "softmax" or "sigmoid". dropout: share of hidden units
            dropped. negatives: uniform negative labels a batch, 0 for all labels. hard_negatives: labels
            looked up for each row as negatives. index: "exact", "clustered", "tree" or "lsh". label_norm: length
            that label vectors are held to; 12 makes them easy to look up. lr: peak rate. optimizer: "adam",
            "rowwise_adam", "compact_adam" or "rowwise_adagrad", with 8, 4, 2 or 0 bytes of state a weight.
        epochs, batch_size: of training. patience: stop after so many validations without a new best P@1
            (needs `valid`).
        effort: "low", "normal" or "high": accuracy for training time. parts: the look-ups of the model, of "deep",
            "wide" and "near"; deep or near proposes labels. None: all three, less those that the data rules
            out. buckets: cross weights of "wide", a byte each. weights: so many instead that share no bucket, the
            largest, which is smaller and more accurate on many rows and trains for longer. least_rows: of a label
            that "deep" learns; the others know the rest, or it joins "deep" untrained. rare: favours labels seen
            rarely, 0.5 is a good try: what true labels count where scores are combined, 1 / propensity to this
            power.
        weighting: of the input: "auto" (tf-idf for sparse counts, else rows scaled to length 1),
            "tfidf", "normalize", "none".
        min_df: words in fewer texts are dropped, where X is texts.
        seed: of weights, order, dropout and negatives. threads: None leaves them as they are.
        verbose: progress on standard error.

    X is a sparse or dense matrix (rows, features); or a list of texts; or the path of a file that
    `hashfold.data.read` reads, with the labels in it. y is a 1-D array of classes, a list of lists of
    labels (numbers or strings), or a matrix (rows, labels) whose nonzeros say which labels a row has.

    Attributes after `fit`: `classes_`, the labels by id; `model_`, the `HashfoldModel`; `history_`, one
    record for each epoch; `n_features_in_`.
    """

    def __init__(
        self,
        *,
        hidden: int | None = None,
        loss: str | None = None,
        dropout: float | None = None,
        negatives: int | None = None,
        hard_negatives: int | None = None,
        index: str | None = None,
        label_norm: float | None = None,
        lr: float | None = None,
        optimizer: str | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        patience: int | None = None,
        effort: str = "normal",
        parts: Sequence[str] | None = None,
        buckets: int | None = None,
        weights: int | None = None,
        least_rows: int | None = None,
        rare: float | None = None,
        weighting: str = "auto",
        min_df: int = 1,
        seed: int = 0,
        threads: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.hidden = hidden
        self.loss = loss
        self.dropout = dropout
        self.negatives = negatives
        self.hard_negatives = hard_negatives
        self.index = index
        self.label_norm = label_norm
        self.lr = lr
        self.optimizer = optimizer
        self.epochs = epochs
        self.batch_size = batch_size
        self.patience = patience
        self.effort = effort
        self.parts = parts
        self.buckets = buckets
        self.weights = weights
        self.least_rows = least_rows
        self.rare = rare
        self.weighting = weighting
        self.min_df = min_df
        self.seed = seed
        self.threads = threads
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, *, valid: tuple[Any, Any] | str | Path | None = None) -> Self:
        """Trains on (X, y); `valid` is a pair like (X, y), or a file where X is one.

        Raises InputError: unusable X, y or settings. Randomness comes from `seed` alone.
        """
        train, targets = self._training_data(X, y)
        weighting = "normalize" if self.weighting == "auto" and _is_dense(X) else self.weighting
        self.model_, result = fit_model(
            train,
            None if valid is None else self._held_out(valid, train, targets),
            targets=targets,
            weighting=weighting,
            overrides={name: getattr(self, name) for name in _SETTINGS if getattr(self, name) is not None},
            parts=self.parts,
            effort=self.effort,
            callbacks=[progress()] if self.verbose else [],
        )
        self.history_ = result.history
        self._set_fitted()
        return self

    def partial_fit(self, X: Any, y: Any) -> Self:
        """Adds rows, also with new labels, that are found at once; nothing is trained. Without a model: `fit`.

        X, y in the form that `fit` had, y None where X is a file. See `HashfoldModel.add`.
        """
        if not hasattr(self, "model_"):
            return self.fit(X, y)
        if isinstance(X, (str, Path)):
            if y is not None:
                checks.fail(_OP, "y must be None where X is a file, which holds the labels", type(y).__name__)
            self.model_.add(self.model_.read(X))
        else:
            self.model_.add(self._rows(X), y)
        self._set_fitted()
        return self

    def predict(self, X: Any) -> Any:
        """The labels of each row, in the form that y had.

        Classes: an array (rows,). Lists: of each row the labels more likely than not, at least the best
        one. A matrix: the same as a sparse matrix of ones. Of a model whose scores are no log-odds (the deep
        path alone with a softmax loss, or neighbours alone, of too few rows): the best label.
        """
        check_is_fitted(self, "model_")
        several = self.model_.targets.kind != "classes" and self.model_.gives_log_odds()
        most = int(self.model_.data.get("max_labels_per_row", 1)) if several else 1
        ids, scores = self.model_.top_k(self._rows(X), max(1, most))
        if self.model_.targets.kind == "classes":
            return self.model_.targets.labels(ids[:, 0])
        chosen = scores > 0
        chosen[:, 0] = True
        if self.model_.targets.kind == "lists":
            return [
                [self.model_.targets.label(i) for i in row[keep]] for row, keep in zip(ids, chosen, strict=True)
            ]
        indptr = np.concatenate([[0], np.cumsum(chosen.sum(1))])
        shape = (len(ids), self.model_.num_labels)
        return sp.csr_matrix((np.ones(int(indptr[-1]), np.int8), ids[chosen], indptr), shape=shape)

    def top_k(
        self, X: Any, k: int = 5, *, lookup: bool = False
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
        """(labels, scores), best first: (rows, k) each, labels as in y (`None` past what was found).

        lookup: score only the labels that the index finds.
        """
        check_is_fitted(self, "model_")
        ids, scores = self.model_.top_k(self._rows(X), k, lookup=lookup)
        return self.model_.targets.labels(ids), scores

    def decision_function(self, X: Any) -> npt.NDArray[np.float32]:
        """The scores of all labels (rows, labels), dense: for few labels; else use `top_k`."""
        check_is_fitted(self, "model_")
        rows = self._rows(X)
        ids, scores = self.model_.top_k(rows, self.model_.num_labels)
        dense = np.full(ids.shape, -math.inf, np.float32)
        np.put_along_axis(dense, ids.astype(np.int64), scores, 1)
        return dense

    def predict_proba(self, X: Any) -> npt.NDArray[np.float32]:
        """The probability of each label (rows, labels), dense: for few labels. Columns as `classes_`.

        Where a row has one label, they add up to 1; else each is the chance that the row has the label.
        """
        check_is_fitted(self, "model_")
        return self.model_.probabilities(self._rows(X))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """P@1: the share of rows whose best label is one of theirs. For classes, the accuracy."""
        check_is_fitted(self, "model_")
        truth = self.model_.targets.transform(y)
        ids, _ = self.model_.top_k(self._rows(X), 1)
        if len(ids) != len(truth):
            checks.fail("score", f"y must have {len(ids)} rows, as X", len(truth))
        hits = [int(best) in truth[row] for row, best in enumerate(ids[:, 0].tolist())]
        return float(np.average(hits, weights=sample_weight))

    def save(self, path: str | Path, *, overwrite: bool = False, storage: str | None = None) -> Path:
        """Writes the model folder, whole or not at all; storage and errors as of `HashfoldModel.save`."""
        check_is_fitted(self, "model_")
        self.model_.params = self.get_params()
        return self.model_.save(path, overwrite=overwrite, storage=storage)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """A fitted classifier from a model folder, also from one that the command line wrote."""
        model = HashfoldModel.load(path)
        params = {name: value for name, value in model.params.items() if name in cls._get_param_names()}
        if params.get("parts") is not None:  # a list, as JSON has it
            params["parts"] = tuple(params["parts"])
        self = cls(**params)
        self.model_, self.history_ = model, []
        self._set_fitted()
        return self

    def _set_fitted(self) -> None:
        names = self.model_.targets.names
        self.classes_ = np.arange(self.model_.num_labels) if names is None else np.asarray(names)
        self.n_features_in_ = self.model_.num_features

    def _training_data(self, X: Any, y: Any) -> tuple[Dataset, Targets | None]:
        if isinstance(X, (str, Path)):
            if y is not None:
                checks.fail(_OP, "y must be None where X is a file, which holds the labels", type(y).__name__)
            return read(X, min_df=self.min_df), None
        if y is None:
            checks.fail(_OP, "y must hold the labels", "None")
        targets, ids = Targets.fit(y)
        vectorizer = None
        if _are_texts(X):
            vectorizer, x = TextVectorizer.fit_transform(X, min_df=self.min_df)
        else:
            x = CsrBatch.from_scipy(X, _OP)
        _check_rows(x, ids)
        return Dataset(x, ids, targets.text_names(), vectorizer=vectorizer), targets

    def _held_out(self, valid: Any, train: Dataset, targets: Targets | None) -> Dataset:
        if isinstance(valid, (str, Path)):
            names = LabelVocabulary(train.label_names) if train.label_names is not None else None
            return read(
                valid,
                vectorizer=train.vectorizer,
                label_vocabulary=names,
                num_features=train.num_features,
                num_labels=train.num_labels,
            )
        X, y = valid
        if targets is None:
            checks.fail(_OP, "valid must be a file, as X", type(X).__name__)
        x = train.vectorizer.transform(X) if train.vectorizer is not None else CsrBatch.from_scipy(X, _OP)
        ids = targets.transform(y)
        _check_rows(x, ids)
        return Dataset(x, ids)

    def _rows(self, X: Any) -> CsrBatch | Sequence[str]:
        if isinstance(X, (str, Path)):
            return self.model_.read(X).x
        return list(X) if _are_texts(X) else CsrBatch.from_scipy(X, _OP)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.string = True
        tags.target_tags.multi_output = True
        tags.classifier_tags.multi_label = True
        return tags


def _are_texts(X: Any) -> bool:
    """Rows are strings: in a list, tuple, series or array."""
    if sp.issparse(X) or getattr(X, "ndim", 1) != 1 or not hasattr(X, "__len__") or not len(X):
        return False
    return isinstance(next(iter(X)), str)


def _is_dense(X: Any) -> bool:
    return not (sp.issparse(X) or isinstance(X, (str, Path)) or _are_texts(X))


def _check_rows(x: CsrBatch, y: RaggedIds) -> None:
    if len(x) != len(y):
        checks.fail(_OP, f"y must have a label set for each of the {len(x)} rows of X", len(y))
