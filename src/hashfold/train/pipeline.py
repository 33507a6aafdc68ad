"""From a data set to a trained model: weighting, settings chosen from the data, network, loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hashfold import checks
from hashfold.data import Dataset, TfIdf, drop_unusable, label_counts, statistics
from hashfold.model import PARTS, HashfoldModel, LookupNetwork
from hashfold.model.targets import Targets
from hashfold.train.callbacks import Callback
from hashfold.train.config import Checkpoints
from hashfold.train.defaults import choose
from hashfold.train.lookups import fit_lookups, split, usable, without_negatives
from hashfold.train.loop import fit
from hashfold.train.state import TrainResult
from hashfold.train.validation import KS


def fit_model(
    train: Dataset,
    valid: Dataset | None = None,
    *,
    targets: Targets | None = None,
    weighting: str = "auto",
    overrides: Mapping[str, Any] | None = None,
    parts: Collection[str] = PARTS,
    effort: str = "normal",
    callbacks: Sequence[Callback] = (),
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[HashfoldModel, TrainResult]:
    """Trains a `HashfoldModel`; rows without labels or features are left out.

    train, valid: rows before weighting; `valid` read to fit `train`'s features and labels. targets: what
    labels look like to the user; by default the data set's names, any number a row. overrides: settings
    that shall not be chosen from the data, by name (see `train.defaults.choose`). parts: which of the three
    look-ups the model has. effort: "low", "normal" or "high": accuracy for time. say: told, line by line,
    what was found and chosen.

    Raises InputError (no usable rows, settings, data), and what `train.fit` raises.
    """
    rows = len(train)
    train, dropped = drop_unusable(train)
    if not len(train):
        found = f"{rows} rows, {dropped.without_labels} of them without labels"
        checks.fail(
            "train", "training needs rows with labels and features", found, "check the file and its columns"
        )
    if dropped.total:
        say(f"left out: {dropped.without_labels} rows without labels, {dropped.without_features} without features")
    facts = statistics(train)
    network_config, config, beside, reasons = choose(
        facts, overrides, effort=effort, combine=set(parts) != {"deep"}
    )
    for reason in reasons:
        say(reason)
    input_weighting = TfIdf.fit(train.x, weighting)
    counts = label_counts(train.y)
    network = LookupNetwork(network_config)
    weighted = replace(train, x=input_weighting.transform(train.x))
    held_out = None if valid is None else replace(valid, x=input_weighting.transform(valid.x))
    beside = without_negatives(replace(beside, parts=usable(parts)), weighted)
    kept, _ = split(len(train), beside.held_out, beside.seed)
    seen = weighted if len(kept) == len(train) else weighted.take(kept)
    network.set_label_prior(label_counts(seen.y), len(seen))
    result = fit(network, seen, held_out, config, callbacks=callbacks, checkpoints=checkpoints, resume=resume)
    network.round_weights()
    began = time.perf_counter()
    lookups = fit_lookups(network, weighted, counts, beside, say)
    names = train.label_names
    model = HashfoldModel(
        lookups,
        input_weighting,
        targets or Targets("lists", train.num_labels, None if names is None else tuple(names)),
        len(train),
        vectorizer=train.vectorizer,
        reading=train.reading,
        data=facts.to_dict(),
        training={
            **config.to_dict(),
            **{name: value for name, value in beside.to_dict().items() if name != "seed"},
            "effort": effort,
            "seconds": result.seconds + time.perf_counter() - began,
            "stopped": result.stopped,
        },
        metrics=result.metrics,
    )
    if valid is not None and lookups.mixers:
        scored = model.evaluate(valid, KS, candidates=False)
        model.metrics = {name: scored[name] for name in result.metrics if name in scored}
        result = replace(result, metrics=model.metrics)
    return model, result
