"""ActiveValues between layers, and the losses at its end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from hashfold.errors import InputError
from hashfold.kernels.rowwise_linear import csr_rowwise_linear, rowwise_linear
from hashfold.nn.active import ActiveValues
from hashfold.nn.rowwise_losses import rowwise_sigmoid_loss, rowwise_softmax_loss
from hashfold.sparse import ActiveSet, RaggedIds


def per_row(rows: list[list[int]], num_items: int, labels: list[list[int]] | None = None) -> ActiveSet:
    """An active set with the given neurons; labels must be among them."""
    indptr = np.cumsum([0] + [len(row) for row in rows])
    ids = np.array([i for row in rows for i in row], np.int32)
    positions = None
    label_indptr = None
    if labels is not None:
        label_indptr = np.cumsum([0] + [len(row) for row in labels])
        where = [indptr[i] + rows[i].index(label) for i in range(len(rows)) for label in labels[i]]
        positions = np.array(where, np.int64)
    weights = np.ones(len(ids), np.float32)
    return ActiveSet(
        num_items,
        ids,
        weights,
        len(rows),
        indptr=indptr,
        label_indptr=label_indptr,
        label_positions=positions,
    )


def full(num_rows: int, num_items: int, labels: list[list[int]] | None = None) -> ActiveSet:
    """Every neuron of every row, each row in an order of its own."""
    random = np.random.default_rng(3)
    return per_row([random.permutation(num_items).tolist() for _ in range(num_rows)], num_items, labels)


def sparsified(dense: Tensor, active: ActiveSet) -> Tensor:
    rows = np.repeat(np.arange(active.num_rows), np.diff(active.indptr))  # type: ignore[arg-type]
    return dense[torch.from_numpy(rows), torch.from_numpy(active.ids).long()]


ROWS = [[3, 0], [], [1, 2, 4]]


def test_to_dense_puts_each_value_in_its_place() -> None:
    values = ActiveValues(per_row(ROWS, 5), torch.tensor([1.0, 2, 3, 4, 5]))
    assert values.to_dense().tolist() == [[2, 0, 0, 1, 0], [0] * 5, [0, 3, 4, 0, 5]]
    assert (values.num_rows, values.num_items) == (3, 5)


def test_to_csr_sorts_the_columns() -> None:
    batch = ActiveValues(per_row(ROWS, 5), torch.tensor([1.0, 2, 3, 4, 5], requires_grad=True)).to_csr()
    assert batch.validate().to_scipy().toarray().tolist() == [[2, 0, 0, 1, 0], [0] * 5, [0, 3, 4, 0, 5]]


@pytest.mark.parametrize("drop_zeros", [False, True])
def test_relu_equals_the_dense_one_forward_and_backward(drop_zeros: bool) -> None:
    raw = torch.tensor([1.0, -2, 0, 4, -5], requires_grad=True)
    values = ActiveValues(per_row(ROWS, 5), raw)
    ours = values.relu(drop_zeros=drop_zeros)
    dense = torch.relu(values.to_dense())
    assert torch.equal(ours.to_dense(), dense)
    (want,) = torch.autograd.grad(dense.square().sum(), raw)
    (got,) = torch.autograd.grad(ours.to_dense().square().sum(), raw)
    assert torch.equal(got, want)


def test_dropping_zeros_shrinks_the_set() -> None:
    values = ActiveValues(per_row(ROWS, 5), torch.tensor([1.0, -2, 0, 4, -5])).relu(drop_zeros=True)
    assert values.active.ids.tolist() == [3, 2]
    assert values.active.indptr is not None
    assert values.active.indptr.tolist() == [0, 1, 1, 2]
    assert values.values.tolist() == [1.0, 4.0]
    assert len(values.active.weights) == 2


def test_dropping_zeros_refuses_an_output_layers_set() -> None:
    values = ActiveValues(per_row([[0, 1]], 2, [[1]]), torch.tensor([0.0, 1]))
    with pytest.raises(InputError, match="labels"):
        values.nonzero()


def test_two_layers_chain() -> None:
    """H1 -> H2: the sparse output of one layer is the input of the next; equal to masked dense layers."""
    torch.manual_seed(1)
    first, second = torch.nn.Linear(6, 5), torch.nn.Linear(5, 4)
    x = torch.randn(3, 6)
    h1, h2 = per_row(ROWS, 5), per_row([[0, 3], [2], [1]], 4)
    one = ActiveValues(h1, rowwise_linear(x, *_pairs(h1), first.weight, first.bias)).relu(drop_zeros=True)
    two = ActiveValues(h2, csr_rowwise_linear(*one.csr(), *_pairs(h2), second.weight, second.bias))

    mask1 = ActiveValues(h1, torch.ones(5)).to_dense()
    mask2 = ActiveValues(h2, torch.ones(4)).to_dense()
    dense = second(torch.relu(first(x) * mask1)) * mask2
    torch.testing.assert_close(two.to_dense(), dense)
    parameters = [*first.parameters(), *second.parameters()]
    want = torch.autograd.grad(dense.square().sum(), parameters)
    got = torch.autograd.grad(two.values.square().sum(), parameters)
    for ours, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(ours, theirs)


def _pairs(active: ActiveSet) -> tuple[Tensor, Tensor]:
    assert active.indptr is not None
    return torch.from_numpy(active.indptr), torch.from_numpy(active.ids)


def test_refuses_a_shared_set_and_a_wrong_length() -> None:
    shared = ActiveSet(5, np.arange(2, dtype=np.int32), np.ones(2, np.float32), 3)
    with pytest.raises(InputError, match="per-row"):
        ActiveValues(shared, torch.zeros(2))
    with pytest.raises(InputError, match=r"shape \(5,\)"):
        ActiveValues(per_row(ROWS, 5), torch.zeros(4))


LABELS = [[2], [0, 3], [1, 2, 4]]


@pytest.mark.parametrize("shift", [0.0, -1000.0, 1000.0])
def test_softmax_with_all_active_is_cross_entropy(shift: float) -> None:
    torch.manual_seed(0)
    dense = (torch.randn(3, 5, dtype=torch.float64) + shift).requires_grad_()
    target = torch.from_numpy(RaggedIds.from_lists(LABELS, 5).to_scipy().toarray()).double()
    want = torch.nn.functional.cross_entropy(dense, target / target.sum(1, keepdim=True))
    active = full(3, 5, LABELS)
    got = rowwise_softmax_loss(sparsified(dense, active), active)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(*(torch.autograd.grad(loss, dense, retain_graph=True)[0] for loss in (got, want)))


def test_sigmoid_with_all_active_is_binary_cross_entropy() -> None:
    torch.manual_seed(0)
    dense = torch.randn(3, 5, requires_grad=True)
    target = torch.from_numpy(RaggedIds.from_lists(LABELS, 5).to_scipy().toarray())
    want = torch.nn.functional.binary_cross_entropy_with_logits(dense, target, reduction="sum") / 3
    active = full(3, 5, LABELS)
    got = rowwise_sigmoid_loss(sparsified(dense, active), active)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(*(torch.autograd.grad(loss, dense, retain_graph=True)[0] for loss in (got, want)))


def test_weights_stand_for_neurons_left_out() -> None:
    """Neurons 1 to 4 share one logit: one of them with weight 4 gives the loss of all five."""
    all_five = per_row([[0, 1, 2, 3, 4]], 5, [[0]])
    drawn = per_row([[0, 2]], 5, [[0]])
    drawn.weights[:] = 1, 4
    for loss in (rowwise_softmax_loss, rowwise_sigmoid_loss):
        want = loss(torch.tensor([-700.0, -701, -701, -701, -701]), all_five)
        torch.testing.assert_close(loss(torch.tensor([-700.0, -701]), drawn), want)


@pytest.mark.parametrize("loss", [rowwise_softmax_loss, rowwise_sigmoid_loss])
def test_gradcheck_with_empty_rows_and_rows_without_labels(loss) -> None:  # type: ignore[no-untyped-def]
    active = per_row([[4, 1, 0], [], [3, 2], [2, 4, 1]], 5, [[1], [], [], [2, 1]])
    active.weights[:] = np.linspace(1, 3, 8)
    values = torch.randn(8, dtype=torch.float64, generator=torch.Generator().manual_seed(5)).requires_grad_()
    assert torch.isfinite(loss(values, active))
    assert torch.autograd.gradcheck(lambda v: loss(v, active), values)


def test_losses_refuse_a_set_without_labels() -> None:
    with pytest.raises(InputError, match="labels"):
        rowwise_softmax_loss(torch.zeros(5), per_row(ROWS, 5))
