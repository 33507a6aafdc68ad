"""From files to validated sparse batches, and back."""

from hashfold.data.dataset import (
    Dataset,
    Dropped,
    Statistics,
    drop_unusable,
    label_counts,
    split_validation,
    statistics,
)
from hashfold.data.sparse_text import read_svmlight, read_xmc, write_xmc
from hashfold.data.streams import read_names
from hashfold.data.tfidf import TfIdf

__all__ = [
    "Dataset",
    "Dropped",
    "Statistics",
    "TfIdf",
    "drop_unusable",
    "label_counts",
    "read_names",
    "read_svmlight",
    "read_xmc",
    "split_validation",
    "statistics",
    "write_xmc",
]
