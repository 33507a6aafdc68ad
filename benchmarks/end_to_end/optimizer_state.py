"""Smaller optimizer state: accuracy, seconds and bytes of one network trained with each rule.

The deep path of citeulike-t (256 hidden, sigmoid loss, 4,096 uniform negatives, dropout .3, cosine decay) over the
same rows, seed and epochs for all; each rule has a rate of its own. BENCH_SETS, BENCH_EPOCHS (6).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from benchmarks.common import chosen, table, write
from benchmarks.end_to_end.time_to_accuracy import examples
from hashfold.model import LookupNetwork, NetworkConfig
from hashfold.optim import RowAdagrad, RowAdam, RowOptimizer

NEEDS = ("HASHFOLD_DATA",)

RULES: dict[str, tuple[float, Callable[[Any, float], RowOptimizer]]] = {
    "Adam": (1e-2, lambda p, lr: RowAdam(p, lr=lr)),
    "Adam, second moment a row": (1e-2, lambda p, lr: RowAdam(p, lr=lr, row_state=True)),
    "Adagrad": (5e-2, lambda p, lr: RowAdagrad(p, lr=lr)),
    "Adagrad, a number a row": (7e-2, lambda p, lr: RowAdagrad(p, lr=lr, row_state=True)),
}


def epochs() -> int:
    return int(os.environ.get("BENCH_EPOCHS", "6"))


class Ruled(LookupNetwork):
    """A LookupNetwork moved by another rule."""

    def __init__(self, config: NetworkConfig, rule: Callable[[Any, float], RowOptimizer]) -> None:
        self._rule = rule
        super().__init__(config)

    def _make_optimizer(self) -> Any:
        optimizer = self._rule(list(self.parameters()), self.config.lr)
        optimizer.fuse(self.input, self.output)
        return optimizer


def state_bytes(net: Ruled) -> int:
    return sum(s.nbytes for state in net.optimizer.state.values() for s in state.values() if s.numel() > 1)


def run(train: Any, test: Any, lr: float, rule: Callable[[Any, float], RowOptimizer]) -> dict[str, float]:
    from hashfold.data import label_counts
    from hashfold.metrics import evaluate
    from hashfold.train import TrainConfig, fit

    config = NetworkConfig(train.num_features, train.num_labels, loss="sigmoid", negatives=4096, lr=lr)
    net = Ruled(config, rule)
    net.set_label_prior(label_counts(train.y), len(train))
    result = fit(net, train, config=TrainConfig(epochs=epochs(), batch_size=256))
    net.round_weights()
    top, _ = net.top_k(test.x, 5)
    scores = evaluate(top, test.y, ks=(1, 3, 5))
    weights = sum(p.numel() * 4 for p in net.parameters())
    figures = {key: scores[key] for key in ("P@1", "P@3", "P@5")}
    return figures | {"seconds": result.train_seconds, "state / weights": state_bytes(net) / weights}


def main() -> None:
    result, rows = {}, []
    for name in chosen(("citeulike-t",)):
        train, test = examples(name, None)
        for rule, (lr, make) in RULES.items():
            figures = run(train, test, lr, make)
            result[f"{name}: {rule}"] = {"lr": lr, **figures}
            rows.append([name, rule, lr, *figures.values()])
    write("optimizer_state", {"epochs": epochs(), "runs": result})
    table(["set", "rule", "rate", "P@1", "P@3", "P@5", "train s", "state / weights"], rows)


if __name__ == "__main__":
    main()
