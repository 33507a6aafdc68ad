"""Whole models: what predicts labels from sparse rows."""

from hashfold.model.network import LookupNetwork, NetworkConfig, StepResult
from hashfold.model.pipeline import HashfoldModel
from hashfold.model.targets import Targets

__all__ = ["HashfoldModel", "LookupNetwork", "NetworkConfig", "StepResult", "Targets"]
