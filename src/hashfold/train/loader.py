"""Batches: row slices in an order that is a pure function of (seed, epoch), cut and prepared ahead of time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hashfold import checks
from hashfold.sparse import CsrBatch, Int64, RaggedIds
from hashfold.train.protocol import Examples


@dataclass(frozen=True)
class Batch:
    """Rows `rows` of the data as a batch of their own; `index` counts from 0 within the epoch.

    prepared: what the loader's `prepare` made of it.
    """

    index: int
    rows: Int64
    x: CsrBatch
    y: RaggedIds
    prepared: Any = None


Prepare = Callable[[CsrBatch, RaggedIds, int], Any]  # of a batch and its step, counted over epochs


class Loader:
    """Cuts an epoch into batches, never densified. The last batch holds what is left.

    The next `prefetch` batches are gathered, and prepared if asked, by one background thread while the
    caller computes; its exceptions reach the caller. Memory: prefetch + 1 batches.
    """

    def __init__(
        self, data: Examples, batch_size: int, seed: int, prefetch: int = 2, prepare: Prepare | None = None
    ) -> None:
        if len(data.x) != len(data.y):
            checks.fail("train", "x and y must have the same number of rows", f"{len(data.x)} and {len(data.y)}")
        if not len(data.x):
            checks.fail("train", "at least one row is needed", "none", "check that the file has labelled rows")
        self.data, self.batch_size, self.seed, self.prefetch = data, batch_size, seed, prefetch
        self.prepare = prepare

    def __len__(self) -> int:
        """Batches an epoch."""
        return -(-len(self.data.x) // self.batch_size)

    def order(self, epoch: int) -> Int64:
        """The rows of an epoch in their order."""
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.data.x)).astype(np.int64)

    def epoch(self, epoch: int, start: int = 0) -> Generator[Batch, None, None]:
        """The batches of `epoch` from number `start` on. Closing the iterator stops the thread."""
        order = self.order(epoch)
        ahead: deque[Future[Batch]] = deque()
        with ThreadPoolExecutor(1, "hashfold-loader") as thread:
            try:
                for index in range(start, len(self)):
                    ahead.append(thread.submit(self._make, order, epoch, index))
                    if len(ahead) > self.prefetch:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                for waiting in ahead:
                    waiting.cancel()

    def _make(self, order: Int64, epoch: int, index: int) -> Batch:
        batch = self._cut(order, index)
        if self.prepare is None:
            return batch
        return replace(batch, prepared=self.prepare(batch.x, batch.y, epoch * len(self) + index))

    def _cut(self, order: Int64, index: int) -> Batch:
        rows = order[index * self.batch_size : (index + 1) * self.batch_size]
        return Batch(index, rows, self.data.x.take(rows), self.data.y.take(rows))
