"""Indexes over a layer's neurons: which of them fit a query."""

from hashfold.index.base import Candidates, NeuronIndex, Occupancy
from hashfold.index.select import all_active, select_rows, select_shared

__all__ = ["Candidates", "NeuronIndex", "Occupancy", "all_active", "select_rows", "select_shared"]
