"""Compressed models: their files."""

from hashfold.compress.files import load, save

__all__ = ["load", "save"]
