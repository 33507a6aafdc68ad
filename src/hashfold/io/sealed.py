"""A sealed folder: a JSON manifest and the files it vouches for by size and SHA-256.

The manifest holds the caller's configuration and, beside it, the reserved names `format`,
`format_version`, `hashfold_version`, `files` (of each file: bytes, sha256, and its tensors or number
of lines) and `checksum` (of the rest of the manifest). Model folders and checkpoints are sealed
folders. Checksums find accidents; they are no signature.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hashfold
from hashfold import checks
from hashfold.errors import FileFormatError, ModelFolderError
from hashfold.io import tensors as tensor_files
from hashfold.io.atomic import one_line_errors, recover, replacing_folder, standing
from hashfold.io.text import from_json, join_lines, split_lines, to_json

Content = Mapping[str, Any] | Sequence[str]
"""What a file holds: tensors by name (a `.safetensors` file), or lines (a `.txt` file)."""

_RESERVED = ("format", "format_version", "hashfold_version", "files", "checksum")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.(safetensors|txt)")
README = "README.md"  # for people, who may edit it: not sealed, never read


@dataclass(frozen=True)
class FolderKind:
    format: str
    version: int
    manifest: str
    noun: str


# Model folders of version 1 had all weights in float32 and said nothing of `storage`; those of version 2 had a
# network in any case; in those of version 3 it had an output for each label.
MODEL = FolderKind("hashfold-model", 4, "config.json", "model folder")
CHECKPOINT = FolderKind("hashfold-checkpoint", 1, "checkpoint.json", "training checkpoint")


@dataclass(frozen=True)
class SealedFolder:
    """An opened folder; `config` is the caller's part of the manifest."""

    path: Path
    config: dict[str, Any]
    hashfold_version: str
    files: dict[str, dict[str, Any]] = field(repr=False)

    def tensors(self, name: str) -> dict[str, tensor_files.Array]:
        """The tensors of a file, mapped into memory (see `map_tensors`). Raises ModelFolderError."""
        arrays = tensor_files.map_tensors(self.path / name)
        if tensor_files.table(arrays) != self._entry(name).get("tensors"):
            raise ModelFolderError(
                self.path / name, "holds other tensors than the manifest says; the folder is damaged."
            )
        return arrays

    def lines(self, name: str) -> list[str]:
        """The lines of a text file. Raises ModelFolderError."""
        path = self.path / name
        lines = split_lines(path, path.read_bytes(), ModelFolderError)
        if len(lines) != self._entry(name).get("lines"):
            raise ModelFolderError(
                path, f"must have {self._entry(name).get('lines')} lines; got {len(lines)}; the folder is damaged."
            )
        return lines

    def _entry(self, name: str) -> dict[str, Any]:
        if name not in self.files:
            raise ModelFolderError(self.path, f"has no {name}; the folder is incomplete or of another kind.")
        return self.files[name]


