"""Small files written by hand, so that what must be read is plain to see."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write("a.txt.xz", text): the file, packed as its suffix says."""

    def write_file(name: str, content: str | bytes) -> Path:
        raw = content.encode() if isinstance(content, str) else content
        pack = {".gz": gzip.compress, ".xz": lzma.compress}.get(Path(name).suffix, lambda b: b)
        path = tmp_path / name
        path.write_bytes(pack(raw))
        return path

    return write_file
