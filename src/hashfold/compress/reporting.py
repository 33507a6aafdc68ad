"""What a compressed model costs and what it loses, layer by layer and whole, measured."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from hashfold import checks
from hashfold.compress import fresh, sizes
from hashfold.compress.files import save
from hashfold.compress.tables import Measured, Report
from hashfold.errors import HashfoldError

Batches: TypeAlias = tuple[Tensor, Tensor] | Iterable[tuple[Tensor, Tensor]]
Score: TypeAlias = Callable[[nn.Module, Batches], float]

PROMISE = 1.25
"""Resident memory of a model's own, beside the bytes of its stored tensors."""
SLACK_BYTES = 1 << 20
"""Allocators, Python's modules and the scratch of the kernels: less cannot be told from a process's memory."""
_MOST_BATCH = 64  # rows of the larger batch whose latency is taken


class MemoryPromiseError(HashfoldError):
    """A compressed model takes more memory than its size promises; `report` has the figures."""

    def __init__(self, message: str, report: Report) -> None:
        self.report = report
        super().__init__(message)


def report(
    model: nn.Module,
    baseline: nn.Module | None = None,
    data: Batches | None = None,
    *,
    entropy: bool = True,
    half: str = "",
    score: Score | None = None,
    inputs: Sequence[Tensor] | None = None,
    fresh_process: bool = True,
    strict: bool = True,
) -> Report:
    """Measures a compressed model: bytes on disk, memory and latency in a fresh process, accuracy, bits a weight.

    Args:
        model: with folded weights, or any. It is not changed.
        baseline: to compare with, such as the dense model it came from; measured in the same way.
        data: (x, y), or an iterable of such batches that can be gone through more than once: y classes (n,).
        entropy, half: how the files are written, see `save`.
        score: in place of accuracy (the share of rows whose largest output is y's): score(model, data), larger
            is better.
        inputs: arguments of the predictions that are timed. Default: one row of data, and up to 64.
        fresh_process: False leaves out memory and latency: for models whose classes no other process can import.
        strict: raise if the model's resident memory exceeds its promise: 1.25 times the bytes of its stored
            tensors, and 1 MiB for what cannot be told apart, above the base.

    The base is the resident memory of the same process after its imports, and after loading and running a model of
    ten weights, so that the libraries are set up. Resident is what the process wrote (on Linux: anonymous pages),
    after what is free has been given back; it is taken after loading and again after predicting, and the larger
    counts. Threads are this process's. Latency is the median of up to 200 predictions.

    Raises MemoryPromiseError, which holds the report; InputError: bad arguments, or a model that another process
    cannot import; FreshProcessError. Cost: the file is written once, data gone through once a model, and some
    seconds for each fresh process.
    """
    for name, given in (("model", model), ("baseline", baseline)):
        if not isinstance(given, nn.Module) and (given is not None or name == "model"):
            checks.fail("report", f"{name} must be a torch module", type(given).__name__)
    if inputs is None:
        inputs = [] if data is None or not fresh_process else _example_inputs(data)
    plan = _Plan(data, entropy, half, score or accuracy, list(inputs), fresh_process)
    layers = sizes.layer_sizes(model, entropy=entropy, half=half)
    measured = plan.measure(model)
    beside = None if baseline is None else plan.measure(baseline)
    settings = {"entropy": entropy, "half": half, "threads": torch.get_num_threads()}
    made = Report(measured, beside, layers, settings)
    if strict and measured.process is not None:
        _check_promise(made, measured.process)
    return made


@torch.no_grad()
def accuracy(model: nn.Module, data: Batches) -> float:
    """The share of rows whose largest output is their class: data as of `report`."""
    right = rows = 0
    training = model.training
    model.eval()
    try:
        for x, y in batches(data):
            outputs = model(x)
            if outputs.dim() != 2 or y.shape != (len(outputs),):
                expected = "outputs must be (rows, classes) beside y (rows,)"
                checks.fail("report", expected, f"{tuple(outputs.shape)} and {tuple(y.shape)}", "give a score")
            right += int((outputs.argmax(1) == y).sum())
            rows += len(y)
    finally:
        model.train(training)
    if not rows:
        checks.fail("report", "data must have rows", "none")
    return right / rows


def batches(data: Batches, rows: int = 512) -> Iterable[tuple[Tensor, Tensor]]:
    """(x, y) in batches; an iterable of batches as it is."""
    if isinstance(data, tuple) and len(data) == 2 and isinstance(data[0], Tensor):
        return zip(torch.split(data[0], rows), torch.split(data[1], rows), strict=True)
    return data


@dataclass(frozen=True)
class _Plan:
    data: Batches | None
    entropy: bool
    half: str
    score: Score
    inputs: list[Tensor]
    fresh_process: bool

    def measure(self, model: nn.Module) -> Measured:
        scored = None if self.data is None else float(self.score(model, self.data))
        with tempfile.TemporaryDirectory(prefix="hashfold-report-") as folder:
            file_bytes = save(model, f"{folder}/model", entropy=self.entropy, half=self.half)
            process = fresh.measure(f"{folder}/model", model, self.inputs) if self.fresh_process else None
        stored, weights = sizes.stored_bytes(model), sizes.num_weights(model)
        return Measured(file_bytes, stored, weights, scored, process)


def _example_inputs(data: Batches) -> list[Tensor]:
    for x, _ in batches(data):
        return [x[:1].clone(), x[:_MOST_BATCH].clone()] if len(x) > 1 else [x.clone()]
    checks.fail("report", "data must have batches", "none")


def _check_promise(made: Report, process: fresh.Footprint) -> None:
    promised = int(PROMISE * made.model.stored_bytes) + SLACK_BYTES
    if process.model_bytes > promised:
        raise MemoryPromiseError(
            f"report: resident memory must be at most {PROMISE} x {made.model.stored_bytes:,} stored bytes + "
            f"{SLACK_BYTES:,} above the base of {process.base_bytes:,}; got {process.model_bytes:,}.",
            made,
        )
