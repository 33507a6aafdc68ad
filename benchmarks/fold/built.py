"""What the benchmarks of whole networks share: folded models in training, and the table of the results."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from benchmarks.common import RESULTS, chosen, seeds, table
from benchmarks.fold.images import record
from hashfold.compress import to_dense
from hashfold.nn.folded import FoldedWeight, folded_weights


class Built(nn.Module):
    """Computes what `folded` does, with the same gradients, by dense layers: for speed while it is trained.

    The parameters, and the running statistics, are those of `folded`, which is used by itself afterwards. Worth it
    where a weight is used many times in a step, as a recurrent one is, or where products are to be in bfloat16.
    """

    def __init__(self, folded: nn.Module) -> None:
        super().__init__()
        self.folded = folded
        self._dense = [to_dense(folded).requires_grad_(False)]  # in a list: no submodule, it owns nothing

    def forward(self, *arguments: Any, **named: Any) -> Any:
        dense = self._dense[0].train(self.training)
        return functional_call(dense, self._tensors(dense), arguments, named, tie_weights=False)

    def _tensors(self, dense: nn.Module) -> dict[str, Tensor]:
        """By the names of the dense model: the matrices, and all that is not folded."""
        matrices = {id(weight): weight.dense() for weight in folded_weights(self.folded).values()}
        shapes = {name: p.shape for name, p in dense.named_parameters(remove_duplicate=False)}
        tensors: dict[str, Tensor] = {}
        for name, part in self.folded.named_modules(remove_duplicate=False):
            if isinstance(part, FoldedWeight) and id(part) in matrices:
                tensors[name] = matrices[id(part)].view(shapes[name])
        own = dict(self.folded.named_parameters()) | dict(self.folded.named_buffers())
        names = [*shapes, *(name for name, _ in dense.named_buffers())]
        return tensors | {name: own[name] for name in names if name not in tensors}


def parameters(model: nn.Module) -> int:
    """Stored values that are trained, each counted once."""
    return sum(p.numel() for p in model.parameters())


@dataclass(frozen=True)
class Row:
    """Of a table. settings: the fields of the plan that count; beside: the row that it is compared with."""

    settings: tuple[str, ...]
    beside: str = ""
    figure: str = ""


def run_rows(
    file: str,
    figure: str,
    plan: Any,
    rows: Mapping[str, Row],
    nets: Callable[[int, Sequence[str]], Iterator[tuple[str, nn.Module]]],
    scored: Callable[[nn.Module], dict[str, Any]],
) -> None:
    """Of each seed the nets that are asked for, one after the other: scored, recorded, and the table at the end.

    plan: a dataclass whose fields are the rows' settings. nets: (seed, names) -> names and trained nets.
    """
    names, settings = chosen(tuple(rows)), asdict(plan)
    for seed in seeds():
        start = time.perf_counter()
        for name, model in nets(seed, names):
            run = {"seed": seed, **scored(model), "seconds": time.perf_counter() - start}
            print(name, json.dumps(run), flush=True)
            record(file, name, {key: settings[key] for key in rows[name].settings}, run)
            start = time.perf_counter()
    summary(file, figure, {name: rows[name] for name in names})


def summary(file: str, figure: str, rows: Mapping[str, Row]) -> None:
    """The table of results/FILE.json."""
    found = json.loads((RESULTS / f"{file}.json").read_text())["rows"]
    lines = []
    for name, about in rows.items():
        row, middle, beside = found[name], found[name]["mean"], about.beside
        more = middle[figure] - found[beside]["mean"][figure] if beside in found else 0.0
        percent = 100 * more / (middle[figure] - more)
        difference = f"{more:+.2f} ({percent:+.1f} %)" if beside in found else ""
        sizes = (int(middle["stored"]), int(middle["bytes"]), middle["seconds"])
        lines.append(
            [name, middle[figure], row["stdev"][figure], difference, len(row["runs"]), *sizes, about.figure]
        )
    header = ["", figure, "stdev", "beside dense or narrow", "seeds", "parameters", "bytes", "seconds"]
    table([*header, "to reach"], lines)
