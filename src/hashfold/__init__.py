"""hashfold: hash to look up, fold to share.

Names are imported when they are first used, so that `import hashfold` loads neither torch nor
scikit-learn.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_MODULES = (
    *("checks", "compress", "data", "errors", "functional", "hashing", "index", "io", "kernels"),
    *("metrics", "model", "nn", "optim", "sparse", "train"),
)
_HOME_OF = {
    "ActiveSet": "hashfold.sparse",
    "CodebookConfig": "hashfold.compress",
    "CodebookConv1d": "hashfold.nn",
    "CodebookConv2d": "hashfold.nn",
    "CodebookConv3d": "hashfold.nn",
    "CodebookEmbedding": "hashfold.nn",
    "CodebookEmbeddingBag": "hashfold.nn",
    "CodebookGRU": "hashfold.nn",
    "CodebookLSTM": "hashfold.nn",
    "CodebookLinear": "hashfold.nn",
    "CodebookRNN": "hashfold.nn",
    "CodebookWeight": "hashfold.nn",
    "CsrBatch": "hashfold.sparse",
    "DKM": "hashfold.compress",
    "FoldedConv1d": "hashfold.nn",
    "FoldedConv2d": "hashfold.nn",
    "FoldedConv3d": "hashfold.nn",
    "FoldedEmbedding": "hashfold.nn",
    "FoldedEmbeddingBag": "hashfold.nn",
    "FoldedGRU": "hashfold.nn",
    "FoldedLSHLinear": "hashfold.nn",
    "FoldedLSTM": "hashfold.nn",
    "FoldedLinear": "hashfold.nn",
    "FoldedRNN": "hashfold.nn",
    "FoldedSparseLinear": "hashfold.nn",
    "FoldedWeight": "hashfold.nn",
    "HashConfig": "hashfold.compress",
    "HashedConv1d": "hashfold.nn",
    "HashedConv2d": "hashfold.nn",
    "HashedConv3d": "hashfold.nn",
    "HashedEmbedding": "hashfold.nn",
    "HashedEmbeddingBag": "hashfold.nn",
    "HashedGRU": "hashfold.nn",
    "HashedLSHLinear": "hashfold.nn",
    "HashedLSTM": "hashfold.nn",
    "HashedLinear": "hashfold.nn",
    "HashedRNN": "hashfold.nn",
    "HashedWeight": "hashfold.nn",
    "HashfoldClassifier": "hashfold.estimators",
    "HashfoldError": "hashfold.errors",
    "HashfoldModel": "hashfold.model",
    "InputError": "hashfold.errors",
    "LSHLinear": "hashfold.nn",
    "PruneConfig": "hashfold.compress",
    "RaggedIds": "hashfold.sparse",
    "RowAdagrad": "hashfold.optim",
    "RowAdam": "hashfold.optim",
    "RowSGD": "hashfold.optim",
    "SampledSigmoidLoss": "hashfold.nn",
    "SampledSoftmaxLoss": "hashfold.nn",
    "Schedule": "hashfold.compress",
    "SparseLinear": "hashfold.nn",
    "StraightThrough": "hashfold.compress",
    "convert": "hashfold.compress",
    "prepare": "hashfold.compress",
    "report": "hashfold.compress",
}

__all__ = [*_HOME_OF]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(_HOME_OF[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"hashfold.{name}")
    raise AttributeError(f"module 'hashfold' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME_OF, *_MODULES])
