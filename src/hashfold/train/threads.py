"""How many threads torch and the kernels run, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hashfold.kernels import native


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """torch and the kernels on `count` threads, and then on as many as before; None leaves them as they are."""
    if count is None:
        yield
        return
    before = torch.get_num_threads(), native.num_threads()
    torch.set_num_threads(count)
    native.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        native.set_num_threads(before[1])
