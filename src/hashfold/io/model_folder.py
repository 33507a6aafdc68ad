"""The model folder: what `hashfold train` writes and everything else reads.

    config.json         format, versions, the configuration in sections, sizes and checksums
    model.safetensors   the network's weights (optional)
    labels.txt          one label name a line (optional)
    README.md           the model card; for people, may be edited
    *.safetensors, *.txt    further files, such as a vectoriser's vocabulary

No pickle anywhere. The sections `data`, `network`, `training` and `metrics` of the configuration,
where present, are also told in the model card.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hashfold import checks
from hashfold.io.card import model_card
from hashfold.io.sealed import MODEL, Content, SealedFolder, open_folder, write_folder
from hashfold.io.tensors import Array

_WEIGHTS, _LABELS = "model.safetensors", "labels.txt"


@dataclass(frozen=True)
class ModelFolder:
    """A loaded model folder. `tensors` and `extra` tensors are mapped from their files, copy-on-write.

    `tensors` is empty where the configuration has no section `network`.
    """

    path: Path
    config: dict[str, Any]
    tensors: dict[str, Array]
    labels: list[str] | None
    extra: dict[str, dict[str, Array] | list[str]] = field(default_factory=dict)
    hashfold_version: str = ""


def save_model_folder(
    path: str | Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, Any] | None,
    labels: Sequence[str] | None = None,
    *,
    extra: Mapping[str, Content] | None = None,
    card: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Saves a model, whole or not at all; returns the folder's absolute path.

    config: sections of plain JSON. tensors: name -> NumPy array or torch tensor; None: a model without network.
    labels: label id -> name.
    extra: further files by name, tensors (`x.safetensors`) or lines (`x.txt`). card: the text of
    README.md (made from the configuration if not given). overwrite: replace an older model folder, which
    stays as it is until the new one is complete; a folder that is no model, or that holds files hashfold
    did not write, is never replaced.

    Raises InputError (something given cannot be saved), FileFormatError (the disk refuses: full, no
    permission; nothing half-written is left).
    """
    extra = extra or {}
    if taken := sorted(extra.keys() & {_WEIGHTS, _LABELS}):
        checks.fail(str(path), "extra files must have names of their own", taken[0])
    contents: dict[str, Content] = {} if tensors is None else {_WEIGHTS: tensors}
    if labels is not None:
        contents[_LABELS] = labels
    card = card if card is not None else model_card(Path(os.path.realpath(path)).name, config, labels)
    return write_folder(path, MODEL, config, {**contents, **extra}, readme=card, overwrite=overwrite)


def load_model_folder(path: str | Path, *, verify: bool = True) -> ModelFolder:
    """Loads a model folder; weights are mapped, not read. `verify=False` skips the checksums (not sizes).

    Raises ModelFolderError, one line that names the file: damaged, truncated, incomplete, newer, no
    model folder.
    """
    folder = open_folder(path, MODEL, verify=verify)
    return ModelFolder(
        folder.path,
        folder.config,
        folder.tensors(_WEIGHTS) if _WEIGHTS in folder.files or "network" in folder.config else {},
        folder.lines(_LABELS) if _LABELS in folder.files else None,
        {name: _content(folder, name) for name in folder.files if name not in (_WEIGHTS, _LABELS)},
        folder.hashfold_version,
    )


def _content(folder: SealedFolder, name: str) -> dict[str, Array] | list[str]:
    return folder.tensors(name) if name.endswith(".safetensors") else folder.lines(name)
