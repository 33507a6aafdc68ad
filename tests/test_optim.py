"""Row-wise optimizers against torch's own, and the fused path against the plain one."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hashfold.errors import InputError
from hashfold.kernels import native
from hashfold.nn import LSHLinear, SampledSigmoidLoss, SampledSoftmaxLoss, SparseLinear
from hashfold.optim import OPTIMIZERS, RowAdagrad, RowAdam, RowOptimizer, RowSGD
from hashfold.sparse import CsrBatch, RaggedIds

COMPACT: dict[str, Any] = {"row_state": True, "first_moment": "bf16"}
PAIRS = {
    "adam": (lambda p: RowAdam(p, lr=0.02), lambda p: torch.optim.Adam(p, lr=0.02)),
    "adamw": (
        lambda p: RowAdam(p, lr=0.02, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.1),
    ),
    "adagrad": (lambda p: RowAdagrad(p, lr=0.02), lambda p: torch.optim.Adagrad(p, lr=0.02)),
    "sgd": (lambda p: RowSGD(p, lr=0.02), lambda p: torch.optim.SGD(p, lr=0.02)),
    "momentum": (
        lambda p: RowSGD(p, lr=0.02, momentum=0.9),
        lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9),
    ),
}
MAKERS = {
    **{name: ours for name, (ours, _) in PAIRS.items()},
    "adam by row": lambda p: RowAdam(p, lr=0.02, weight_decay=0.1, row_state=True),
    "adam by row, bf16": lambda p: RowAdam(p, lr=0.02, weight_decay=0.1, **COMPACT),
    "adagrad by row": lambda p: RowAdagrad(p, lr=0.02, row_state=True),
}
rules = pytest.mark.parametrize("rule", sorted(PAIRS))
all_rules = pytest.mark.parametrize("rule", sorted(MAKERS))


@rules
@pytest.mark.parametrize("shape", [(7, 19), (13,)])
def test_equals_torch_where_every_row_has_a_gradient(rule: str, shape: tuple[int, ...]) -> None:
    ours, theirs = nn.Parameter(torch.randn(shape)), nn.Parameter(torch.empty(shape))
    theirs.data.copy_(ours.data)
    mine, yours = PAIRS[rule][0]([ours]), PAIRS[rule][1]([theirs])
    for _ in range(5):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        mine.step()
        yours.step()
    torch.testing.assert_close(ours, theirs)


@all_rules
def test_rows_without_gradient_keep_their_bits_and_state(rule: str) -> None:
    parameter = nn.Parameter(torch.randn(6, 5))
    optimizer: RowOptimizer = MAKERS[rule]([parameter])
    before = parameter.detach().clone()
    for _ in range(3):
        parameter.grad = torch.sparse_coo_tensor(
            torch.tensor([[4, 1, 4]]), torch.randn(3, 5), (6, 5), check_invariants=True
        )
        optimizer.step()
    still = [0, 2, 3, 5]
    assert torch.equal(parameter[still], before[still])
    assert (parameter[[1, 4]] != before[[1, 4]]).all()
    for state in optimizer.state[parameter].values():
        assert not state[still].any()
        assert state[[1, 4]].any(dim=1).all()


def test_sparse_gradient_moves_rows_as_a_dense_one() -> None:
    ours, theirs = nn.Parameter(torch.ones(6, 5)), nn.Parameter(torch.ones(6, 5))
    grad = torch.sparse_coo_tensor(torch.tensor([[4, 1, 4]]), torch.randn(3, 5), (6, 5), check_invariants=True)
    mine, yours = RowSGD([ours], lr=0.1), torch.optim.SGD([theirs], lr=0.1)
    ours.grad, theirs.grad = grad, grad.to_dense()
    mine.step()
    yours.step()
    torch.testing.assert_close(ours, theirs)


def moved_by_row(rule: str, weight: torch.Tensor, grads: torch.Tensor) -> torch.Tensor:
    """The rules with one number a row, written out."""
    weight, total, first = weight.clone(), torch.zeros(len(weight), 1), torch.zeros_like(weight)
    for t, grad in enumerate(grads, 1):
        square = (grad**2).mean(1, keepdim=True)
        if rule == "adagrad by row":
            total += square
            weight -= 0.02 * grad / (total.sqrt() + 1e-10)
        else:
            total, first = 0.999 * total + 0.001 * square, 0.9 * first + 0.1 * grad
            weight *= 1 - 0.02 * 0.1
            weight -= 0.02 * first / (1 - 0.9**t) / ((total / (1 - 0.999**t)).sqrt() + 1e-8)
            if rule == "adam by row, bf16":
                first = first.bfloat16().float()
    return weight


@pytest.mark.parametrize("level", native.isa_levels())
@pytest.mark.parametrize(
    ("rule", "weights_bytes"), [("adagrad by row", 0), ("adam by row", 4), ("adam by row, bf16", 2)]
)
@pytest.mark.parametrize("columns", [1, 5, 16, 37, 64])
def test_one_number_a_row(level: str, rule: str, weights_bytes: int, columns: int) -> None:
    parameter, grads = nn.Parameter(torch.randn(6, columns)), torch.randn(4, 6, columns)
    expected = moved_by_row(rule, parameter.detach(), grads)
    optimizer: RowOptimizer = MAKERS[rule]([parameter])
    with native.isa_forced(level):
        for grad in grads:
            parameter.grad = grad.clone()
            optimizer.step()
    ours, near = parameter.detach(), {"rtol": 1.3e-6, "atol": 1e-5}
    if rule == "adam by row, bf16":  # a moment within a float32 rounding of a tie may go either way
        away = ~torch.isclose(ours, expected, **near)
        assert away.sum() <= 1 + ours.numel() // 50
        ours = torch.where(away & ((ours - expected).abs() < 0.02 * 3 * 2.0**-8), expected, ours)
    torch.testing.assert_close(ours, expected, **near)
    sizes = [state.nbytes for state in optimizer.states(parameter) if state is not None]
    assert sizes == ([6 * columns * weights_bytes] if weights_bytes else []) + [6 * 4]


def test_first_moments_of_16_bits_are_the_nearest() -> None:
    """One step from zero: the moment is a tenth of the gradient, rounded as torch rounds; ties and tails too."""
    ties = torch.tensor([1.0, 1.00390625, 1.01171875, -1.00390625, 3.0e-39, 1e38, 0.0])
    grads = torch.cat([ties, torch.randn(30)]).repeat(2, 1)
    for level in native.isa_levels():
        parameter = nn.Parameter(torch.zeros(2, grads.shape[1]))
        betas = (0.0, 0.999)  # (1 - 0) g: the moment is the gradient itself
        optimizer = RowAdam([parameter], betas=betas, row_state=True, first_moment="bf16")
        parameter.grad = grads.clone()
        with native.isa_forced(level):
            optimizer.step()
        moment = optimizer.state[parameter]["exp_avg"]
        assert moment.dtype == torch.bfloat16
        torch.testing.assert_close(moment, grads.bfloat16(), rtol=0, atol=1e-38)  # denormals may become zero


@pytest.mark.parametrize("first_moment", ["fp32", "bf16"])
def test_one_number_a_row_leaves_vectors_as_they_are(first_moment: str) -> None:
    ours, theirs = nn.Parameter(torch.ones(5)), nn.Parameter(torch.ones(5))
    mine = RowAdam([ours], lr=0.1, row_state=True, first_moment=first_moment)
    yours = RowAdam([theirs], lr=0.1)
    ours.grad = torch.randn(5)
    theirs.grad = ours.grad.clone()
    mine.step()
    yours.step()
    assert torch.equal(ours, theirs)


def test_row_norm_holds_the_rows_that_move() -> None:
    parameter = nn.Parameter(torch.randn(6, 5))
    optimizer = RowAdam([parameter], lr=0.1, row_norm=3.0)
    parameter.grad = torch.randn(6, 5)
    optimizer.step()
    torch.testing.assert_close(parameter.norm(dim=1), torch.full((6,), 3.0))


@pytest.mark.parametrize("kind", [{}, {"row_state": True}, COMPACT], ids=["full", "rows", "bf16"])
def test_state_dict_resumes_exactly(kind: dict[str, Any]) -> None:
    first, second = nn.Parameter(torch.ones(4, 3)), nn.Parameter(torch.ones(4, 3))
    grads = torch.randn(6, 4, 3)
    straight, halved = (RowAdam([p], lr=0.1, **kind) for p in (first, second))
    for step, grad in enumerate(grads):
        first.grad, second.grad = grad, grad.clone()
        straight.step()
        halved.step()
        if step == 2:
            state = copy.deepcopy(halved.state_dict())
            halved = RowAdam([second], lr=0.5, **kind)
            halved.load_state_dict(state)
    assert torch.equal(first, second)
    types = {name: value.dtype for name, value in straight.state[first].items()}
    assert types == {name: value.dtype for name, value in halved.state[second].items()}


def test_state_of_another_kind_is_refused_and_old_ones_are_full() -> None:
    kinds = ({}, {"row_state": True}, COMPACT)
    full, rows, compact = (RowAdam([nn.Parameter(torch.ones(4, 3))], **kind) for kind in kinds)
    for optimizer, other, message in (
        (full, compact, "row_state must be True as saved; got False"),
        (compact, full, "row_state must be False as saved; got True"),
        (rows, compact, "first_moment must be 'bf16' as saved"),
    ):
        before = copy.deepcopy(optimizer.state_dict())
        with pytest.raises(InputError, match=message):
            optimizer.load_state_dict(other.state_dict())
        assert optimizer.state_dict() == before
    old = full.state_dict()
    for name in ("row_state", "first_moment"):
        del old["param_groups"][0][name]
    full.load_state_dict(old)


def test_follows_a_torch_scheduler() -> None:
    parameter = nn.Parameter(torch.zeros(2, 2))
    optimizer = RowSGD([parameter], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.1)
    for expected in (-1.0, -1.1, -1.11):
        parameter.grad = torch.ones(2, 2)
        optimizer.step()
        scheduler.step()
        torch.testing.assert_close(parameter.detach(), torch.full((2, 2), expected))


def two_layers(rule: str, fused: bool) -> tuple[SparseLinear, LSHLinear, RowOptimizer]:
    generator = torch.Generator().manual_seed(3)
    first = SparseLinear(20, 24, generator=generator)
    second = LSHLinear(24, 40, index="exact", generator=generator)
    optimizer: RowOptimizer = MAKERS[rule]([*first.parameters(), *second.parameters()])
    if fused:
        optimizer.fuse(first, second)
    return first, second, optimizer


@all_rules
@pytest.mark.parametrize("per_row", [False, True])
def test_fused_step_equals_plain_step(rule: str, per_row: bool) -> None:
    """Over rows and neurons that are all touched at every step, laziness changes nothing."""
    random = np.random.default_rng(0)
    x = CsrBatch.from_scipy(random.standard_normal((9, 20)).astype(np.float32))
    y = RaggedIds.from_lists([[i, i + 20] for i in range(9)], 40)
    loss, trained = SampledSoftmaxLoss(), []
    for fused in (False, True):
        first, second, optimizer = two_layers(rule, fused)
        for _ in range(4):
            h = torch.relu(first(x))
            active = second.lookup(h, 40, y) if per_row else second.all_active(y, len(x))
            optimizer.zero_grad()
            loss(second(h, active), active).backward()
            assert (first.weight.grad is None) == (second.weight.grad is None) == fused
            optimizer.step()
        trained.append([p.detach().clone() for layer in (first, second) for p in layer.parameters()])
    for plain, moved in zip(*trained, strict=True):
        atol = 2e-5 if "bf16" not in rule else 0.02 * 3 * 2.0**-8  # a moment may fall to the other side of a tie
        torch.testing.assert_close(moved, plain, rtol=1e-4, atol=atol)


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", sorted(OPTIMIZERS))
def test_a_layers_loss_step_equals_its_fused_backward(loss: str, precision: str, kind: str) -> None:
    random = np.random.default_rng(0)
    x = torch.from_numpy(random.standard_normal((9, 24)).astype(np.float32))
    y = RaggedIds.from_lists([[i, i + 20] for i in range(9)], 40)
    one_pass, trained = {"softmax": SampledSoftmaxLoss(), "sigmoid": SampledSigmoidLoss()}[loss], []
    for fused in (False, True):
        layer = LSHLinear(24, 40, index="exact", precision=precision, generator=torch.Generator().manual_seed(3))
        optimizer = OPTIMIZERS[kind](layer.parameters(), lr=0.01)
        optimizer.fuse(layer)
        active, h = layer.lookup_shared(x, y, hard_negatives=0, uniform=15, seed=1), x.clone().requires_grad_()
        if fused:
            mean, grad = layer.loss_step(h, active, loss)
        else:
            mean = one_pass(layer(h, active), active)
            mean.backward()
            mean, grad = mean.item(), h.grad
        trained.append((torch.tensor(mean), grad, layer.weight.detach(), layer.bias.detach()))
    for plain, moved in zip(*trained, strict=True):
        torch.testing.assert_close(moved, plain, rtol=1e-3, atol=1e-4)


def test_a_loss_step_needs_an_optimizer_and_a_shared_set_with_labels() -> None:
    layer, x, y = LSHLinear(4, 6, index="exact"), torch.zeros(1, 4), RaggedIds.from_lists([[2]], 6)
    with pytest.raises(InputError, match="must be fused"):
        layer.loss_step(x, layer.all_active(y, 1), "softmax")
    RowSGD(layer.parameters()).fuse(layer)
    with pytest.raises(InputError, match="shared"):
        layer.loss_step(x, layer.lookup(x, 3, y), "softmax")
    with pytest.raises(InputError, match="true labels"):
        layer.loss_step(x, layer.all_active(None, 1), "softmax")
    with pytest.raises(InputError, match="loss must be one of"):
        layer.loss_step(x, layer.all_active(y, 1), "hinge")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: RowAdam(p, lr=-1), "lr must be"),
        (lambda p: RowAdam(p, betas=(1.0, 0.9)), "betas"),
        (lambda p: RowAdam(p, first_moment="fp16", row_state=True), "first_moment must be one of"),
        (lambda p: RowAdam(p, first_moment="bf16"), "needs row_state=True"),
        (lambda p: RowSGD(p, momentum=1.5), "momentum"),
        (lambda p: RowAdagrad(p, eps=float("nan")), "eps"),
        (lambda _: RowAdam([nn.Parameter(torch.zeros(2, 2, dtype=torch.float64))]), "float32"),
    ],
)
def test_bad_settings_are_refused(make: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make([nn.Parameter(torch.zeros(2, 2))])  # type: ignore[operator]


def test_fusing_a_foreign_layer_is_refused() -> None:
    with pytest.raises(InputError, match="must own"):
        RowAdam([nn.Parameter(torch.zeros(2, 2))]).fuse(SparseLinear(3, 2))
