"""The schemes: what each config does. Importing this registers them."""

from __future__ import annotations

import torch

from hashfold import checks
from hashfold.compress.config import DKM, CodebookConfig, HashConfig, PruneConfig
from hashfold.compress.dkm import SoftKMeans
from hashfold.compress.registry import Job, Scheme, register
from hashfold.compress.straight import SharedValues
from hashfold.compress.transform import Masked, Transform
from hashfold.nn.folded import CodebookWeight, HashedWeight


def _check_hash(config: HashConfig, out: int, inputs: int) -> None:
    tile, blocks = config.layout(out, inputs)
    unit, weights = blocks * tile, out * inputs
    checks.integer("HashConfig", "blocks", blocks, high=out)
    if int(weights / config.ratio) < unit:
        expected = f"ratio must leave at least {unit} buckets (blocks * tile) of {weights} weights"
        checks.fail(
            "HashConfig", expected, f"{config.ratio:g}, which leaves {int(weights / config.ratio)}", "lower it"
        )


def _hash(job: Job) -> HashedWeight:
    config: HashConfig = job.config
    tile, blocks = config.layout(*job.matrix.shape)
    unit = blocks * tile
    buckets = int(job.matrix.numel() / config.ratio) // unit * unit
    weight = HashedWeight(
        job.matrix.shape[0],
        job.matrix.shape[1],
        buckets,
        sign=config.sign,
        tile=tile,
        blocks=blocks,
        seed=job.seed,
        init_std=0.0,
    )
    return weight.to(job.matrix.dtype).fit(job.matrix)


def _check_codebook(config: CodebookConfig, out: int, inputs: int) -> None:
    """Any matrix will do."""


def codebook_of(job: Job) -> CodebookWeight:
    """The job's codebooks; code 0 is zero where the config prunes."""
    config: CodebookConfig = job.config
    dense = job.matrix if job.pruned is None else job.matrix.masked_fill(job.pruned, 0.0)
    return CodebookWeight.from_dense(
        dense,
        config.bits,
        **config.groups,
        importance=job.importance,
        zero=config.prune is not None,
        seed=job.seed,
    )


def _prepare_codebook(job: Job) -> Transform:
    shared = codebook_of(job)
    if isinstance(job.config.tuning, DKM):
        return SoftKMeans(job.config, shared, job.pruned, job.matrix)
    return SharedValues(job.config, shared, job.pruned)


def _check_prune(config: PruneConfig, out: int, inputs: int) -> None:
    """Any matrix will do."""


def _prune(job: Job) -> torch.Tensor:
    assert job.pruned is not None
    return job.matrix.masked_fill(job.pruned, 0.0)


register(Scheme(HashConfig, _check_hash, _hash, _hash))
register(Scheme(CodebookConfig, _check_codebook, codebook_of, _prepare_codebook))
register(Scheme(PruneConfig, _check_prune, _prune, lambda job: Masked(job.config, job.pruned)))
