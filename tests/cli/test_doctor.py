"""`hashfold doctor` tells what is there, and fails where hashfold cannot work."""

import os

from cli.helpers import process, succeed, succeed_json

from hashfold.kernels import native


def test_json_findings() -> None:
    report = succeed_json("doctor")
    assert report["problems"] == []
    assert report["isa"] in report["isa_levels"]
    assert report["threads"] == native.num_threads()
    assert report["torch"]["version"]
    assert 0 < report["memory_bytes"]["available"] <= report["memory_bytes"]["total"]
    assert set(report["extras"]) == {"parquet", "tensorboard"}


def test_the_forced_instruction_set_is_shown() -> None:
    done = process("doctor", env={**os.environ, "HASHFOLD_ISA": "baseline"})
    assert done.returncode == 0
    assert "baseline, forced by HASHFOLD_ISA" in done.stdout


def test_an_instruction_set_it_cannot_run() -> None:
    done = process("doctor", env={**os.environ, "HASHFOLD_ISA": "mmx"})
    assert done.returncode == 1
    assert "problem: HASHFOLD_ISA" in done.stdout


def test_people_read_it() -> None:
    assert "instruction set" in succeed("doctor").stdout
