"""Layers whose neurons are looked up by hashing, and the losses over what was looked up."""

from hashfold.nn.active import ActiveValues
from hashfold.nn.hashed_linear import HashedLinear
from hashfold.nn.losses import SampledSigmoidLoss, SampledSoftmaxLoss
from hashfold.nn.lsh_linear import LSHLinear
from hashfold.nn.sparse_linear import SparseLinear

__all__ = ["ActiveValues", "HashedLinear", "LSHLinear", "SampledSigmoidLoss", "SampledSoftmaxLoss", "SparseLinear"]
