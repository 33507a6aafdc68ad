"""compress: a model whose weights are folded."""

from __future__ import annotations

from torch import nn

import hashfold.compress.schemes  # noqa: F401 - it registers them
from hashfold import checks
from hashfold.compress.budget import allocate
from hashfold.compress.importance import Data, Loss, importances
from hashfold.compress.plan import Configs, make_plan, naming
from hashfold.compress.rebuild import layers_of, make_jobs, rebuild
from hashfold.compress.registry import Result, scheme_of
from hashfold.compress.transform import Transform
from hashfold.nn.folded import FoldedWeight


def compress(
    model: nn.Module,
    config: Configs | None = None,
    *,
    budget: int | str | None = None,
    data: Data | None = None,
    loss: Loss | None = None,
) -> nn.Module:
    """A new model whose weights are folded as `config` says, or within a budget; `model` stays as it is.

    Args:
        model: any module. Layers of the types in `hashfold.nn.folded.FOLDED_LAYERS`, torch's, `LSHLinear` and
            `SparseLinear` (exactly: subclasses may do something else) can be folded: their weight matrices, not
            their biases. The index of an `LSHLinear` keeps its settings and is built anew when it is asked.
        config: a `HashConfig`, `CodebookConfig` or `PruneConfig` for all these layers; or a mapping to configs, or
            to None for layers that stay dense: of names (regular expressions that match a layer's whole name, as
            in `named_modules()`), which go before module types, which go before "default". Of several names or
            types the first counts. Layers that nothing fits stay dense. With a budget: a mapping of the layers
            that are not searched.
        budget: in place of config, bytes of the file (or text: "64KB") that `save(..., entropy=True)` writes. The
            schemes are searched for by `data` and `loss`, both needed: see `budget.allocate`, which tells more.
        data: batches, for configs that weigh weights: what `loss` takes, or without it what the model takes, or
            tuples of which that is the first.
        loss: loss(model, batch) -> scalar, the mean over the batch, for weighting by gradients: the smaller the
            batches, the nearer to the Fisher information of single rows. The model is a copy in eval mode.

    Parameters that several layers share are folded once and stay shared. Buckets and codebooks are parameters, to
    be trained on if that is wanted; the state_dict holds ordinary tensors. Raises InputError, which names the
    layer: a type that cannot be folded, an index that copies its rows, a layer fused with an optimizer, weights
    that are not finite, fewer weights than the ratio needs, a weight shared with something that is not folded
    alike. Cost: clustering, a fraction of a second a million weights.
    """
    if budget is not None:
        if data is None or loss is None:
            checks.fail("compress", "data and loss must be given beside a budget", "one or none of them")
        return allocate(model, budget, data, loss, config=config).model
    if config is None:
        checks.fail("compress", "config or budget must be given", "neither")
    plan = make_plan("compress", model, config)
    weights = importances("compress", model, plan, data, loss)
    jobs = make_jobs(plan, weights, lambda prune: prune.fraction)
    results: dict[int, Result | Transform] = {}
    for target, job in zip(plan, jobs, strict=True):
        with naming("compress", target.name):
            result = scheme_of(job.config).compress(job)
            if isinstance(result, FoldedWeight):
                result.requires_grad_(target.parameter.requires_grad)
            results[id(target.parameter)] = result
    return rebuild(model, {id(layer): layer for layer in layers_of(plan)}, results)
