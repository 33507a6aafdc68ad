"""Whole models: what predicts labels from sparse rows."""

from hashfold.model.deep import DeepPath, NetworkConfig
from hashfold.model.deep_lookup import Outputs
from hashfold.model.folded import FoldedNetwork
from hashfold.model.joining import check_joinable, join_labels
from hashfold.model.lookups import PARTS, Lookups, combinations, feature_names, key_of
from hashfold.model.mixing import Mixer, fit_mixer
from hashfold.model.near import Near
from hashfold.model.network import LookupNetwork, StepResult
from hashfold.model.pipeline import HashfoldModel
from hashfold.model.pruned import PrunedWide
from hashfold.model.targets import Targets
from hashfold.model.wide import Wide

__all__ = [
    "PARTS",
    "DeepPath",
    "FoldedNetwork",
    "HashfoldModel",
    "LookupNetwork",
    "Lookups",
    "Mixer",
    "Near",
    "NetworkConfig",
    "Outputs",
    "PrunedWide",
    "StepResult",
    "Targets",
    "Wide",
    "check_joinable",
    "combinations",
    "feature_names",
    "fit_mixer",
    "join_labels",
    "key_of",
]
