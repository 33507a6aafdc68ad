"""The whole state of a run in a folder: written atomically, without pickle, checked when read.

checkpoint.json         where the run stands, what run it is, and the plain part of all states
model.safetensors       the weights
training.safetensors    the optimizers' state, the model's resume state
best.safetensors        the best weights so far, where early stopping needs them
"""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hashfold import checks
from hashfold.errors import ModelFolderError
from hashfold.io import CHECKPOINT, Content, SealedFolder, open_folder, write_folder
from hashfold.io.atomic import standing
from hashfold.train.config import TrainConfig
from hashfold.train.pack import pack, unpack
from hashfold.train.protocol import Examples, Resumable, Trainable
from hashfold.train.state import RunState

_MODEL, _TRAINING, _BEST = "model.safetensors", "training.safetensors", "best.safetensors"

# Settings that may differ when a run goes on: they do not change what its steps compute.
_FREE = {"max_seconds", "threads", "prefetch"}


@dataclass(frozen=True)
class RunIdentity:
    """What must be the same for a resumed run to be the same run."""

    settings: dict[str, Any]
    data: dict[str, int]

    @classmethod
    def of(cls, config: TrainConfig, data: Examples) -> RunIdentity:
        settings = {name: value for name, value in config.to_dict().items() if name not in _FREE}
        return cls(settings, _fingerprint(data))

    def check(self, path: Path, saved: Mapping[str, Any]) -> None:
        """Raises InputError that names the first difference."""
        for what, now, before in (
            ("setting", self.settings, saved["settings"]),
            ("data", self.data, saved["data"]),
        ):
            for name, value in now.items():
                if before.get(name) != value:
                    checks.fail(
                        f"{path}",
                        f"to resume, {what} {name} must be {before.get(name)!r} as in the checkpoint",
                        repr(value),
                        "give it the same, or train anew",
                    )


def save_checkpoint(
    path: Path, model: Trainable, state: RunState, identity: RunIdentity, best: Mapping[str, Any] | None
) -> None:
    """Writes everything; the previous checkpoint stays until this one is complete.

    Raises FileFormatError: the disk refuses, or `path` holds something else. Cost: two passes over the
    weights and the optimizer state (written, then read for the checksum).
    """
    weights: dict[str, Any] = {}
    training: dict[str, Any] = {}
    plain = {
        "run": state.to_dict(),
        "identity": {"settings": identity.settings, "data": identity.data},
        "model": pack(dict(model.state_dict()), "", weights),
        "optimizers": pack([o.state_dict() for o in model.optimizers()], "optimizer", training),
        "resume": pack(model.resume_state(), "model", training) if isinstance(model, Resumable) else None,
    }
    contents: dict[str, Content] = {_MODEL: weights, _TRAINING: training}
    if best is not None:
        kept: dict[str, Any] = {}
        plain["best"] = pack(dict(best), "", kept)
        contents[_BEST] = kept
    write_folder(path, CHECKPOINT, plain, contents, overwrite=True)


def load_checkpoint(path: Path, model: Trainable, identity: RunIdentity) -> tuple[RunState, dict[str, Any] | None]:
    """Puts the model and its optimizers where they were; returns the run's state and the best weights.

    Raises ModelFolderError: no checkpoint there, or a damaged one; InputError: it is of another run or
    another network.
    """
    folder = open_folder(path, CHECKPOINT)
    try:
        plain = folder.config
        identity.check(path, plain["identity"])
        state = RunState.from_dict(plain["run"])
        best = unpack(plain["best"], folder.tensors(_BEST)) if "best" in plain else None
        _restore(folder, model)
    except (KeyError, TypeError) as cause:
        # Checksums hold, so whoever wrote this was no hashfold of this format.
        raise ModelFolderError(path, f"is not laid out as a checkpoint ({cause}); train anew.") from cause
    return state, best


def remove_checkpoint(path: str | Path) -> None:
    """Deletes a checkpoint that is no longer needed, if there is one. Raises ModelFolderError: something else."""
    if standing(Path(path)).exists():
        shutil.rmtree(open_folder(path, CHECKPOINT, verify=False).path)


def _restore(folder: SealedFolder, model: Trainable) -> None:
    weights = unpack(folder.config["model"], folder.tensors(_MODEL))
    _check_fits(folder.path, model, weights)
    model.load_state_dict(weights)
    training = folder.tensors(_TRAINING)
    if isinstance(model, Resumable):
        model.load_resume_state(unpack(folder.config["resume"], training))
    states = unpack(folder.config["optimizers"], training)
    optimizers = list(model.optimizers())
    if len(states) != len(optimizers):
        checks.fail(
            f"{folder.path}", f"the model must have {len(states)} optimizers as in the checkpoint", len(optimizers)
        )
    for optimizer, saved in zip(optimizers, states, strict=True):
        try:
            optimizer.load_state_dict(saved)
        except ValueError as cause:
            checks.fail(f"{folder.path}", "the optimizers must be those of the checkpoint", str(cause))


def _check_fits(path: Path, model: Trainable, weights: Mapping[str, Any]) -> None:
    now, saved = _shapes(model.state_dict()), _shapes(weights)
    for name in sorted(now.keys() | saved.keys()):
        if now.get(name) != saved.get(name):
            checks.fail(
                f"{path}",
                f"the network must be the one of the checkpoint, whose {name} is {saved.get(name, 'not there')}",
                now.get(name, "none"),
                "give the same network settings, or train anew",
            )


def _shapes(state: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items() if isinstance(value, torch.Tensor)}


def _fingerprint(data: Examples) -> dict[str, int]:
    arrays = {
        "features": (data.x.indptr, data.x.indices, data.x.values),
        "labels": (data.y.indptr, data.y.ids),
    }
    shape = {"num_rows": len(data.x), "num_features": data.x.num_cols, "num_labels": data.y.num_ids}
    return shape | {name + "_crc32": _crc32(parts) for name, parts in arrays.items()}


def _crc32(arrays: tuple[Any, ...]) -> int:
    crc = 0
    for array in arrays:
        crc = zlib.crc32(memoryview(array).cast("B") if array.size else b"", crc)
    return crc
