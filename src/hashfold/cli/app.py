"""What all commands share: how errors become exit codes, the common options, and the output.

Exit codes: 0 done; 2 the user's fault (one line on standard error); 1 ours; 130 interrupted;
141 whoever read our output stopped (`| head`). Results go to standard output, progress, logs and errors to
standard error.
"""

from __future__ import annotations

import errno
import json
import math
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import click

from hashfold import __version__
from hashfold.errors import HashfoldError, Interrupted

USER_FAULT, OUR_FAULT, INTERRUPTED, READER_LEFT = 2, 1, 130, 141

# What the machine or its owner refuses; anything else from the operating system is ours to explain.
_REFUSALS = {
    errno.ENOSPC: "free some space, or choose another folder",
    errno.EDQUOT: "free some space, or choose another folder",
    errno.EFBIG: "raise the file size limit (ulimit -f), or choose another folder",
    errno.EACCES: "check the permissions",
    errno.EPERM: "check the permissions",
    errno.EROFS: "choose a folder that can be written to",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "give a file",
    errno.EEXIST: "choose another name",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EIO: "check the disk",
}


class ReaderLeftError(Exception):
    """Whoever read our standard output closed it."""


class InterruptedByUserError(Exception):
    """Ctrl-C; the message says what was saved and how to go on."""


@dataclass
class Invocation:
    """One run of the command: how it was asked to talk."""

    json: bool = False
    debug: bool = False


class Hashfold(click.Group):
    """The group of commands; its `main` never lets an exception out."""

    def __init__(self, name: str, commands: Sequence[click.Command], **options: Any) -> None:
        super().__init__(name, commands=list(commands), context_settings={"max_content_width": 115}, **options)
        click.version_option(__version__, prog_name=name)(self)

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        invocation = Invocation()
        extra = {**extra, "standalone_mode": False, "obj": invocation}
        sys.exit(_guarded(lambda: super(Hashfold, self).main(args, prog_name, **extra), invocation))

    def invoke(self, ctx: click.Context) -> Any:
        """As click does, but for the two ends that click would settle by itself."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError:
            raise ReaderLeftError from None
        except KeyboardInterrupt:
            raise InterruptedByUserError("interrupted.") from None


def _guarded(run: Callable[[], Any], invocation: Invocation) -> int:
    """Runs the command; its exit code."""
    try:
        result = run()
        return result if isinstance(result, int) else 0
    except (KeyboardInterrupt, click.Abort):  # outside of a command: parsing, clearing up
        click.echo("hashfold: interrupted.", err=True)
        return INTERRUPTED
    except ReaderLeftError:
        # Standard output is gone: give the interpreter's last flush somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_LEFT
    except Exception as error:
        if invocation.debug:
            traceback.print_exc()
        code, line = explain(error)
        click.echo("hashfold: " + " ".join(line.split()), err=True)
        return code


def explain(error: Exception) -> tuple[int, str]:
    """The exit code and the one line for whatever went wrong."""
    if isinstance(error, InterruptedByUserError):
        return INTERRUPTED, str(error)
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        hint = f" See '{context.command_path} --help'." if context is not None else ""
        return USER_FAULT, error.format_message() + hint
    if isinstance(error, Interrupted):
        return 128 + error.signal_number, str(error)
    if isinstance(error, HashfoldError):
        return USER_FAULT, str(error)
    if isinstance(error, OSError) and error.errno in _REFUSALS:
        where = f"{error.filename}: " if error.filename is not None else ""
        return USER_FAULT, f"{where}{error.strerror}; {_REFUSALS[error.errno]}."
    if isinstance(error, MemoryError):
        return OUR_FAULT, "out of memory; use smaller batches or a smaller network (--batch-size, --hidden)."
    return OUR_FAULT, f"internal error: {type(error).__name__}: {error}; --debug shows where."


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command: --json and --debug; the command receives the `Invocation` first."""

    def remember(field: str) -> Callable[[click.Context, click.Parameter, bool], None]:
        def callback(context: click.Context, _: click.Parameter, value: bool) -> None:
            setattr(context.ensure_object(Invocation), field, value)

        return callback

    as_json = click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=remember("json"),
        help="One JSON object on standard output.",
    )
    debug = click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=remember("debug"),
        help="Show the traceback of an error.",
    )
    return as_json(debug(click.pass_obj(command)))


def show_json(result: Mapping[str, Any]) -> None:
    """The result as one JSON object on one line; NaN and infinity, which JSON lacks, as null."""
    click.echo(json.dumps(_plain(result), allow_nan=False, ensure_ascii=False))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if hasattr(value, "tolist"):  # NumPy scalars and arrays
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
