"""The deep path folded: both weight matrices as shared values and packed codes, on disk and in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from hashfold import checks, functional
from hashfold.index.virtual import EightBitRows, Vectors, rows_at_once
from hashfold.model.deep import DeepPath, NetworkConfig
from hashfold.model.network import LookupNetwork
from hashfold.nn.folded import CodebookWeight, FoldedWeight
from hashfold.nn.lsh_linear import RowsOf
from hashfold.sparse import CsrBatch, Float32, Int32


class FoldedNetwork(DeepPath):
    """A `LookupNetwork` that can only predict: rows of V and W are computed where they are used, and never kept.

    features: V as a folded weight (num_features, hidden); labels: W, (num_labels, hidden), whose rows are scored
    in 8 bits. Cost of predicting: scoring all labels builds each row of W once a batch, as the sums do those of V
    that the batch has, so batches are far cheaper a row than single rows. Memory: the codes, and some blocks of
    4 MiB.
    """

    feature_bias: Tensor
    label_bias: Tensor | None

    def __init__(
        self,
        config: NetworkConfig,
        features: FoldedWeight,
        feature_bias: Tensor,
        labels: FoldedWeight,
        label_bias: Tensor | None,
    ) -> None:
        super().__init__(config)
        self.features, self.labels = features, labels
        self.register_buffer("feature_bias", feature_bias)
        self.register_buffer("label_bias", label_bias)
        self.requires_grad_(False)

    @classmethod
    @torch.no_grad()
    def of(cls, network: LookupNetwork, bits: int, label_bits: int | None = None) -> FoldedNetwork:
        """The codebooks nearest to the network's weights: exact k-means of every 2^bits rows.

        bits: of a feature's weights; label_bits: of a label's, by default as many. A codebook takes four bytes a
        row, as a scale would, and is worth more.
        """
        op, layers = "FoldedNetwork", (network.input, network.output)
        chosen = (bits, bits if label_bits is None else label_bits)
        weights = []
        for layer, count in zip(layers, chosen, strict=True):
            checks.integer(op, "bits", count, low=1, high=8)
            weight = layer.weight.detach()
            weights.append(CodebookWeight.from_dense(weight, count, group_rows=min(2**count, len(weight))))
        assert network.input.bias is not None
        bias = None if network.output.bias is None else network.output.bias.detach().clone()
        # virtual rows are float32, and looked up by an index that keeps none of them
        config = replace(network.config, storage="fp32", search="clustered", search_options={})
        return cls(config, weights[0], network.input.bias.detach().clone(), weights[1], bias)

    def sums(self, x: CsrBatch) -> Tensor:
        distinct, places = np.unique(x.indices, return_inverse=True)
        y = self.feature_bias.repeat(len(x), 1)
        step = rows_at_once(self.config.hidden)
        shape = (len(x), len(distinct))
        columns = sp.csr_array((x.values, places, x.indptr), shape=shape).tocsc() if len(distinct) > step else None
        for at in range(0, len(distinct), step):
            block = distinct[at : at + step]
            part = CsrBatch(x.indptr, places.astype(np.int32), x.values, len(block))
            if columns is not None:
                part = CsrBatch.from_scipy(columns[:, at : at + step].tocsr())
            rows = self.features.rows(torch.from_numpy(block).long())
            y += functional.sparse_linear(*functional.csr_tensors(part), rows, None)
        return y

    def feature_rows(self, ids: Int32) -> Float32:
        rows: Float32 = self.features.rows(torch.from_numpy(ids).long()).numpy()
        return rows

    def label_rows(self) -> tuple[Vectors, Float32 | None]:
        return EightBitRows(RowsOf(self.labels)), None if self.label_bias is None else self.label_bias.numpy()

    @property
    def nbytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in [*self.parameters(), *self.buffers()])

    def specs(self) -> dict[str, Any]:
        """JSON-able; with the `state_dict`, what `from_state` takes."""
        return {
            "features": self.features.spec(),
            "labels": self.labels.spec(),
            "bias": self.label_bias is not None,
        }

    @classmethod
    def from_state(
        cls, config: NetworkConfig, specs: Mapping[str, Any], tensors: Mapping[str, Any]
    ) -> FoldedNetwork:
        """Raises InputError: specs and tensors that do not fit each other."""
        op = "FoldedNetwork"
        features, labels = (FoldedWeight.from_spec(specs[name]) for name in ("features", "labels"))
        bias = torch.zeros(config.num_labels) if specs["bias"] else None
        network = cls(config, features, torch.zeros(config.hidden), labels, bias)
        shapes = {(config.num_features, config.hidden), (config.num_labels, config.hidden)}
        if {(w.out_features, w.in_features) for w in (features, labels)} != shapes:
            checks.fail(op, f"folded weights must be of shapes {sorted(shapes)}", "others")
        state = network.state_dict()
        if set(state) != set(tensors):
            checks.fail(op, f"tensors must be {', '.join(sorted(state))}", ", ".join(sorted(tensors)))
        for name, tensor in state.items():
            given = torch.from_numpy(np.asarray(tensors[name]))
            if given.shape != tensor.shape or given.dtype != tensor.dtype:
                came = f"{given.dtype} {tuple(given.shape)}"
                checks.fail(op, f"tensor {name} must be {tensor.dtype} {tuple(tensor.shape)}", came)
        network.load_state_dict({name: torch.from_numpy(np.asarray(a)) for name, a in tensors.items()})
        return network
