"""Training: the loop, what may watch it, and checkpoints that resume exactly."""

from hashfold.train.callbacks import Callback, HistoryFile, RunInfo, StepReport, TensorBoard
from hashfold.train.checkpoint import remove_checkpoint
from hashfold.train.config import Checkpoints, TrainConfig
from hashfold.train.defaults import choose
from hashfold.train.folding import Fold, fold_model, fold_within
from hashfold.train.loader import Batch, Loader
from hashfold.train.loop import fit
from hashfold.train.pipeline import fit_model
from hashfold.train.progress import PlainLog, ProgressBar, progress
from hashfold.train.protocol import Examples, Resumable, Step, Trainable
from hashfold.train.schedule import lr_factor, step_seed
from hashfold.train.state import TrainResult

__all__ = [
    "Batch",
    "Callback",
    "Checkpoints",
    "Examples",
    "Fold",
    "HistoryFile",
    "Loader",
    "PlainLog",
    "ProgressBar",
    "Resumable",
    "RunInfo",
    "Step",
    "StepReport",
    "TensorBoard",
    "TrainConfig",
    "TrainResult",
    "Trainable",
    "choose",
    "fit",
    "fit_model",
    "fold_model",
    "fold_within",
    "lr_factor",
    "progress",
    "remove_checkpoint",
    "step_seed",
]
