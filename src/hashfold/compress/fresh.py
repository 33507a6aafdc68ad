"""Memory and latency of a saved model, measured in a process that does nothing else."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from hashfold import checks, memory
from hashfold.compress.architecture import skeleton
from hashfold.compress.files import load, save
from hashfold.errors import HashfoldError
from hashfold.kernels import native
from hashfold.nn.folded import FoldedLinear, HashedWeight

_SECONDS, _MOST_RUNS = 0.5, 200  # latency is the median of so much


class FreshProcessError(HashfoldError):
    """The process in which a model was to be measured failed."""


@dataclass(frozen=True)
class Footprint:
    """What a fresh process needed, in bytes and seconds.

    base_bytes: resident memory after all imports (those of the model's modules too) and after loading and
    running a model of a few weights, so that libraries have set themselves up. loaded_bytes: after loading.
    ran_bytes: after predicting, the results dropped. All without mapped code, freed memory given back. peak_bytes:
    the most that ever was, with code. latencies: seconds of one prediction by the number of rows.
    """

    base_bytes: int
    loaded_bytes: int
    ran_bytes: int
    peak_bytes: int
    load_seconds: float
    latencies: dict[int, float]

    @property
    def model_bytes(self) -> int:
        """What the model itself takes."""
        return max(self.loaded_bytes, self.ran_bytes) - self.base_bytes


def measure(path: str | Path, model: nn.Module, inputs: Sequence[Tensor] = ()) -> Footprint:
    """Loads the file `path` of `model` in a new process, and predicts for each of the inputs (rows, ...).

    The process has as many threads as this one. Raises InputError: the model's classes cannot be found by another
    process; FreshProcessError: it failed.
    """
    job = {"path": str(path), "threads": [torch.get_num_threads(), native.num_threads()], "inputs": list(inputs)}
    with tempfile.TemporaryDirectory(prefix="hashfold-report-") as folder:
        _write_job(Path(folder) / "job", {**job, "model": skeleton(model).eval()})
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-c", "from hashfold.compress import fresh; fresh.main()", f"{folder}/job"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise FreshProcessError(f"report: the fresh process that measures must end well; got {last[0]}")
    told = json.loads(done.stdout.splitlines()[-1])
    latencies = {int(rows): seconds for rows, seconds in told.pop("latencies").items()}
    return Footprint(**told, latencies=latencies)


def _write_job(path: Path, job: dict[str, Any]) -> None:
    foreign = {type(part).__qualname__ for part in job["model"].modules() if type(part).__module__ == "__main__"}
    remedy = "define it at the top of a module that can be imported, or give fresh_process=False"
    expected = "a fresh process must find the classes of the model"
    if foreign:
        checks.fail("report", expected, f"{min(foreign)} of the running script", remedy)
    try:
        path.write_bytes(pickle.dumps(job))
    except (pickle.PicklingError, AttributeError, TypeError) as cause:
        checks.fail("report", expected, " ".join(str(cause).split()), remedy)


def main() -> None:
    """In the new process: the job's file is the last argument, the figures go to standard output."""
    job = pickle.loads(Path(sys.argv[-1]).read_bytes())
    torch.set_num_threads(job["threads"][0])
    native.set_num_threads(job["threads"][1])
    _warm_up()
    base = _settled()
    start = time.perf_counter()
    model = load(job["path"], lambda: job["model"])
    seconds = time.perf_counter() - start
    loaded, latencies = _settled(), {}
    with torch.inference_mode():
        for x in job["inputs"]:
            latencies[len(x)] = _latency(model, x)
    told = {"base_bytes": base, "loaded_bytes": loaded, "ran_bytes": _settled(), "peak_bytes": memory.peak_bytes()}
    print(json.dumps({**told, "load_seconds": seconds, "latencies": latencies}))


def _warm_up() -> None:
    """Sets up what is set up once a process: thread pools, codecs, the kernels' scratch."""
    tiny = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten(), FoldedLinear(4, 2, weight=HashedWeight(2, 4, 8)))
    with tempfile.TemporaryDirectory(prefix="hashfold-report-") as folder, torch.inference_mode():
        for entropy in (False, True) if _codes() else (False,):
            save(tiny, f"{folder}/tiny", entropy=entropy)
            load(f"{folder}/tiny", tiny)(torch.zeros(8, 1, 4, 4))


def _codes() -> bool:
    try:
        import constriction  # noqa: F401
    except ImportError:
        return False
    return True


def _settled() -> int:
    """Resident bytes, once what is free has been given back."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
        if trim is not None:
            trim(0)
    return memory.resident_bytes()


def _latency(model: nn.Module, x: Tensor) -> float:
    """Seconds of one prediction, the median of many after a first one."""
    model(x)
    seconds: list[float] = []
    while len(seconds) < 3 or (sum(seconds) < _SECONDS and len(seconds) < _MOST_RUNS):
        start = time.perf_counter()
        model(x)
        seconds.append(time.perf_counter() - start)
    return median(seconds)
