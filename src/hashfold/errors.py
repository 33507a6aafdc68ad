"""What can go wrong, by whose fault.

Everything hashfold raises on purpose is a `HashfoldError`. Its message is one line: the operation or
the file and line, what was expected, what came, and the remedy.
"""

from __future__ import annotations

from pathlib import Path


class HashfoldError(Exception):
    """The root of every exception that hashfold raises on purpose."""


class InputError(HashfoldError, ValueError):
    """The caller's argument, option or data cannot be used. Command-line exit code 2."""


class FileFormatError(InputError):
    """A file cannot be used; the message starts with `path:line:` or `path:`."""

    def __init__(self, path: str | Path, message: str, line: int | None = None) -> None:
        self.path, self.line = str(path), line
        where = f"{path}:{line}" if line is not None else f"{path}"
        super().__init__(f"{where}: {message}")


class ModelFolderError(FileFormatError):
    """A model folder is damaged, truncated, newer than this version, or no model folder at all."""


class MissingDependencyError(HashfoldError, ImportError):
    """An optional dependency is needed; the message names the extra that installs it."""


class NativeExtensionError(HashfoldError, ImportError):
    """The compiled core cannot be loaded, or an instruction set was forced that it cannot run."""


class NonFiniteLossError(HashfoldError, ArithmeticError):
    """Training diverged: the loss is no longer a number. The message names the step and the remedy."""


class Interrupted(HashfoldError):  # noqa: N818 - not an error: the user asked for it
    """Ctrl-C or SIGTERM during training; the run was saved to `checkpoint`. Exit code 128 + `signal_number`."""

    def __init__(self, message: str, checkpoint: str | Path, signal_number: int) -> None:
        self.checkpoint, self.signal_number = Path(checkpoint), signal_number
        super().__init__(message)
