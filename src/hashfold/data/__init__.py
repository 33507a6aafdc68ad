"""From files to validated sparse batches, and back."""

from hashfold.data.code import CodeVectorizer, PythonTask, python_source
from hashfold.data.code_tokens import typed
from hashfold.data.dataset import (
    Dataset,
    Dropped,
    Statistics,
    drop_unusable,
    label_counts,
    split_validation,
    statistics,
)
from hashfold.data.planted import synthetic
from hashfold.data.reading import FORMATS, guess_format, read
from hashfold.data.sparse_text import read_svmlight, read_xmc, write_xmc
from hashfold.data.states import vectorizer_from_state
from hashfold.data.streams import read_names
from hashfold.data.text import TextVectorizer
from hashfold.data.tfidf import TfIdf
from hashfold.data.vocabulary import LabelVocabulary

__all__ = [
    "FORMATS",
    "CodeVectorizer",
    "Dataset",
    "Dropped",
    "LabelVocabulary",
    "PythonTask",
    "Statistics",
    "TextVectorizer",
    "TfIdf",
    "drop_unusable",
    "guess_format",
    "label_counts",
    "python_source",
    "read",
    "read_names",
    "read_svmlight",
    "read_xmc",
    "split_validation",
    "statistics",
    "synthetic",
    "typed",
    "vectorizer_from_state",
    "write_xmc",
]
