"""How well a model ranks rows whose labels are known, and what each of its look-ups adds."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit

from hashfold import checks
from hashfold.data import Dataset
from hashfold.metrics import are_true, by_frequency, evaluate, expected_calibration_error
from hashfold.model.lookups import key_of
from hashfold.sparse import Float32, Int32

if TYPE_CHECKING:
    from hashfold.model.pipeline import HashfoldModel

CALIBRATED = (1, 5)  # how many predictions a row are looked at
CONTRIBUTED = (1, 3, 5)
_SAMPLE_ROWS = 1_000


@dataclass(frozen=True)
class Way:
    """Of predicting: see `HashfoldModel.top_k`."""

    lookup: bool = False
    parts: Collection[str] | None = None
    rare: float = 0.0


def evaluate_model(
    model: HashfoldModel,
    dataset: Dataset,
    ks: Sequence[int],
    way: Way,
    *,
    candidates: bool = True,
    bands: bool = False,
    contributions: bool = False,
) -> dict[str, Any]:
    """See `HashfoldModel.evaluate`."""
    if not len(dataset):
        checks.fail("evaluate", "there must be rows to predict", "none")
    most = max(*ks, *CALIBRATED)
    start = time.perf_counter()
    ids, scores = _predicted(model, dataset, most, way)
    seconds = time.perf_counter() - start
    some = dataset.x.take(np.arange(min(len(dataset), _SAMPLE_ROWS)))
    found: dict[str, Any] = {
        **evaluate(ids, dataset.y, model.propensities(dataset.num_labels), ks),
        "rows": len(dataset),
        "seconds": seconds,
        "ms_per_row": 1e3 * seconds / len(dataset),
        "active_fraction": model.active_fraction(some, max(ks)) if way.lookup else 1.0,
    }
    if candidates:
        x = model.encode(dataset.x)
        found["recall@100"] = model.lookups.recall(x, dataset.y, lookup=way.lookup, parts=way.parts)
    if model.gives_log_odds(way.parts) and not way.rare:
        found |= _calibration(ids, scores, dataset)
    if bands:
        found["bands"] = _bands(model, ids, dataset)
    if contributions:
        found["contributions"] = _contributions(model, dataset, way)
    return found


def _predicted(model: HashfoldModel, dataset: Dataset, k: int, way: Way) -> tuple[Int32, Float32]:
    """(rows, k) each, also where there are fewer labels."""
    ids, scores = model.top_k(dataset.x, k, lookup=way.lookup, parts=way.parts, rare=way.rare)
    missing = ((0, 0), (0, k - ids.shape[1]))
    return np.pad(ids, missing, constant_values=-1), np.pad(scores, missing, constant_values=-np.inf)


def _calibration(ids: Int32, scores: Float32, dataset: Dataset) -> dict[str, float]:
    hits, made = are_true(ids, dataset.y), ids >= 0
    chances = expit(scores.astype(np.float64))
    return {
        f"ECE@{k}": expected_calibration_error(chances[:, :k][made[:, :k]], hits[:, :k][made[:, :k]])
        for k in CALIBRATED
    }


def _bands(model: HashfoldModel, ids: Int32, dataset: Dataset) -> list[dict[str, Any]]:
    counts = np.zeros(max(dataset.num_labels, model.num_labels), np.int64)
    counts[: model.num_labels] = model.label_counts
    return [
        {
            "low": band.low,
            "high": band.high,
            "labels": band.labels,
            "occurrences": band.occurrences,
            **{f"R@{k}": band.recall(k) for k in CONTRIBUTED},
        }
        for band in by_frequency(ids, dataset.y, counts[: dataset.num_labels], CONTRIBUTED)
    ]


def _contributions(model: HashfoldModel, dataset: Dataset, way: Way) -> dict[str, dict[str, float]]:
    """By the look-ups used: those asked for, each of them left out, and the deep path alone."""
    asked = model.lookups.parts if way.parts is None else way.parts
    able = [key for key in model.lookups.choices if set(key.split("+")) <= set(asked)]
    able.sort(key=lambda key: (key != key_of(asked), key == "deep", -len(key.split("+"))))
    tables = {}
    for key in able:
        ids, _ = _predicted(model, dataset, max(CONTRIBUTED), Way(way.lookup, key.split("+"), way.rare))
        found = evaluate(ids, dataset.y, ks=CONTRIBUTED)
        tables[key] = {f"P@{k}": found[f"P@{k}"] for k in CONTRIBUTED}
    return tables
