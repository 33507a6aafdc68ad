"""Whole models: what predicts labels from sparse rows."""

from hashfold.model.near import Near
from hashfold.model.network import LookupNetwork, NetworkConfig, StepResult
from hashfold.model.pipeline import HashfoldModel
from hashfold.model.targets import Targets
from hashfold.model.wide import Wide

__all__ = ["HashfoldModel", "LookupNetwork", "Near", "NetworkConfig", "StepResult", "Targets", "Wide"]
