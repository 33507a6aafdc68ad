"""`hashfold doctor`: what this machine and installation offer."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

import click

from hashfold import __version__
from hashfold.cli.app import OUR_FAULT, Invocation, common, show_json
from hashfold.errors import NativeExtensionError
from hashfold.memory import available_bytes, total_bytes

_EXTRAS = {"parquet": "pyarrow", "tensorboard": "tensorboard"}
_DEPENDENCIES = ("numpy", "scipy", "scikit-learn", "safetensors")


@click.command()
@common
def doctor(invocation: Invocation) -> int:
    """Say what this machine and installation offer.

    Instruction set, threads, torch build, memory, the compiled core, optional extras. Exit code 1 if hashfold
    cannot work here.
    """
    report = examine()
    if invocation.json:
        show_json(report)
    else:
        _show(report)
    return OUR_FAULT if report["problems"] else 0


def examine() -> dict[str, Any]:
    """The findings as plain values."""
    problems: list[str] = []
    return {
        "hashfold": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        **_native(problems),
        "torch": _torch(problems),
        "memory_bytes": {"total": total_bytes(), "available": available_bytes()},
        "packages": {name: _version(name) for name in _DEPENDENCIES},
        "extras": {extra: _version(package) for extra, package in _EXTRAS.items()},
        "problems": problems,
    }


def _native(problems: list[str]) -> dict[str, Any]:
    try:
        from hashfold.kernels import native
    except NativeExtensionError as error:
        problems.append(str(error))
        return {"extension": None, "isa": None, "isa_levels": [], "threads": None}
    return {
        "extension": str(Path(native.core.__file__)),
        "isa": native.isa(),
        "isa_levels": native.isa_levels(),
        "isa_forced": os.environ.get("HASHFOLD_ISA") or None,
        "threads": native.num_threads(),
    }


def _torch(problems: list[str]) -> dict[str, Any] | None:
    try:
        import torch
    except ImportError as error:
        problems.append(f"torch cannot be imported ({error}); install it with 'pip install torch'.")
        return None
    return {
        "version": torch.__version__,
        "threads": torch.get_num_threads(),
        "mkl": torch.backends.mkl.is_available(),  # type: ignore[no-untyped-call]
        "openmp": torch.backends.openmp.is_available(),  # type: ignore[no-untyped-call]
        "distributed": torch.distributed.is_available(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _show(report: dict[str, Any]) -> None:
    torch, memory = report["torch"], report["memory_bytes"]
    forced = ", forced by HASHFOLD_ISA" if report.get("isa_forced") else ""
    lines = {
        "hashfold": f"{report['hashfold']} on Python {report['python']}, {report['platform']}",
        "compiled core": report["extension"] or "missing",
        "instruction set": f"{report['isa']}{forced} (available: {', '.join(report['isa_levels'])})",
        "threads": f"{report['threads']} of {report['cores']} cores",
        "torch": f"{torch['version']}, {torch['threads']} threads, MKL {torch['mkl']}" if torch else "missing",
        "memory": f"{memory['available'] / 2**30:.1f} of {memory['total'] / 2**30:.1f} GiB available",
        **{name: version or "missing" for name, version in report["packages"].items()},
        **{
            f"extra {extra}": version or f"not installed (pip install 'hashfold[{extra}]')"
            for extra, version in report["extras"].items()
        },
    }
    for name, finding in lines.items():
        click.echo(f"{name:19}{finding}")
    for problem in report["problems"]:
        click.echo(f"problem: {problem}")
