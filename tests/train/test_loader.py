import threading

import numpy as np
import pytest
from train.small_model import Data, planted

from hashfold.errors import InputError
from hashfold.sparse import CsrBatch, RaggedIds
from hashfold.train import Loader


@pytest.fixture(scope="module")
def data():
    return planted(rows=37)


def test_an_epoch_holds_every_row_once_and_cuts_them_right(data):
    batches = list(Loader(data, 10, seed=1).epoch(0))
    assert [len(b.x) for b in batches] == [10, 10, 10, 7]
    assert [b.index for b in batches] == [0, 1, 2, 3]
    rows = np.concatenate([b.rows for b in batches])
    np.testing.assert_array_equal(np.sort(rows), np.arange(37))
    dense, labels = data.x.to_scipy().toarray(), data.y.to_scipy().toarray()
    for b in batches:
        np.testing.assert_array_equal(b.x.to_scipy().toarray(), dense[b.rows])
        np.testing.assert_array_equal(b.y.to_scipy().toarray(), labels[b.rows])


def test_order_is_a_function_of_seed_and_epoch(data):
    orders = {(seed, epoch): Loader(data, 5, seed).order(epoch).tolist() for seed in (0, 1) for epoch in (0, 1)}
    assert len({tuple(order) for order in orders.values()}) == 4
    assert Loader(data, 9, 1).order(1).tolist() == orders[1, 1]


def test_starts_in_the_middle(data):
    loader = Loader(data, 10, seed=3)
    whole = [b.rows.tolist() for b in loader.epoch(2)]
    assert [b.rows.tolist() for b in loader.epoch(2, start=2)] == whole[2:]
    assert list(loader.epoch(2, start=4)) == []


@pytest.mark.parametrize("prefetch", [1, 2, 50])
def test_prefetch_changes_nothing(data, prefetch):
    rows = [b.rows.tolist() for b in Loader(data, 4, 0, prefetch).epoch(0)]
    assert rows == [b.rows.tolist() for b in Loader(data, 4, 0).epoch(0)]


def test_cuts_ahead_in_the_background(data):
    cut = []

    class Watched(Loader):
        def _cut(self, order, index):
            cut.append((index, threading.current_thread()))
            return super()._cut(order, index)

    batches = Watched(data, 4, 0, prefetch=2).epoch(0)
    next(batches)
    batches.close()
    assert 1 <= len(cut) <= 3
    assert all(thread is not threading.main_thread() for _, thread in cut)


def test_prepares_ahead_with_the_step_counted_over_epochs(data):
    prepared = []

    def prepare(x, y, step):
        prepared.append((step, threading.current_thread()))
        return step, len(x), len(y)

    batches = list(Loader(data, 10, 0, prepare=prepare).epoch(2, start=1))
    assert [b.prepared for b in batches] == [(9, 10, 10), (10, 10, 10), (11, 7, 7)]
    assert all(thread is not threading.main_thread() for _, thread in prepared)


def test_closing_early_ends_the_thread(data):
    before = threading.active_count()
    batches = Loader(data, 1, 0).epoch(0)
    next(batches)
    assert threading.active_count() == before + 1
    batches.close()
    assert threading.active_count() == before


def test_exceptions_reach_the_caller(data):
    broken = Data(CsrBatch(data.x.indptr, data.x.indices[:20], data.x.values, data.x.num_cols), data.y)
    with pytest.raises(IndexError):
        list(Loader(broken, 10, 0).epoch(0))


def test_refuses_what_does_not_fit():
    empty = Data(CsrBatch.from_scipy(np.zeros((0, 3), np.float32)), RaggedIds.from_lists([], 2))
    with pytest.raises(InputError, match="at least one row"):
        Loader(empty, 10, 0)
    with pytest.raises(InputError, match="same number of rows; got 100 and 37"):
        Loader(Data(planted(rows=100).x, planted(rows=37).y), 10, 0)