def write_folder(
    path: str | Path,
    kind: FolderKind,
    config: Mapping[str, Any],
    contents: Mapping[str, Content],
    *,
    readme: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes a sealed folder, whole or not at all; an old one stays until the new one is complete.

    Raises InputError: what is given cannot be saved; FileFormatError: `path` holds something that must
    not be replaced, or the disk refuses. Cost: the files are written once and read once (SHA-256).
    """
    op, path = f"{path}", Path(os.path.realpath(path))
    check_destination(path, kind, overwrite=overwrite)
    manifest = _manifest(op, kind, config)
    with replacing_folder(path) as folder:
        for name, content in contents.items():
            if not _FILE_NAME.fullmatch(name):
                checks.fail(op, "file names must be plain and end in .safetensors or .txt", repr(name))
            manifest["files"][name] = _write_file(op, folder / name, content)
        manifest["checksum"] = _checksum(manifest)
        (folder / kind.manifest).write_bytes(to_json(op, manifest) + b"\n")
        if readme is not None:
            (folder / README).write_text(readme, encoding="utf-8")
    return path


def check_destination(path: str | Path, kind: FolderKind = MODEL, *, overwrite: bool = False) -> None:
    """Whether a folder could be written to `path` as things stand: to be asked before long work.

    Raises FileFormatError: `path` holds what must not be replaced, or nobody may write there.
    """
    path = Path(os.path.realpath(path))
    with one_line_errors(path):
        _check_replaceable(path, kind, overwrite)
        above = next(parent for parent in path.parents if parent.exists())
        if not above.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{above} is a file")
        if not os.access(above, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, f"no permission to write in {above}")


def open_folder(path: str | Path, kind: FolderKind, *, verify: bool = True) -> SealedFolder:
    """Opens a sealed folder. `verify`: read every file once to compare its checksum; sizes always are.

    Raises ModelFolderError (one line): no such folder, a file, a folder of another kind, written by a
    newer hashfold, files missing, damaged or truncated.
    """
    shown = Path(path)
    try:
        path = standing(shown)
        manifest = _read_manifest(path, shown, kind)
        for name, entry in manifest["files"].items():
            _check_file(path / name, entry, verify)
    except OSError as cause:
        raise ModelFolderError(shown, f"cannot be read ({cause.strerror or cause}).") from cause
    config = {name: value for name, value in manifest.items() if name not in _RESERVED}
    return SealedFolder(path, config, manifest["hashfold_version"], manifest["files"])


def _manifest(op: str, kind: FolderKind, config: Mapping[str, Any]) -> dict[str, Any]:
    if taken := sorted(set(_RESERVED) & config.keys()):
        checks.fail(op, f"the names {', '.join(_RESERVED)} of the configuration are reserved", taken[0])
    plain = json.loads(to_json(op, dict(config)))  # what will be read back: the checksum is over this
    head = {"format": kind.format, "format_version": kind.version, "hashfold_version": hashfold.__version__}
    return {**head, **plain, "files": {}}


def _write_file(op: str, path: Path, content: Content) -> dict[str, Any]:
    entry: dict[str, Any]
    if isinstance(content, Mapping):
        arrays = tensor_files.as_arrays(op, content)
        tensor_files.write_tensors(path, arrays)
        entry = {"tensors": tensor_files.table(arrays)}
    else:
        path.write_bytes(join_lines(op, content))
        entry = {"lines": len(content)}
    return {"bytes": path.stat().st_size, "sha256": _sha256(path), **entry}


def _read_manifest(path: Path, shown: Path, kind: FolderKind) -> dict[str, Any]:
    if not path.exists():
        raise ModelFolderError(shown, f"no such {kind.noun}; check the path.")
    if not path.is_dir():
        raise ModelFolderError(shown, f"must be a {kind.noun}; got a file; give the folder that holds it.")
    file = path / kind.manifest
    if not file.is_file():
        raise ModelFolderError(
            shown, f"is no hashfold {kind.noun} (it has no {kind.manifest}){_other_kind(path)}."
        )
    manifest = from_json(file, file.read_bytes(), ModelFolderError)
    if manifest.get("format") != kind.format:
        raise ModelFolderError(file, f"is no hashfold {kind.noun} (its format is {manifest.get('format')!r}).")
    version = manifest.get("format_version")
    if isinstance(version, int) and version > kind.version:
        raise ModelFolderError(
            file, f"has format_version {version}; this hashfold reads up to {kind.version}; upgrade hashfold."
        )
    if manifest.pop("checksum", None) != _checksum(manifest) or not _sound(manifest, kind):
        raise ModelFolderError(
            file, "was changed after it was saved or is damaged; save it again or get a new copy."
        )
    return manifest


def _sound(manifest: dict[str, Any], kind: FolderKind) -> bool:
    """The reserved names hold what they must: also true of folders that somebody made to deceive."""
    files = manifest.get("files")
    return (
        manifest["format_version"] in range(1, kind.version + 1)
        and isinstance(manifest.get("hashfold_version"), str)
        and isinstance(files, dict)
        and all(
            _FILE_NAME.fullmatch(name)
            and isinstance(entry, dict)
            and isinstance(entry.get("bytes"), int)
            and isinstance(entry.get("sha256"), str)
            for name, entry in files.items()
        )
    )


def _check_file(path: Path, entry: dict[str, Any], verify: bool) -> None:
    if not path.is_file():
        raise ModelFolderError(path, "is missing; the folder is incomplete; get a new copy.")
    size = path.stat().st_size
    if size != entry["bytes"]:
        raise ModelFolderError(path, f"must have {entry['bytes']:,} bytes; got {size:,}; the file is damaged.")
    if verify and _sha256(path) != entry["sha256"]:
        raise ModelFolderError(path, "does not match its checksum; the file is damaged; get a new copy.")


def _check_replaceable(path: Path, kind: FolderKind, overwrite: bool) -> None:
    if not standing(path).exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if path.exists() and not path.is_dir():
        raise FileFormatError(path, f"must be a folder for the {kind.noun}; got a file; choose another name.")
    manifest = _own_manifest(standing(path), kind)
    if manifest is None:
        raise FileFormatError(path, f"is a folder but no hashfold {kind.noun}; it is left alone; choose another.")
    if not overwrite:
        raise FileFormatError(path, f"already holds a {kind.noun}; choose another folder or allow overwriting.")
    own = {kind.manifest, README, *manifest.get("files", {})}
    if foreign := sorted(file.name for file in standing(path).iterdir() if file.name not in own):
        raise FileFormatError(
            path, f"also holds {foreign[0]}, which replacing it would delete; move that or choose another folder."
        )
    recover(path)


def _own_manifest(path: Path, kind: FolderKind) -> dict[str, Any] | None:
    try:
        manifest = from_json(path / kind.manifest, (path / kind.manifest).read_bytes())
    except (OSError, FileFormatError):
        return None  # whatever it is, it cannot be told to be ours
    return manifest if manifest.get("format") == kind.format else None


def _other_kind(path: Path) -> str:
    for kind, remedy in ((MODEL, "load it as a model"), (CHECKPOINT, "resume training from it")):
        if _own_manifest(path, kind) is not None:
            return f"; it is a {kind.noun}: {remedy}"
    return ""


def _checksum(manifest: Mapping[str, Any]) -> str:
    try:
        canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except RecursionError:
        return "nested too deep to be ours"
    return hashlib.sha256(canonical.encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
