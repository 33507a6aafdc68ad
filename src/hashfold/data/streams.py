"""Bytes and lines of a file, unpacked on the way: plain, .gz and .xz, told apart by their first bytes.

Packed files are unpacked by a thread of their own (gzip and lzma release the interpreter lock), a few
chunks ahead of the parser, so that reading takes about as long as unpacking.
"""

from __future__ import annotations

import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import IO, Any, cast

from hashfold.errors import FileFormatError

Source = str | Path | IO[bytes]

CHUNK_BYTES = 1 << 20
CHUNKS_AHEAD = 8


def source_name(source: Source) -> str:
    """What messages call it: the path as given, or the stream's name."""
    if isinstance(source, (str, Path)):
        return str(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "<stream>"


def chunks(source: Source) -> Generator[bytes]:
    """The unpacked bytes, about a MiB at a time. Close it (`contextlib.closing`) if you stop early.

    Raises:
        FileFormatError: no such file, a directory, no permission, or a damaged or truncated archive.
    """
    with _explained(source_name(source)), _opened(source) as file:
        magic = file.peek(6)[:6]
        if magic.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=file) as archive:
                yield from _ahead(partial(archive.read, CHUNK_BYTES))
        elif magic == b"\xfd7zXZ\x00":
            with lzma.LZMAFile(file) as unpacked:
                yield from _ahead(partial(unpacked.read, CHUNK_BYTES))
        else:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk


def lines(source: Source) -> Generator[str]:
    """The lines of a UTF-8 text, each with its newline; a byte order mark is dropped.

    Raises:
        FileFormatError: as `chunks`, and with the line for bytes that are not UTF-8.
    """
    name = source_name(source)
    with closing(_raw_lines(source)) as raw_lines:
        for number, raw in enumerate(raw_lines, 1):
            try:
                yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise FileFormatError(
                    name,
                    f"expected UTF-8 text; got byte 0x{raw[error.start]:02x} at column {error.start + 1}; "
                    "convert the file to UTF-8.",
                    number,
                ) from None


def read_names(path: str | Path) -> list[str]:
    """The names in a file of one name a line (plain, .gz, .xz): names of labels or features by id."""
    return [line.rstrip("\r\n") for line in lines(path)]


def _raw_lines(source: Source) -> Generator[bytes]:
    rest = b""
    with closing(chunks(source)) as parts:
        for chunk in parts:
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield line + b"\n"
    if rest:
        yield rest


@contextmanager
def _opened(source: Source) -> Iterator[io.BufferedReader[Any]]:
    if isinstance(source, (str, Path)):
        with Path(source).open("rb") as file:
            yield file
    elif isinstance(source, io.BufferedReader):
        yield source
    else:
        wrapped = io.BufferedReader(cast(io.RawIOBase, source))
        try:
            yield wrapped
        finally:
            wrapped.detach()  # the caller's stream stays open


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turns what the operating system and the unpackers raise into FileFormatError."""
    try:
        yield
    except FileNotFoundError:
        raise FileFormatError(name, "expected a file; there is none of this name; check the path.") from None
    except IsADirectoryError:
        raise FileFormatError(name, "expected a file; got a directory; name the file in it.") from None
    except PermissionError:
        raise FileFormatError(name, "expected a readable file; got no permission; change its mode.") from None
    except EOFError:
        raise FileFormatError(
            name, "expected a whole archive; it ends too early; copy or download the file again."
        ) from None
    except (lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise FileFormatError(
            name, f"expected an intact archive; got '{error}'; copy or download the file again."
        ) from None
    except OSError as error:
        raise FileFormatError(
            name, f"expected a readable file; got '{error.strerror or error}'; check it."
        ) from None


def _ahead(read: Callable[[], bytes]) -> Iterator[bytes]:
    """What `read` returns until it returns nothing, read ahead by a thread."""
    queue: Queue[Any] = Queue(CHUNKS_AHEAD)
    stop = Event()
    thread = Thread(target=_pump, args=(read, queue, stop), name="hashfold-unpack", daemon=True)
    thread.start()
    try:
        while item := _next(queue):
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def _pump(read: Callable[[], bytes], queue: Queue[Any], stop: Event) -> None:
    item: bytes | BaseException = b"."
    while item and not isinstance(item, BaseException) and not stop.is_set():
        try:
            item = read()
        except BaseException as error:  # handed to the reader, which raises it
            item = error
        while not stop.is_set():
            try:
                queue.put(item, timeout=0.05)
                break
            except Full:
                continue


def _next(queue: Queue[Any]) -> Any:
    while True:
        try:
            return queue.get(timeout=0.2)  # in slices, so that Ctrl-C is heard
        except Empty:
            continue
