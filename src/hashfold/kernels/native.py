"""The compiled core, loaded once: the only importer of the extension.

Its functions take NumPy arrays and fill the outputs they are given. Importing this does not import
torch. `HASHFOLD_ISA=baseline|avx2|avx512|avx512_bf16` forces an instruction set, `HASHFOLD_NUM_THREADS` (or
`OMP_NUM_THREADS`) the threads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hashfold.errors import NativeExtensionError

try:
    from hashfold.kernels import _native  # type: ignore[attr-defined]
except ImportError as cause:
    raise NativeExtensionError(
        f"hashfold's compiled core cannot be loaded ({cause}); reinstall with 'pip install .' on a machine with a "
        "C++20 compiler."
    ) from cause

core: Any = _native


def isa() -> str:
    """The instruction set in force."""
    return str(core.isa())


def multiplies_bf16() -> bool:
    """The instruction set in force has bfloat16 dot products."""
    return bool(core.isa_multiplies_bf16())


def isa_levels() -> list[str]:
    """The instruction sets this machine can run, weakest first."""
    return list(core.isa_levels())


def force_isa(level: str) -> None:
    """Run all kernels at `level` from now on. Raises NativeExtensionError if this machine cannot."""
    if not core.force_isa(level):
        raise NativeExtensionError(
            f"HASHFOLD_ISA: must be one of {', '.join(isa_levels())} on this machine; got {level!r}; "
            "unset it to choose the best."
        )


@contextmanager
def isa_forced(level: str) -> Iterator[None]:
    """Run the body's kernels at `level`."""
    before = isa()
    force_isa(level)
    try:
        yield
    finally:
        force_isa(before)


def num_threads() -> int:
    return int(core.num_threads())


def set_num_threads(count: int) -> None:
    core.set_num_threads(count)


if os.environ.get("HASHFOLD_ISA"):
    force_isa(os.environ["HASHFOLD_ISA"])
