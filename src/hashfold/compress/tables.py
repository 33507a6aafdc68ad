"""What was measured of a compressed model, to be read: Markdown, rich tables, a dictionary, a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hashfold import checks
from hashfold.compress import fresh
from hashfold.compress.sizes import LayerSize
from hashfold.errors import MissingDependencyError

if TYPE_CHECKING:
    from rich.table import Table

_PICTURES = (".png", ".svg", ".pdf")
_LAYERS_DRAWN = 40


@dataclass(frozen=True)
class Measured:
    """One model, whole. Bytes: of its file; of its stored tensors in memory. accuracy: None without data."""

    file_bytes: int
    stored_bytes: int
    weights: int
    accuracy: float | None = None
    process: fresh.Footprint | None = None


@dataclass(frozen=True)
class Report:
    """What `report` found: `markdown` (and `str`) to read, `tables` for a terminal, `as_dict` for JSON, `plot`."""

    model: Measured
    baseline: Measured | None
    layers: list[LayerSize]
    settings: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.markdown()

    def markdown(self) -> str:
        """The whole beside the baseline, then the layers, then how memory was measured: Markdown."""
        whole = _markdown(_whole_header(self), _whole_rows(self))
        layers = _markdown(_LAYER_HEADER, _layer_rows(self.layers))
        return "\n\n".join([whole, layers, *_notes(self)]) + "\n"

    def tables(self) -> list[Table]:
        """The same as tables of rich's, to be printed to its console."""
        whole = _rich("the whole", _whole_header(self), _whole_rows(self))
        layers = _rich("by folded weight, and the rest of each layer", _LAYER_HEADER, _layer_rows(self.layers))
        layers.caption = " ".join(_notes(self))
        return [whole, layers]

    def as_dict(self) -> dict[str, Any]:
        """All figures, JSON-able."""
        told = asdict(self)
        for row, layer in zip(told["layers"], self.layers, strict=True):
            row |= {"bits_per_weight": layer.bits_per_weight, "file_bits_per_weight": layer.file_bits_per_weight}
        return told

    def plot(self, path: str | Path) -> Path:
        """Bytes by layer, and bits a weight, as a picture: .png, .svg or .pdf. Needs hashfold[plot]."""
        return _plot(self, Path(path))


def _plot(report: Report, path: Path) -> Path:
    checks.one_of("report.plot", "the end of path", path.suffix, _PICTURES)
    try:
        from matplotlib.figure import Figure
    except ImportError as cause:
        raise MissingDependencyError("a plot needs matplotlib; install hashfold[plot].") from cause
    layers = sorted(report.layers, key=lambda layer: -layer.file_bytes)[:_LAYERS_DRAWN][::-1]
    names = [f"{layer.name} ({layer.scheme})" for layer in layers]
    figure = Figure(figsize=(11, 2 + 0.3 * len(layers)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, label, stored, in_file in (
        (left, "bytes", [x.stored_bytes for x in layers], [x.file_bytes for x in layers]),
        (right, "bits per weight", [x.bits_per_weight for x in layers], [x.file_bits_per_weight for x in layers]),
    ):
        places = range(len(layers))
        axes.barh([y + 0.2 for y in places], stored, 0.38, label="in memory")
        axes.barh([y - 0.2 for y in places], in_file, 0.38, label="in the file")
        axes.set_yticks(list(places), names)
        axes.set_xlabel(label)
        axes.grid(axis="x", alpha=0.3)
    left.legend()
    figure.suptitle(_title(report))
    figure.savefig(path)
    return path


_LAYER_HEADER = ("name", "scheme", "weights", "bytes in memory", "bits a weight", "in the file", "bits a weight")


def _layer_rows(layers: Sequence[LayerSize]) -> list[list[str]]:
    rows = [
        [
            *(layer.name, layer.scheme, f"{layer.weights:,}"),
            *(f"{layer.stored_bytes:,}", f"{layer.bits_per_weight:.3f}"),
            *(f"{layer.file_bytes:,.0f}", f"{layer.file_bits_per_weight:.3f}"),
        ]
        for layer in layers
    ]
    weights = max(1, sum(layer.weights for layer in layers))
    stored, in_file = (sum(getattr(layer, name) for layer in layers) for name in ("stored_bytes", "file_bytes"))
    total = [f"{weights:,}", f"{stored:,}", f"{8 * stored / weights:.3f}"]
    return [*rows, ["whole", "", *total, f"{in_file:,.0f}", f"{8 * in_file / weights:.3f}"]]


def _whole_header(report: Report) -> list[str]:
    return ["", "compressed"] if report.baseline is None else ["", "compressed", "baseline", "ratio"]


def _whole_rows(report: Report) -> list[list[str]]:
    """What was measured, of both, and how many times less it is."""
    rows = []
    for label, value, told in _figures(report):
        mine = value(report.model)
        if mine is None:
            continue
        row = [label, told(mine)]
        if report.baseline is not None:
            other = value(report.baseline)
            row += ["" if other is None else told(other)]
            row += ["" if not other or not mine or label == "accuracy" else f"{other / mine:.2f}"]
        rows.append(row)
    return rows


def _figures(report: Report) -> list[tuple[str, Callable[[Measured], Any], Callable[[Any], str]]]:
    def of_process(name: str) -> Callable[[Measured], Any]:
        return lambda one: None if one.process is None else getattr(one.process, name)

    def latency(rows: int) -> Callable[[Measured], Any]:
        return lambda one: None if one.process is None else one.process.latencies.get(rows)

    timed = sorted(report.model.process.latencies) if report.model.process else []
    return [
        ("accuracy", lambda one: one.accuracy, lambda value: f"{value:.4f}"),
        ("file, bytes", lambda one: one.file_bytes, "{:,}".format),
        ("file, bits a weight", lambda one: 8 * one.file_bytes / max(1, one.weights), "{:.3f}".format),
        ("stored in memory, bytes", lambda one: one.stored_bytes, "{:,}".format),
        ("resident above the base, bytes", of_process("model_bytes"), "{:,}".format),
        ("base of the process, bytes", of_process("base_bytes"), "{:,}".format),
        ("peak of the process, bytes", of_process("peak_bytes"), "{:,}".format),
        ("loading, ms", of_process("load_seconds"), lambda value: f"{1e3 * value:.2f}"),
        *((f"predicting {n} rows, ms", latency(n), lambda value: f"{1e3 * value:.3f}") for n in timed),
    ]


def _notes(report: Report) -> list[str]:
    if report.model.process is None:
        return []
    return [
        "Resident: what a fresh process wrote to memory and still holds after loading and after predicting, the"
        f" larger of both, above its base; {report.settings['threads']} threads. The base: the same process after"
        " all imports, and after loading and running a model of a few weights. Promised: 1.25 x what is stored,"
        " and 1 MiB."
    ]


def _title(report: Report) -> str:
    told = f"{report.model.file_bytes:,} bytes for {report.model.weights:,} weights"
    if report.baseline is not None:
        told += f", {report.baseline.file_bytes / report.model.file_bytes:.1f} times less than the baseline"
    return told


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *("---:" if name != "scheme" else "---" for name in header[1:])]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (header, rule, *rows)]
    return "\n".join(lines)


def _rich(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich.table import Table

    table = Table(title=title)
    for i, name in enumerate(header):
        table.add_column(name, justify="left" if not i or name == "scheme" else "right")
    for row in rows:
        table.add_row(*row)
    return table
