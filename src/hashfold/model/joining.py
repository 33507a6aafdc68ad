"""Labels of few rows join a network that has learned the others: put where their rows are, and never trained.

Learned beside the others, labels of one to eight rows cost the network more than they give: it learns their rows
by heart, and the hidden vectors that do so serve the other labels worse (NOTES, "Labels that join").
"""

from __future__ import annotations

from dataclasses import replace

import torch

from hashfold import checks
from hashfold.data import label_counts
from hashfold.model.deep import NetworkConfig
from hashfold.model.deep_lookup import Outputs
from hashfold.model.network import LookupNetwork
from hashfold.sparse import CsrBatch, RaggedIds

JOINED = 0.5  # the length of joined label vectors, of the mean length of learned ones
LESS = 1.0  # than the log of its share of rows: the bias of a label that joins


def check_joinable(config: NetworkConfig) -> None:
    """Raises InputError: of such a network, no scores are known at which labels that were not learned may join."""
    came = None
    if config.loss != "softmax":
        came = f"loss {config.loss}"
    elif not config.label_bias or config.label_norm:
        came = f"label_bias {config.label_bias}, label_norm {config.label_norm}"
    if came is not None:
        expected = "labels of fewer than least_rows join a softmax over free label vectors with biases"
        checks.fail("train", expected, came, "train with near, or set least_rows to 1")


@torch.no_grad()
def join_labels(network: LookupNetwork, outputs: Outputs, x: CsrBatch, y: RaggedIds) -> LookupNetwork:
    """A network over all labels: `network`'s own and, where their rows are now, those that have no output.

    A label that joins has the mean of its rows' h(x), less that of all rows, as its vector, scaled to `JOINED` of
    the mean length of learned vectors; its bias is the log of its share of rows, less `LESS`. So short a vector
    says little, and the label is proposed where the learned ones say less. Labels without rows have the vector 0.

    Args:
        network: trained, over the labels of `outputs`; it stays as it is.
        x: training rows (rows, num_features); y: all their labels, (rows, num_labels).

    Returns a network without optimizer state: to predict with. Raises InputError: see `check_joinable`. Cost: one
    forward pass over x, and a row added for each label of each row. Qi et al., "Low-shot learning with
    imprinted weights", CVPR 2018.
    """
    check_joinable(network.config)
    assert outputs.ids is not None
    whole = LookupNetwork(replace(network.config, num_labels=outputs.num_labels))
    whole.input.load_state_dict(network.input.state_dict())
    own, length = torch.from_numpy(outputs.ids), JOINED * network.output.weight.norm(dim=1).mean()
    whole.output.weight.copy_(whole.label_directions(x, y).mul_(length))
    whole.output.weight[own] = network.output.weight
    whole.set_label_prior(label_counts(y), len(x))
    assert whole.output.bias is not None
    assert network.output.bias is not None
    whole.output.bias.sub_(LESS)
    whole.output.bias[own] = network.output.bias
    return whole
