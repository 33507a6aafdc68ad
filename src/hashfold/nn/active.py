"""What a layer gives that computed neurons of its own for each row: a sparse batch of activations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from hashfold import checks
from hashfold.sparse import ActiveSet, CsrBatch


@dataclass(frozen=True)
class ActiveValues:
    """The values of the active neurons, row by row: output of one hashed layer, input of the next.

    Args:
        active: the per-row active set (its `indptr` is not None). Row i's neurons are
            `active.ids[indptr[i] : indptr[i + 1]]`, distinct, in the order the lookup gave them: best
            first, not ascending. No kernel here needs them sorted.
        values: float tensor (len(active.ids),), `values[j]` belongs to `active.ids[j]`; gradients flow
            through it. Every neuron that is not active is zero by definition.

    Raises InputError where the two do not fit.
    """

    active: ActiveSet
    values: Tensor

    def __post_init__(self) -> None:
        op = "ActiveValues"
        if self.active.indptr is None:
            checks.fail(
                op, "active must be a per-row set", "a set shared by the batch", "use a dense tensor for it"
            )
        if self.values.shape != (len(self.active.ids),):
            checks.fail(op, f"values must have shape ({len(self.active.ids)},)", tuple(self.values.shape))

    @property
    def num_rows(self) -> int:
        return self.active.num_rows

    @property
    def num_items(self) -> int:
        """Neurons of the layer, active or not: the width of the dense form."""
        return self.active.num_items

    @property
    def indptr(self) -> Tensor:
        """int64 (rows + 1,), over the active set's memory."""
        assert self.active.indptr is not None
        return torch.from_numpy(self.active.indptr)

    @property
    def ids(self) -> Tensor:
        """int32 (values,), over the active set's memory."""
        return torch.from_numpy(self.active.ids)

    @property
    def rows(self) -> Tensor:
        """int64 (values,): the row of each value."""
        return torch.repeat_interleave(torch.arange(self.num_rows), self.indptr.diff())

    def csr(self) -> tuple[Tensor, Tensor, Tensor]:
        """indptr, ids, values: the input arguments of `csr_rowwise_linear` and `sparse_linear`."""
        return self.indptr, self.ids, self.values

    def to_csr(self) -> CsrBatch:
        """The values, without gradient, as a batch with ascending columns: a query for the next layer's index."""
        rows, ids, values = self.rows.numpy(), self.active.ids, self.values.detach().numpy()
        order = np.lexsort((ids, rows))
        assert self.active.indptr is not None
        return CsrBatch(self.active.indptr, ids[order], values[order], self.num_items)

    def to_dense(self) -> Tensor:
        """(rows, num_items), zero where a neuron is not active; differentiable. For tests and small layers."""
        dense = self.values.new_zeros(self.num_rows, self.num_items)
        return dense.index_put((self.rows, self.ids.long()), self.values)

    def map(self, function: Callable[[Tensor], Tensor]) -> ActiveValues:
        """`function` on the values. It must keep zero at zero, as the neurons that are not active stay zero."""
        return replace(self, values=function(self.values))

    def relu(self, drop_zeros: bool = False) -> ActiveValues:
        """max(0, value). With `drop_zeros`, neurons that are zero leave the set: the next layer skips them.

        The result is the same either way, and so are the gradients: a neuron at zero passes none back.
        """
        activated = self.map(torch.relu)
        return activated.nonzero() if drop_zeros else activated

    def nonzero(self) -> ActiveValues:
        """The values that are not zero, as a smaller set. Raises InputError where the set carries labels."""
        if self.active.label_indptr is not None:
            expected = "a set that carries labels keeps all its neurons"
            checks.fail("ActiveValues.nonzero", expected, "one with labels", "drop zeros of hidden layers only")
        assert self.active.indptr is not None
        keep = self.values.detach() != 0
        kept = keep.numpy()
        before = np.zeros(len(kept) + 1, np.int64)
        np.cumsum(kept, out=before[1:])
        smaller = replace(
            self.active,
            ids=self.active.ids[kept],
            weights=self.active.weights[kept],
            indptr=before[self.active.indptr],
        )
        return ActiveValues(smaller, self.values[keep])
