"""Reading packed training text: our reader, parsing included, beside `xz -dc` to nowhere.

In turn, the least of BENCH_ROUNDS (3) of each; the file is in the page cache. Each of these files is one xz block,
which only one thread can unpack: the parser works on what is unpacked meanwhile. Needs HASHFOLD_DATA and `xz`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.common import chosen, data_folder, scratch, table, write
from benchmarks.peers.torch_network import in_turn

NEEDS = ("HASHFOLD_DATA", "xz")

SETS = ("kowiki-articles", "acl-authors", "eurlex57k")


def rounds() -> int:
    return int(os.environ.get("BENCH_ROUNDS", "3"))


def unpack(packed: Path, to: int | None = None) -> None:
    subprocess.run(["xz", "-dc", str(packed)], stdout=subprocess.DEVNULL if to is None else to, check=True)


def check(packed: Path, plain: Path) -> int:
    """Packed and plain files read alike; the number of entries."""
    from hashfold.data import read_xmc

    one, other = read_xmc(packed), read_xmc(plain)
    for field in ("indptr", "indices", "values"):
        assert (getattr(one.x, field) == getattr(other.x, field)).all(), field
    assert (one.y.ids == other.y.ids).all()
    return one.x.nnz


def measure(packed: Path) -> dict[str, float]:
    from hashfold.data import read_xmc

    with scratch() as folder:
        plain = folder / "train.txt"
        with plain.open("wb") as file:
            unpack(packed, file.fileno())
        entries = check(packed, plain)
        ways: dict[str, Callable[[int], object]] = {
            "xz": lambda _: unpack(packed),
            "packed": lambda _: read_xmc(packed),
            "plain": lambda _: read_xmc(plain),
        }
        least = {name: min(taken) for name, taken in in_turn(ways, 0, rounds()).items()}
        megabytes = plain.stat().st_size / 1e6
    return {"entries": entries, "megabytes": megabytes, **least, "packed / xz": least["packed"] / least["xz"]}


def main() -> None:
    if shutil.which("xz") is None:
        sys.exit("this benchmark compares with the program xz, which is not installed")
    result, began = {}, time.perf_counter()
    for name in chosen(SETS):
        result[name] = measure(data_folder() / name / "train.txt.xz")
    write("reading", {"sets": result, "seconds": time.perf_counter() - began})
    header = ("set", "entries", "MB of text", "xz -dc, s", "ours from .xz, s", "ours from plain, s", "ours / xz")
    table(header, [[name, *figures.values()] for name, figures in result.items()])


if __name__ == "__main__":
    main()
