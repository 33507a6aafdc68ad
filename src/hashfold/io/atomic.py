"""Files and folders that are there whole or not at all.

Everything is written under a temporary sibling name, synced to the disk and renamed into place. A
folder cannot be renamed over another one, so the old one steps aside as `.NAME.old` for the moment
between two renames; a process killed in that moment leaves it there, and `standing` and the next
`replacing_folder` find it again. A killed process can also leave its temporary sibling behind
(`.NAME.*.tmp`), never a half-written folder under the real name.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hashfold.errors import FileFormatError

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """An empty folder to write into, that becomes `path` when the body ends well.

    If the body or the renaming fails, what was at `path` before is still there and nothing else is
    left. Raises FileFormatError (one line) where the operating system refuses.
    """
    with one_line_errors(path):
        recover(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = _temporary(path)
        new.mkdir()
        try:
            yield new
            _sync_tree(new)
            _swap_in(new, path)
        finally:
            if new.exists():
                shutil.rmtree(new)


def write_atomic(path: str | Path, data: bytes | str) -> None:
    """Replaces the file `path` by one that holds `data` (text as UTF-8). Raises FileFormatError."""
    path = Path(path)
    with one_line_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        new = _temporary(path)
        try:
            new.write_bytes(data.encode() if isinstance(data, str) else data)
            _sync(new)
            new.replace(path)
            _sync(path.parent)
        finally:
            new.unlink(missing_ok=True)


def standing(path: Path) -> Path:
    """Where the folder `path` stands: `path`, or `.NAME.old` after a kill between the two renames."""
    return _retired(path) if not path.exists() and _retired(path).is_dir() else path


def recover(path: Path) -> None:
    """Brings back the folder that a killed process had moved aside."""
    if standing(path) != path:
        _retired(path).rename(path)


def _swap_in(new: Path, path: Path) -> None:
    old = _retired(path)
    if not path.exists():
        new.rename(path)
    else:
        if old.exists():  # left by a process killed after its swap: `path` is newer and complete
            shutil.rmtree(old)
        path.rename(old)
        try:
            new.rename(path)
        except BaseException:
            old.rename(path)
            raise
    _sync(path.parent)
    # The new folder stands; what cannot be deleted of the old one is deleted by the next save.
    shutil.rmtree(old, ignore_errors=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _retired(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _sync_tree(folder: Path) -> None:
    for file in folder.iterdir():
        _sync(file)
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def one_line_errors(path: Path) -> Iterator[None]:
    """Turns the operating system's refusals to write `path` into FileFormatError with a remedy."""
    try:
        yield
    except OSError as cause:
        raise FileFormatError(path, f"cannot be written ({cause.strerror or cause}); {_remedy(cause)}.") from cause


def _remedy(cause: OSError) -> str:
    if cause.errno in _NO_ROOM:
        return "free some space or choose another disk; nothing was changed"
    if cause.errno in _NOT_ALLOWED:
        return "choose a place that you may write to"
    return "check the path and the disk; nothing was changed"
