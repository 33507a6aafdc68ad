"""Compressed models: how weights are folded, and their files.

The module can be called: `hashfold.compress(model, config)` is `hashfold.compress.compress`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from hashfold.compress.apply import compress
from hashfold.compress.budget import Allocation, allocate
from hashfold.compress.config import DKM, CodebookConfig, HashConfig, PruneConfig, StraightThrough
from hashfold.compress.export import OnnxExport, export_onnx, to_dense
from hashfold.compress.files import load, save
from hashfold.compress.prepare import Schedule, convert, prepare
from hashfold.compress.reporting import report

__all__ = [
    "DKM",
    "Allocation",
    "CodebookConfig",
    "HashConfig",
    "OnnxExport",
    "PruneConfig",
    "Schedule",
    "StraightThrough",
    "allocate",
    "compress",
    "convert",
    "export_onnx",
    "load",
    "prepare",
    "report",
    "save",
    "to_dense",
]


class _Callable(ModuleType):
    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return compress(*arguments, **keywords)


sys.modules[__name__].__class__ = _Callable
