"""How much memory there is, and how much this process has taken: in bytes, from the operating system."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path


def peak_bytes() -> int:
    """The most resident memory this process ever had."""
    told = _status_bytes("VmHWM")  # ru_maxrss begins with what the process had that started this one
    if told is not None:
        return told
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def total_bytes() -> int:
    """The machine's memory, or what the control group grants, whichever is less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(machine, _cgroup("memory.max") or machine)


def available_bytes() -> int:
    """What can still be taken without swapping."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) * 1024
    used = _cgroup("memory.current")
    return min(free, max(0, total_bytes() - used)) if used is not None else free


def _cgroup(name: str) -> int | None:
    """A number of this process's control group (version 2); None where there is none or no limit."""
    try:
        text = (Path("/sys/fs/cgroup") / name).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def resident_bytes() -> int:
    """What this process has written to memory that is resident now: without code and files mapped from the disk.

    On Linux; elsewhere all that is resident, by `ps`.
    """
    written, shared = _status_bytes("RssAnon"), _status_bytes("RssShmem")
    if written is not None and shared is not None:
        return written + shared
    told = subprocess.run(["ps", "-o", "rss=", "-p", str(os.getpid())], capture_output=True, text=True, check=True)
    return int(told.stdout) * 1024


def _status_bytes(name: str) -> int | None:
    """A field, in kB there, of what Linux tells of this process; None where it is not told."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(fields[name].split()[0]) * 1024 if name in fields else None
