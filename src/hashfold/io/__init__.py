"""Files: the model folder, and the sealed, atomically written folder that it and checkpoints are made of.

Nothing here imports torch, so that a predictor can load a model without it.
"""

from hashfold.io.atomic import write_atomic
from hashfold.io.model_folder import ModelFolder, load_model_folder, save_model_folder
from hashfold.io.sealed import (
    CHECKPOINT,
    MODEL,
    Content,
    FolderKind,
    SealedFolder,
    check_destination,
    open_folder,
    write_folder,
)
from hashfold.io.tensors import check_shapes

__all__ = [
    "CHECKPOINT",
    "MODEL",
    "Content",
    "FolderKind",
    "ModelFolder",
    "SealedFolder",
    "check_destination",
    "check_shapes",
    "load_model_folder",
    "open_folder",
    "save_model_folder",
    "write_atomic",
    "write_folder",
]
