"""Virtual matrices: what their weights are, and what is refused. Values and gradients are the contract tests'."""

from __future__ import annotations

import pytest
import torch

from hashfold import functional
from hashfold.errors import InputError
from hashfold.kernels.codebook_matrix import pack_codes, unpack_codes


def test_the_identity_map_is_the_dense_layer() -> None:
    weight, x = torch.randn(7, 30), torch.randn(5, 30)
    rows = functional.hashed_rows(torch.arange(7), weight.flatten(), 30, 7, identity=True)
    assert torch.equal(rows, weight)
    y = functional.hashed_matmul(x, weight.flatten(), 7, identity=True)
    torch.testing.assert_close(y, torch.nn.functional.linear(x, weight))


def test_hashes_as_the_sparse_operator_does() -> None:
    """tile 1 is the matrix of `hashed_linear`: one table, and a block for each output."""
    out, inputs, size = 6, 40, 50
    x, ids = torch.randn(1, inputs), torch.arange(out, dtype=torch.int32)
    csr = torch.tensor([0, inputs]), torch.arange(inputs, dtype=torch.int32), x[0]
    pairs = torch.tensor([0, out]), ids
    for blocks in (1, out):
        buckets = torch.randn(size * blocks)
        offsets = (torch.arange(out) * size) * (blocks > 1)
        sizes = torch.full((out,), size, dtype=torch.int32)
        sparse = functional.hashed_linear(csr, pairs, (offsets, sizes), buckets, None, seed=9, sign=True)
        dense = functional.hashed_matmul(x, buckets, out, seed=9, blocks=blocks)
        torch.testing.assert_close(dense[0], sparse)


def test_tiles_lie_side_by_side_in_their_block() -> None:
    """Buckets that tell their own place: tiles are runs of it, blocks keep to themselves, all of it is used."""
    out, inputs, tile, blocks, size = 12, 256, 8, 3, 101
    buckets = torch.arange(size * blocks + 1, dtype=torch.float64)
    places = functional.hashed_rows(
        torch.arange(out), buckets, inputs, out, tile=tile, blocks=blocks, sign=False
    ).long()
    start = torch.arange(out)[:, None] * blocks // out * size
    runs = (places - start).view(out, -1, tile)
    assert (runs == runs[..., :1] + torch.arange(tile)).all()
    assert (runs[..., 0] % tile == 0).all()
    assert set(runs[..., 0].flatten().tolist()) == {tile * n for n in range(size // tile)}


def test_signs_are_fair_and_differ_within_a_tile() -> None:
    for tile in (4, 16, 32):
        rows = functional.hashed_rows(torch.arange(64), torch.ones(512), 512, 64, tile=tile, seed=3)
        assert set(rows.unique().tolist()) == {-1.0, 1.0}
        error = rows.numel() ** -0.5
        assert abs(float(rows.mean())) < 5 * error
        for apart in (1, 2, 16):
            assert abs(float((rows[:, apart:] * rows[:, :-apart]).mean())) < 5.5 * error
            assert abs(float((rows[apart:] * rows[:-apart]).mean())) < 5.5 * error


@pytest.mark.parametrize("bits", range(1, 9))
def test_codes_are_unpacked_as_they_were_packed(bits: int) -> None:
    for count in (0, 1, 5, 8, 19):
        codes = torch.randint(0, 2**bits, (3, count), generator=torch.Generator().manual_seed(bits))
        packed = pack_codes(codes, bits)
        assert packed.shape == (3, -(-count * bits // 8))
        assert torch.equal(unpack_codes(packed, bits, count).long(), codes)


def test_codes_are_packed_from_the_lowest_bit_on() -> None:
    assert pack_codes(torch.tensor([[1, 2, 7]]), 3).tolist() == [[0b11_010_001, 0b1]]


BUCKETS, X, IDS = torch.randn(64), torch.randn(2, 8), torch.tensor([0, 1])
CODES, CODEBOOK = torch.zeros(3, 4, dtype=torch.uint8), torch.randn(1, 16, 1)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: functional.hashed_matmul(X[0], BUCKETS, 4), r"x must be \(n, in\)"),
        (lambda: functional.hashed_matmul(X.double(), BUCKETS, 4), "of torch.float32; got torch.float64"),
        (lambda: functional.hashed_matmul(X, BUCKETS, 0), "out_features must be an integer"),
        (lambda: functional.hashed_matmul(X, BUCKETS, 4, tile=3), "tile must be one of 1, 4, 8, 16, 32"),
        (lambda: functional.hashed_matmul(X, BUCKETS, 4, blocks=5), r"blocks must be an integer in \[1, 4\]"),
        (lambda: functional.hashed_matmul(X, BUCKETS, 4, tile=32, blocks=4), "buckets must be from 128"),
        (lambda: functional.hashed_matmul(X, BUCKETS, 4, identity=True), "buckets must be 32, one a weight"),
        (lambda: functional.hashed_matmul(X, BUCKETS, 4, seed=-1), "seed must be an integer"),
        (lambda: functional.hashed_matmul(X.half(), BUCKETS.half(), 4), "buckets must be a vector of float32"),
        (lambda: functional.hashed_rows(IDS + 3, BUCKETS, 8, 4), r"ids must lie in \[0, 4\); got 4"),
        (lambda: functional.hashed_rows(IDS.int(), BUCKETS, 8, 4), r"ids must be int64 \(m,\)"),
        (lambda: functional.codebook_matmul(X, CODES, CODEBOOK, 4, 9), r"codes must be uint8 \(out_features, 5\)"),
        (lambda: functional.codebook_matmul(X, CODES, CODEBOOK, 4, 7), r"x must be \(n, 7\)"),
        (lambda: functional.codebook_matmul(X, CODES, CODEBOOK[0], 4, 8), r"codebook must be float32"),
        (lambda: functional.codebook_matmul(X, CODES, CODEBOOK[:, :8], 4, 8), r"codebook must be \(1, 16, d\)"),
        (
            lambda: functional.codebook_matmul(X, CODES, CODEBOOK, 4, 8, group_rows=2),
            r"codebook must be \(2, 16, d\)",
        ),
        (
            lambda: functional.codebook_rows(IDS, CODES, CODEBOOK.expand(1, 16, 2), 8, 8, group_cols=3),
            "group_cols must be a multiple of 2",
        ),
        (lambda: functional.codebook_rows(-IDS, CODES, CODEBOOK, 4, 8), r"ids must lie in \[0, 3\); got -1"),
        (lambda: pack_codes(torch.tensor([[16]]), 4), r"codes must lie in \[0, 16\); got \[16, 16\]"),
        (lambda: pack_codes(torch.tensor([1]), 4), "codes must be integers"),
        (lambda: pack_codes(torch.tensor([[1]]), 9), r"bits must be an integer in \[1, 8\]"),
        (lambda: unpack_codes(CODES, 4, 9), r"packed must be uint8 \(rows, 5\)"),
    ],
)
def test_refuses(call, says) -> None:
    with pytest.raises(InputError, match=says):
        call()
