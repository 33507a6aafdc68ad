"""16 x 16 images of digits: scikit-learn's, enlarged, or those of an .npz file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from hashfold import checks
from hashfold.errors import FileFormatError
from hashfold.sparse import Float32, Int64

SIDE, CLASSES = 16, 10
ARRAYS = "x_train", "y_train", "x_test", "y_test"


@dataclass(frozen=True)
class Images:
    """Train and test images, float32 (n, 256) in [0, 1], row by row of 16 pixels, and their digits."""

    name: str
    x_train: Float32
    y_train: Int64
    x_test: Float32
    y_test: Int64


def load_digits(seed: int) -> Images:
    """scikit-learn's 1,797 digits, 8 x 8, enlarged to 16 x 16 by linear interpolation; a quarter for testing."""
    from scipy.ndimage import zoom
    from sklearn.datasets import load_digits as small_digits
    from sklearn.model_selection import train_test_split

    x, y = small_digits(return_X_y=True)
    large = zoom(x.reshape(-1, 8, 8) / 16.0, (1, 2, 2), order=1).reshape(len(x), -1)
    parts = train_test_split(large.astype(np.float32), y, test_size=0.25, stratify=y, random_state=seed)
    x_train, x_test, y_train, y_test = (np.ascontiguousarray(part) for part in parts)
    return Images("scikit-learn's digits, enlarged", x_train, y_train, x_test, y_test)


def load_npz(path: Path) -> Images:
    """Images from an .npz file. Raises FileFormatError where it does not hold 16 x 16 images and digits."""
    arrays = _arrays(path)
    for part in ("train", "test"):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if x.ndim != 2 or x.shape[1] != SIDE * SIDE or y.shape != x.shape[:1] or not len(x):
            wanted = f"x_{part} must be (n, {SIDE * SIDE}) and y_{part} (n,)"
            raise FileFormatError(path, f"{wanted}; got {x.shape} and {y.shape}.")
        checks.finite(str(path), f"x_{part}", x)
        checks.ids_in_range(str(path), f"y_{part}", y, CLASSES)
    x_train, x_test = (np.ascontiguousarray(arrays[name], np.float32) for name in ("x_train", "x_test"))
    y_train, y_test = (arrays[name].astype(np.int64) for name in ("y_train", "y_test"))
    return Images(path.stem, x_train, y_train, x_test, y_test)


def _arrays(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The four arrays of the file, numbers all of them."""
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise FileFormatError(path, "must be an .npz file of images; got a single array.")
        with archive:
            found = {name: archive[name] for name in ARRAYS if name in archive}
    except (OSError, EOFError, BadZipFile) as cause:
        reason = getattr(cause, "strerror", None) or cause
        raise FileFormatError(path, f"must be an .npz file of images; got {reason}.") from cause
    except ValueError as cause:  # not an array file at all, or one of Python objects
        if isinstance(cause, FileFormatError):
            raise
        raise FileFormatError(path, "must be an .npz file of images; got something else.") from cause
    if missing := [name for name in ARRAYS if name not in found]:
        raise FileFormatError(path, f"must hold the arrays {', '.join(ARRAYS)}; lacks {', '.join(missing)}.")
    for name, array in found.items():
        if array.dtype.kind not in ("fiu" if name.startswith("x") else "iu"):
            raise FileFormatError(path, f"{name} must hold numbers; got {array.dtype}.")
    return found
