"""A weight whose entries are shared values of codebooks, told apart by packed codes."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from hashfold import checks
from hashfold.kernels.codebook_matrix import (
    check_layout,
    codebook_matmul,
    codebook_rows,
    pack_codes,
    unpack_codes,
)
from hashfold.nn.folded.fitting import check_groups, fit_codebook
from hashfold.nn.folded.weight import FoldedWeight


class CodebookWeight(FoldedWeight):
    """W[o, f] = codebook[group(o, f), codes[o, f // dim], f % dim]: 2^bits shared values or vectors a group.

    dim 1: shared values (Deep Compression: Han et al., ICLR 2016). dim above 1: a code stands for `dim`
    consecutive inputs (product quantization: Stock et al., ICLR 2020). Stored are the codes, `bits` each, and the
    codebooks; products are computed from them.

    Args:
        out_features, in_features: the shape of the virtual matrix.
        codes: uint8 from `kernels.codebook_matrix.pack_codes`: (out_features, bytes a row).
        codebook: (groups, 2^bits, dim), float32 or float64; becomes a parameter unless it is one.
        bits: 1 to 8.
        group_rows, group_cols: a group is so many weights; group_cols a multiple of dim. Default: all.
        zero: code 0 stands for zero, in training too.

    Gradients for the codebook, summed over the weights that share a value. The codes stay.
    """

    kind: ClassVar[str] = "codebook"
    codes: Tensor
    codebook: nn.Parameter

    def __init__(
        self,
        out_features: int,
        in_features: int,
        codes: Tensor,
        codebook: Tensor,
        bits: int,
        *,
        group_rows: int | None = None,
        group_cols: int | None = None,
        zero: bool = False,
    ) -> None:
        super().__init__(out_features, in_features)
        op = "CodebookWeight"
        self.dim = max(1, codebook.shape[-1])
        self.bits, self.zero = bits, bool(zero)
        self.group_rows = self.out_features if group_rows is None else group_rows
        self.group_cols = -(-in_features // self.dim) * self.dim if group_cols is None else group_cols
        check_layout(op, codes, codebook, bits, in_features, self.group_rows, self.group_cols)
        if len(codes) != out_features:
            checks.fail(op, f"codes must be of {out_features} rows", len(codes))
        if zero and bool(codebook[:, 0].any()):
            checks.fail(op, "codebook[:, 0] must be zero, as `zero` says", "other values")
        self.register_buffer("codes", codes)
        self.codebook = codebook if isinstance(codebook, nn.Parameter) else nn.Parameter(codebook)

    @classmethod
    def from_dense(
        cls,
        dense: Tensor,
        bits: int = 4,
        *,
        dim: int = 1,
        group_rows: int | None = None,
        group_cols: int | None = None,
        importance: Tensor | None = None,
        zero: bool = False,
        seed: int = 0,
    ) -> CodebookWeight:
        """The codebooks nearest to `dense` (out, in), and its weights' codes: see `fitting.fit_codebook`."""
        out, inputs, rows, cols = check_groups(
            "CodebookWeight.from_dense", dense, bits, dim, group_rows, group_cols
        )
        codes, codebook = fit_codebook(
            dense, bits, dim=dim, group_rows=rows, group_cols=cols, importance=importance, zero=zero, seed=seed
        )
        if dense.dtype == torch.float64:
            codebook = codebook.double()
        packed = pack_codes(codes, bits)
        return cls(out, inputs, packed, codebook, bits, group_rows=rows, group_cols=cols, zero=zero)

    def unpacked(self) -> Tensor:
        """The codes as uint8 (out_features, ceil(in_features / dim))."""
        return unpack_codes(self.codes, self.bits, -(-self.in_features // self.dim))

    def _values(self) -> Tensor:
        """The codebook; code 0 without a gradient if it stands for zero."""
        if not (self.zero and self.codebook.requires_grad):
            return self.codebook
        return torch.cat([self.codebook[:, :1].detach() * 0, self.codebook[:, 1:]], 1)

    def _layout(self) -> tuple[int, int, int, int]:
        return self.bits, self.in_features, self.group_rows, self.group_cols

    def _matmul(self, x: Tensor) -> Tensor:
        return codebook_matmul(x, self.codes, self._values(), *self._layout())

    def _rows(self, ids: Tensor) -> Tensor:
        return codebook_rows(ids, self.codes, self._values(), *self._layout())

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("bits", "dim", "group_rows", "group_cols", "zero")}

    @classmethod
    def _from_settings(cls, settings: dict[str, Any]) -> CodebookWeight:
        op = "CodebookWeight.from_spec"
        names = {"out_features", "in_features", "bits", "dim", "group_rows", "group_cols", "zero"}
        if set(settings) != names:
            checks.fail(op, f"a codebook weight has {', '.join(sorted(names))}", ", ".join(sorted(settings)))
        zero = settings.pop("zero")
        if not isinstance(zero, bool):
            checks.fail(op, "zero must be true or false", repr(zero))
        sizes = {name: checks.integer(op, name, value, low=1) for name, value in settings.items()}
        checks.integer(op, "bits", sizes["bits"], high=8)
        out, inputs, dim, bits = (sizes[name] for name in ("out_features", "in_features", "dim", "bits"))
        groups = -(-out // sizes["group_rows"]) * -(-inputs // sizes["group_cols"])
        codes = pack_codes(torch.zeros(out, -(-inputs // dim), dtype=torch.uint8), bits)
        layout = {"group_rows": sizes["group_rows"], "group_cols": sizes["group_cols"]}
        return cls(out, inputs, codes, torch.zeros(groups, 2**bits, dim), bits, **layout, zero=zero)
