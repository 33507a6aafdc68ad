"""The model card: what a model was trained on and how to load it, for the people who find the folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import hashfold

_SECTIONS = (
    ("data", "Trained on"),
    ("lookups", "Look-ups"),
    ("network", "Network"),
    ("training", "Training"),
    ("metrics", "Measured on held-out rows"),
)

_USE = """## How to use it

    from hashfold import HashfoldClassifier

    model = HashfoldClassifier.load("{name}")
    ids, scores = model.top_k(X, k=5)

or at the command line:

    hashfold predict {name} FILE
"""


def model_card(name: str, config: Mapping[str, Any], labels: Sequence[str] | None) -> str:
    """Markdown from the sections of `config` that are there; numbers and short text only."""
    parts = [f"# {name}\n", f"A model made by hashfold {hashfold.__version__}.\n"]
    for key, title in _SECTIONS:
        if rows := _rows(config.get(key)):
            parts.append(f"## {title}\n\n| | |\n|---|---|\n{rows}")
    if labels:
        parts.append(f"Label names: {len(labels):,}, one a line in labels.txt.\n")
    return "\n".join([*parts, _USE.format(name=name)])


def _rows(section: object) -> str:
    if not isinstance(section, Mapping):
        return ""
    return "".join(f"| {_cell(key)} | {_cell(value)} |\n" for key, value in section.items() if _is_short(value))


def _is_short(value: object) -> bool:
    return not isinstance(value, Mapping) and len(str(value)) <= 80


def _cell(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return " ".join(str(value).split()).replace("|", "\\|")
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
