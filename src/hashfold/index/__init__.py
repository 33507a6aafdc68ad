"""Indexes over a layer's neurons: which of them fit a query, and which are computed for a batch; and over rows.

index = make_index("clustered", num_items=10_000, dim=128, seed=0)
index.build(weight, bias)
active = select_shared(index.query(hidden, budget=32), labels, 10_000, uniform=1024, seed=step, num_rows=256)
"""

from hashfold.index.base import Candidates, NeuronIndex, Occupancy
from hashfold.index.clustered import ClusteredIndex
from hashfold.index.exact import ExactIndex
from hashfold.index.lsh import LshIndex
from hashfold.index.registry import INDEXES, ROW_INDEXES, index_options, make_index, make_row_index
from hashfold.index.report import RecallReport, recall_at_k
from hashfold.index.rows import RowIndex
from hashfold.index.rows_packed import PackedRowIndex
from hashfold.index.schedule import (
    DriftMeter,
    DriftSchedule,
    FixedSchedule,
    GrowingSchedule,
    RebuildSchedule,
    make_schedule,
)
from hashfold.index.select import all_active, select_rows, select_shared
from hashfold.index.tables import BucketTables
from hashfold.index.tree import TreeIndex
from hashfold.index.virtual import VirtualRows

__all__ = [
    "INDEXES",
    "ROW_INDEXES",
    "BucketTables",
    "Candidates",
    "ClusteredIndex",
    "DriftMeter",
    "DriftSchedule",
    "ExactIndex",
    "FixedSchedule",
    "GrowingSchedule",
    "LshIndex",
    "NeuronIndex",
    "Occupancy",
    "PackedRowIndex",
    "RebuildSchedule",
    "RecallReport",
    "RowIndex",
    "TreeIndex",
    "VirtualRows",
    "all_active",
    "index_options",
    "make_index",
    "make_row_index",
    "make_schedule",
    "recall_at_k",
    "select_rows",
    "select_shared",
]
