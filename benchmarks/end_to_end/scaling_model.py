"""Rows a second on more cores, more machines and more labels, computed from measured terms; measures nothing.

docs/scaling.md explains the terms and shows the tables. Run it after changing one of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks.common import table

HIDDEN, FLOAT = 128, 4
ARRAYS = 1.5  # a weight and its compact optimizer state, in weights
# Measured on one core (AMD EPYC, AVX-512 with bf16): CPU time, the least of many steps on huge_output's data.
PAIR_NS = 5.5  # a row of the batch and an active label: product, loss, gradient, its share of the row's update
INPUT_ROW_US = 8.2  # a row of 64 nonzeros: forward 1.6, backward and update 6.6
STEP_MS, ROW_US = (
    0.6,
    1.5,
)  # on one thread whatever the cores: Python between the kernels; sorting and choosing, a row
FEATURES_A_ROW, LABELS_A_ROW = 40, 4.5  # distinct ones in a batch of 1,024, a row
GLOO_MS = 0.28  # an all-reduce of 8 KB between two processes on one machine
# Not measured.
MACHINE_GB_S, CORES = 300.0, 64  # memory of such a machine, random rows of 512 bytes
WIRE_GB_S = 3.0  # 25 Gbit/s Ethernet


@dataclass(frozen=True)
class Step:
    """One training step: `batch` rows, `negatives` in all, labels sharded over `machines` of `cores` each."""

    batch: int
    negatives: int
    cores: int = CORES
    machines: int = 1

    @property
    def active_a_machine(self) -> float:
        return (self.negatives + LABELS_A_ROW * self.batch) / self.machines

    @property
    def kernels_ms(self) -> float:
        labels = 1e-6 * PAIR_NS * self.batch * self.active_a_machine
        return (labels + 1e-3 * INPUT_ROW_US * self.batch) / self.cores

    @property
    def memory_ms(self) -> float:
        """Rows of both layers with their state, read and written, at the bandwidth of the whole machine."""
        rows = self.active_a_machine + FEATURES_A_ROW * self.batch
        return rows * ARRAYS * HIDDEN * FLOAT * 2 / (MACHINE_GB_S * 1e6) * max(1.0, 8 / self.cores)

    @property
    def serial_ms(self) -> float:
        return STEP_MS + 1e-3 * ROW_US * self.batch

    @property
    def wire_bytes(self) -> float:
        """Sent by each machine: grad_h all-reduced in a ring, and a top and a sum a row gathered."""
        if self.machines == 1:
            return 0.0
        share = (self.machines - 1) / self.machines
        return 2 * share * self.batch * HIDDEN * FLOAT + (self.machines - 1) * self.batch * 2 * FLOAT

    @property
    def wire_ms(self) -> float:
        hops = math.log2(self.machines)
        return self.wire_bytes / (WIRE_GB_S * 1e6) + 2 * GLOO_MS * hops

    @property
    def ms(self) -> float:
        return max(self.kernels_ms, self.memory_ms) + self.serial_ms + self.wire_ms

    @property
    def rows_a_second(self) -> float:
        return 1e3 * self.batch / self.ms


def shard_gb(labels: float, machines: int) -> float:
    """Weights and compact optimizer state of a shard of the output layer."""
    return labels / machines * HIDDEN * ARRAYS * FLOAT / 1e9


def cores_table() -> None:
    rows = []
    for negatives in (4096, 16_384):
        for cores in (1, 2, 8, 16, 32, 64):
            step = Step(1024, negatives, cores)
            parts = (step.kernels_ms, step.memory_ms, step.serial_ms, step.ms)
            rows.append([negatives, cores, *parts, round(step.rows_a_second)])
    table(["negatives", "cores", "kernels, ms", "memory, ms", "one thread, ms", "step, ms", "rows/s"], rows)


def machines_table() -> None:
    rows = []
    for labels, negatives in ((1e7, 16_384), (1e7, 262_144), (1e8, 262_144), (1e8, 2_097_152)):
        for machines in (1, 4, 16, 64):
            step = Step(1024, negatives, CORES, machines)
            memory, wire = shard_gb(labels, machines), step.wire_bytes / 1e6
            parts = (memory, wire, max(step.kernels_ms, step.memory_ms), step.wire_ms, step.ms)
            rows.append([f"{labels:.0e}", negatives, machines, *parts, round(step.rows_a_second)])
    header = ["labels", "negatives", "machines", "GB a shard", "MB a step", "compute, ms", "wire, ms", "step, ms"]
    table([*header, "rows/s"], rows)


def main() -> None:
    cores_table()
    print()
    machines_table()


if __name__ == "__main__":
    main()
