"""What every benchmark needs: the machine, the command line in a process of its own, results as JSON."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

DEEP = ("--without", "wide", "--without", "near")
"""Options of a model with the deep path alone."""
RESULTS = Path(__file__).parent / "results"


def data_folder() -> Path:
    """Where the data sets lie, one folder each: HASHFOLD_DATA. The benchmarks that need it stop without."""
    folder = os.environ.get("HASHFOLD_DATA")
    if not folder:
        sys.exit("set HASHFOLD_DATA to the folder of the data sets (each a folder with train and test files)")
    return Path(folder)


def seeds() -> list[int]:
    """BENCH_SEEDS, such as 0,1,2."""
    return [int(seed) for seed in os.environ.get("BENCH_SEEDS", "0,1,2").split(",")]


def chosen(names: Sequence[str]) -> list[str]:
    """BENCH_SETS, or all of `names`."""
    asked = os.environ.get("BENCH_SETS")
    return asked.split(",") if asked else list(names)


def machine() -> dict[str, Any]:
    from hashfold.kernels import native

    model = ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "threads": native.num_threads(),
        "isa": native.isa(),
        "python": platform.python_version(),
    }


def hashfold(*arguments: object) -> dict[str, Any]:
    """Runs the command in a fresh process; its JSON object."""
    command = [sys.executable, "-m", "hashfold", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hashfold-bench-") as folder:
        yield Path(folder)


def train_and_eval(train: Path, test: Path, *options: object, evaluation: Sequence[str] = ()) -> dict[str, Any]:
    """One model: accuracy on the test rows, seconds and memory of training, milliseconds a row of predicting."""
    with scratch() as folder:
        trained = hashfold("train", train, "-o", folder / "model", "--quiet", *options)
        scored = hashfold("eval", folder / "model", test, *evaluation)
        folder_bytes = sum(file.stat().st_size for file in (folder / "model").iterdir())
    figures = {key: scored[key] for key in ("P@1", "P@3", "P@5", "nDCG@5", "PSP@1", "PSP@5", "ms_per_row")}
    figures |= {key: scored[key] for key in ("recall@100", "ECE@1", "contributions") if key in scored}
    return figures | {
        "train_seconds": trained["settings"]["training"]["seconds"],
        "folder_mb": folder_bytes / 1e6,
        "seconds": trained["seconds"],
        "peak_memory_gb": trained["peak_memory_bytes"] / 1e9,
        "settings": trained["settings"],
    }


def medians(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Of every figure, over the runs."""
    return {k: median(r[k] for r in runs) for k, v in runs[0].items() if isinstance(v, (int, float))}


def write(name: str, result: Mapping[str, Any]) -> None:
    """To results/NAME.json, with the machine it was measured on."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"machine": machine(), **result}, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n")


def written(name: str) -> dict[str, Any]:
    """What is in results/NAME.json, without its machine; nothing if it is not there."""
    path = RESULTS / f"{name}.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    return {key: value for key, value in found.items() if key != "machine"}


def plot(
    name: str,
    curves: Mapping[str, Sequence[tuple[float, float]]],
    x: str,
    y: str,
    title: str,
    log_x: bool = False,
    log_y: bool = False,
) -> None:
    """Curves of (x, y) points to results/NAME.svg, if matplotlib is there (the extra `plot`)."""
    if (figure := blank(name, 4.0)) is None:
        return
    axes = figure.subplots()
    for label, points in curves.items():
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=label)
    axes.set(xlabel=x, ylabel=y, title=title, xscale="log" if log_x else "linear")
    axes.set(**{"yscale": "log"} if log_y else {"ylim": (0, None)})
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(RESULTS / f"{name}.svg", metadata={"Date": None})


def bars(name: str, shares: Mapping[str, float], x: str, title: str) -> None:
    """Horizontal bars, one below the other, to results/NAME.svg, if matplotlib is there."""
    if (figure := blank(name, 1.0 + 0.22 * len(shares))) is None:
        return
    axes = figure.subplots()
    drawn = axes.barh(list(shares), list(shares.values()))
    axes.bar_label(drawn, fmt="{:.2f}", fontsize=7, padding=2)
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=7)
    axes.set(xlabel=x, title=title, xlim=(0, max(1.1, 1.1 * max(shares.values()))))
    figure.savefig(RESULTS / f"{name}.svg", metadata={"Date": None})


def blank(name: str, height: float) -> Any:
    """A figure to draw on; None, and a word about it, without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print(f"no plot of {name}: matplotlib is not installed (pip install 'hashfold[plot]')")
        return None
    RESULTS.mkdir(exist_ok=True)
    return Figure(figsize=(6.4, height), layout="constrained")


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A Markdown table, to standard output."""
    print("| " + " | ".join(header) + " |\n" + "|---" * len(header) + "|")
    for row in rows:
        cells = [f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row]
        print("| " + " | ".join(cells) + " |", flush=True)
