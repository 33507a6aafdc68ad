"""Where the parts of a model lie in its folder, and how they come back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hashfold import checks
from hashfold.data import TfIdf, vectorizer_from_state
from hashfold.errors import InputError, ModelFolderError
from hashfold.index.base import Arrays, state_array
from hashfold.io import ModelFolder, load_model_folder, save_model_folder
from hashfold.model.deep import DeepPath, NetworkConfig
from hashfold.model.deep_lookup import Outputs
from hashfold.model.folded import FoldedNetwork
from hashfold.model.lookups import Lookups, feature_names
from hashfold.model.mixing import Mixer
from hashfold.model.near import Near
from hashfold.model.network import LookupNetwork
from hashfold.model.pruned import PrunedWide
from hashfold.model.storage import from_file, to_file
from hashfold.model.targets import Targets
from hashfold.model.wide import Wide

if TYPE_CHECKING:
    from hashfold.model.pipeline import HashfoldModel

_INPUT, _COUNTS, _LOOKUPS = "input.safetensors", "label_counts.safetensors", "lookups.safetensors"
_IDF, _VECTORIZER = "idf.", "vectorizer."


def save_model(model: HashfoldModel, path: str | Path, *, overwrite: bool, storage: str | None) -> Path:
    """See `HashfoldModel.save`."""
    weighting, arrays = model.weighting.to_state()
    tensors = {_IDF + name: array for name, array in arrays.items()}
    extra: dict[str, Any] = {_COUNTS: {"label_counts": model.label_counts}}
    vectorizer = None
    if model.vectorizer is not None:
        vectorizer, arrays = model.vectorizer.to_state()
        tensors |= {_VECTORIZER + name: array for name, array in arrays.items()}
    config = {
        "input": {"weighting": weighting, "vectorizer": vectorizer, "reading": model.reading},
        "targets": model.targets.to_dict(),
        "data": {"rows": model.num_rows, **model.data},
        "training": model.training,
        "metrics": model.metrics,
        "params": model.params,
    }
    extra |= {_INPUT: tensors} if tensors else {}
    network, weights = _network_to_file(model.network, storage)
    config |= network
    settings, arrays = lookups_to_state(model.lookups)
    if settings:
        config["lookups"] = settings
        extra[_LOOKUPS] = arrays
    names = model.targets.text_names()
    return save_model_folder(path, config, weights, names, extra=extra, overwrite=overwrite)


def _network_to_file(
    network: DeepPath | None, storage: str | None
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Its settings as sections, and its tensors; nothing and None where there is no network."""
    if storage is not None and not isinstance(network, LookupNetwork):
        came = "none" if network is None else "a folded one"
        checks.fail("save", "the model must have a network, of whose weights storage is", came)
    if network is None:
        return {}, None
    config = network.config if storage is None else replace(network.config, storage=storage)
    state = {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}
    if isinstance(network, FoldedNetwork):
        return {"network": config.to_dict(), "folded": network.specs()}, state
    return {"network": config.to_dict()}, to_file(state, config.storage)


def load_model(kind: type[HashfoldModel], path: str | Path) -> HashfoldModel:
    """See `HashfoldModel.load`."""
    folder = load_model_folder(path)
    try:
        model = _from_folder(kind, folder)
    except ModelFolderError:
        raise
    except (InputError, KeyError, TypeError, ValueError) as cause:
        why = f"lacks {cause}" if isinstance(cause, KeyError) else str(cause).rstrip(".")
        raise ModelFolderError(
            folder.path / "config.json", f"does not describe a model ({why}); train it again."
        ) from cause
    _check(model, folder.path)
    return model


def _from_folder(kind: type[HashfoldModel], folder: ModelFolder) -> HashfoldModel:
    config = folder.config
    arrays = _arrays(folder, _INPUT) if _INPUT in folder.extra else {}
    inputs = config["input"]
    vectorizer = None
    if inputs["vectorizer"] is not None:
        vectorizer = vectorizer_from_state(inputs["vectorizer"], _part(arrays, _VECTORIZER))
    return kind(
        _lookups_from(folder),
        TfIdf.from_state(inputs["weighting"], _part(arrays, _IDF)),
        Targets.from_dict(config["targets"], folder.labels),
        int(config["data"]["rows"]),
        vectorizer=vectorizer,
        reading=dict(inputs["reading"]),
        data=dict(config["data"]),
        training=dict(config["training"]),
        metrics=dict(config["metrics"]),
        params=dict(config["params"]),
    )


def _lookups_from(folder: ModelFolder) -> Lookups:
    settings = folder.config.get("lookups", {})
    network = None
    if "network" in folder.config or "near" not in settings:
        network = _network_from(folder)
    counts = np.asarray(_arrays(folder, _COUNTS)["label_counts"], np.int64)
    # folders of version 2 had no `learned`, but a network
    learned = settings["learned"] if network is None or "learned" in settings else network.config.num_labels
    lookups = Lookups(network, counts, learned=checks.integer("lookups", "learned", learned, low=1))
    if settings:
        load_lookups(lookups, settings, _arrays(folder, _LOOKUPS))
    return lookups


