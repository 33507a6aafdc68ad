"""Whole models: what predicts labels from sparse rows."""

from hashfold.model.network import LookupNetwork, NetworkConfig, StepResult

__all__ = ["LookupNetwork", "NetworkConfig", "StepResult"]
