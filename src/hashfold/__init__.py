"""hashfold: hash to look up, fold to share."""

__version__ = "0.1.0"
