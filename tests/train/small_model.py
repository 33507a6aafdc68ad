"""A real, small torch model that the loop can train, and data it can learn."""

from dataclasses import dataclass

import numpy as np
import torch

from hashfold.sparse import CsrBatch, LookupStats, RaggedIds
from hashfold.train import Callback, TrainConfig, fit

CONFIG = TrainConfig(epochs=3, batch_size=16, seed=5, threads=1)


@dataclass(frozen=True)
class Data:
    x: CsrBatch
    y: RaggedIds


def planted(rows=100, features=20, labels=6, seed=0):
    """Each label owns some features; a row has one label and mostly its features."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, labels, rows)
    dense = np.zeros((rows, features), np.float32)
    for row, label in enumerate(truth):
        own = [f for f in range(features) if f % labels == label]
        dense[row, rng.choice(own, 2, replace=False)] = 1
        dense[row, rng.integers(features)] += 0.5
    return Data(CsrBatch.from_scipy(dense), RaggedIds.from_lists([[t] for t in truth], labels))


@dataclass(frozen=True)
class Report:
    loss: float
    rows: int
    stats: LookupStats


class SmallModel(torch.nn.Module):
    """EmbeddingBag -> dropout -> linear, softmax, Adam."""

    def __init__(self, data, hidden=8, lr=0.05, seed=0):
        super().__init__()
        self.num_labels = data.y.num_ids
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.bag = torch.nn.EmbeddingBag(data.x.num_cols, hidden, mode="sum")
            self.out = torch.nn.Linear(hidden, self.num_labels)
        self.lr = lr
        self.optimizer = torch.optim.Adam(self.parameters(), lr=lr)
        self.seeds, self.rates = [], []

    def hidden(self, x):
        return self.bag(
            torch.from_numpy(x.indices),
            torch.from_numpy(x.indptr[:-1].astype(np.int32)),
            torch.from_numpy(x.values),
        )

    def training_step(self, x, y, seed):
        self.seeds.append(seed)
        drop = torch.rand(len(x), 8, generator=torch.Generator().manual_seed(seed)) < 0.8
        logits = self.out(self.hidden(x) * drop)
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(y.ids).long())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        size = len(x) * self.num_labels
        stats = LookupStats(rows=len(x), num_items=self.num_labels, active=size // 2, labels=len(y.ids))
        return Report(loss.item(), len(x), stats)

    @torch.no_grad()
    def top_k(self, x, k, lookup=False):
        scores, ids = self.out(self.hidden(x)).topk(k)
        return ids.numpy().astype(np.int32), scores.numpy()

    def optimizers(self):
        return [self.optimizer]

    def set_lr(self, factor):
        self.rates.append(factor)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * factor


class ModelWithTables(SmallModel):
    """Also keeps a table made from the weights of some earlier step, on which its steps depend."""

    def __init__(self, data, **options):
        super().__init__(data, **options)
        self.steps, self.table = 0, np.zeros(self.num_labels, np.float32)

    def training_step(self, x, y, seed):
        if self.steps % 5 == 0:
            self.table = self.out.weight.detach().numpy().sum(1).copy()
        self.steps += 1
        with torch.no_grad():
            self.out.bias += 0.01 * torch.from_numpy(self.table)
        return super().training_step(x, y, seed)

    def resume_state(self):
        return {"steps": self.steps, "tables": [self.table]}

    def load_resume_state(self, state):
        self.steps, self.table = state["steps"], state["tables"][0]


class Scripted(SmallModel):
    """Its P@1 on the validation rows follows a script; its weights count the steps."""

    def __init__(self, data, script):
        super().__init__(data)
        self.script, self.validations = script, 0
        self.count = torch.nn.Parameter(torch.zeros(1), requires_grad=False)
        self.y = None

    def training_step(self, x, y, seed):
        self.count += 1
        return Report(1.0, len(x), super().training_step(x, y, seed).stats)

    def top_k(self, x, k, lookup=False):
        share = self.script[self.validations]
        self.validations += 1
        ids = np.tile(np.arange(k, dtype=np.int32), (len(x), 1))
        for row in range(len(x)):
            right, wrong = self.y[row][0], (self.y[row][0] + 1) % self.num_labels
            first = right if row < share * len(x) else wrong
            others = [i for i in range(self.num_labels) if i not in (right, wrong)]
            ids[row] = [first, *others][:k]
        return ids, np.zeros(ids.shape, np.float32)


class StopAt(Callback):
    """Does `action` once, after a given step."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def on_step(self, report):
        if report.step == self.step:
            self.action()


class Watcher(Callback):
    """Writes down all it is told."""

    def __init__(self):
        self.told, self.steps, self.closed = [], [], 0

    def on_start(self, run):
        self.told.append(("start", run))

    def on_step(self, report):
        self.steps.append(report)

    def on_record(self, record):
        self.told.append(("record", record))

    def on_checkpoint(self, path, step):
        self.told.append(("checkpoint", step))

    def on_end(self, result):
        self.told.append(("end", result))

    def close(self):
        self.closed += 1


def weights(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def assert_same_weights(left, right):
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


def without_clocks(history):
    clocks = {"seconds", "examples_per_second", "peak_memory_bytes"}
    return [{k: v for k, v in record.items() if k not in clocks} for record in history]


def trained(data, valid=None, config=CONFIG, kind=SmallModel, **options):
    model = kind(data)
    return model, fit(model, data, valid, config, **options)
