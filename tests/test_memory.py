"""What a process is said to take is what it took."""

import mmap
import subprocess
import sys

import numpy as np

from hashfold import memory


def test_what_is_written_is_resident_and_the_peak_stays():
    before = memory.resident_bytes()
    # pages of its own: an array may get memory that was freed before and is resident already
    with mmap.mmap(-1, 50_000_000) as block:
        block[:: mmap.PAGESIZE] = bytes(len(range(0, len(block), mmap.PAGESIZE)))
        during = memory.resident_bytes()
    assert 49e6 < during - before < 60e6
    assert memory.resident_bytes() < during - 40e6
    assert memory.peak_bytes() >= during


def test_the_peak_is_not_that_of_the_process_before():
    block = np.ones(300_000_000, np.uint8)
    script = "from hashfold import memory; print(memory.peak_bytes())"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(told.stdout) < 200e6 < len(block)