def _network_from(folder: ModelFolder) -> DeepPath:
    config = NetworkConfig.from_dict(folder.config["network"])
    if "folded" in folder.config:
        return FoldedNetwork.from_state(config, folder.config["folded"], folder.tensors)
    network = LookupNetwork(config)
    state = {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}
    from_file(folder.path, folder.tensors, state, config.storage)
    return network


def lookups_to_state(lookups: Lookups) -> tuple[dict[str, Any], Arrays]:
    """JSON-able settings and the arrays of all but the network; both empty where there is nothing else."""
    settings: dict[str, Any] = {}
    arrays: Arrays = {}
    for name, part in (("near", lookups.near), ("wide", lookups.wide)):
        if part is not None:
            settings[name] = part.config()
            arrays |= {f"{name}.{key}": array for key, array in part.state().items()}
    if settings:
        settings |= {"parts": list(lookups.parts), "learned": lookups.learned}
    if lookups.outputs is not None and lookups.outputs.ids is not None:
        arrays["outputs"] = lookups.outputs.ids
    if lookups.mixers:
        settings["mixers"] = {key: list(mixer.names) for key, mixer in lookups.mixers.items()}
    for key, mixer in lookups.mixers.items():
        arrays |= {f"mixer.{key}.{name}": array for name, array in mixer.to_arrays().items()}
    return settings, arrays


def load_lookups(lookups: Lookups, settings: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Gives `lookups` the parts of `lookups_to_state`. Raises InputError, KeyError: arrays that do not fit."""

    def part(prefix: str) -> dict[str, Any]:
        return {n.removeprefix(prefix): np.asarray(a) for n, a in arrays.items() if n.startswith(prefix)}

    if "near" in settings:
        lookups.near = Near(**settings["near"])
        lookups.near.load_state(part("near."))
    if "wide" in settings:
        lookups.wide = _wide_of(settings["wide"])
        lookups.wide.load_state(part("wide."))
    if "outputs" in arrays:
        lookups.outputs = Outputs(
            state_array("lookups", arrays, "outputs", np.int32, (None,)), len(lookups.counts)
        )
    for key, names in settings.get("mixers", {}).items():
        if not set(key.split("+")) <= set(lookups.parts) or tuple(names) != feature_names(key.split("+")):
            checks.fail(
                "lookups", f"what combines {key} must fit the look-ups that there are", "+".join(lookups.parts)
            )
        lookups.mixers[key] = Mixer.from_arrays(names, part(f"mixer.{key}."))


def _wide_of(settings: Mapping[str, Any]) -> Wide | PrunedWide:
    """Those of `Wide` name no kind."""
    own = {key: value for key, value in settings.items() if key != "kind"}
    kinds: dict[str, type[Wide | PrunedWide]] = {"hashed": Wide, PrunedWide.kind: PrunedWide}
    kind = checks.one_of("lookups", "kind of cross weights", settings.get("kind", "hashed"), tuple(kinds))
    return kinds[kind](**own)


def _check(model: HashfoldModel, path: Path) -> None:
    """The parts fit each other. Raises ModelFolderError."""
    features, labels, lookups = model.num_features, model.num_labels, model.lookups
    network = None if lookups.network is None else lookups.network.config
    outputs = lookups.learned if lookups.outputs is None else len(lookups.outputs)
    for what, got, wanted in (
        ("the network's features", *_same(network, "num_features", features)),
        ("the network's labels", *_same(network, "num_labels", outputs)),
        ("labels", model.targets.num_labels, labels),
        ("neighbours' features", *_same(lookups.near, "num_features", features)),
        ("neighbours' labels", *_same(lookups.near, "num_labels", labels)),
        ("cross weights' features", *_same(lookups.wide, "num_features", features)),
        ("cross weights' labels", *_same(lookups.wide, "num_labels", labels)),
        ("label counts", max(labels, lookups.learned), labels),
    ):
        if got != wanted:
            raise ModelFolderError(path, f"{what} must match the model's ({wanted}); got {got}; train it again.")


def _arrays(folder: ModelFolder, name: str) -> Mapping[str, Any]:
    arrays = folder.extra.get(name)
    if not isinstance(arrays, dict):
        raise ModelFolderError(folder.path, f"has no {name}; the folder is incomplete.")
    return arrays


def _part(arrays: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _same(part: Any, name: str, wanted: int) -> tuple[int, int]:
    """What a part that there may not be has, and what it should have."""
    return (wanted if part is None else getattr(part, name)), wanted
