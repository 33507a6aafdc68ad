"""Streams, masks and tensors come back as they went in, in about as many bytes as their entropy says."""

import base64
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hashfold.compress.coding import CodeLayout, decode, encode
from hashfold.compress.entropy import (
    DamagedStreamError,
    StreamReader,
    StreamWriter,
    best_plan,
    frequencies,
    log_table,
    table_bits,
)
from hashfold.compress.masks import ONE, MaskPlan, bits_needed, likely_lags
from hashfold.kernels.codebook_matrix import pack_codes


def entropy_bytes(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum() * counts.sum() / 8)


def written(writer: StreamWriter) -> tuple[bytes, bytes, bytes]:
    return bytes(writer.tables), bytes(writer.raw), writer.words()


def there_and_back(array: np.ndarray, layout: CodeLayout | None = None) -> tuple[object, int]:
    """How it was coded, and in how many bytes."""
    writer = StreamWriter()
    coding = encode(writer, array, layout)
    parts = written(writer)
    reader = StreamReader(*parts)
    back = decode(reader, array.dtype, array.shape, coding)
    reader.finish()
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()
    return coding, len(zlib.compress(parts[0], 9, -15)) + len(parts[1]) + len(parts[2])


def pruned_images(rng: np.random.Generator, rows: int = 60, side: int = 20) -> np.ndarray:
    """A mask (rows, side * side): each row sees a disc of the image."""
    y, x = np.divmod(np.arange(side * side), side)
    centre = rng.uniform(4, side - 4, (2, rows, 1))
    near = np.hypot(y - centre[0], x - centre[1]) < 3
    return (near & (rng.random(near.shape) < 0.7)).astype(np.uint8)


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=256).filter(any))
def test_frequencies_are_whole_and_near(counts):
    counts = np.array(counts, np.int64)
    table = frequencies(log_table(counts))
    assert table.sum() == 1 << 20
    assert ((table > 0) == (counts > 0)).all()
    assert (table >= 0).all()


def test_a_table_costs_what_the_entropy_says():
    rng = np.random.default_rng(0)
    symbols = rng.choice(16, 100_000, p=np.arange(1, 17) / 136)
    writer = StreamWriter()
    writer.symbols(symbols, 16)
    counts = np.bincount(symbols, minlength=16)
    coded = len(writer.words())
    assert entropy_bytes(counts) <= coded < entropy_bytes(counts) * 1.0005 + 8
    assert abs(table_bits(counts) / 8 - coded - 16) < 16


def test_streams_come_back_in_order():
    rng = np.random.default_rng(1)
    writer, mask = StreamWriter(), (rng.random((30, 50)) < 0.1).astype(np.uint8)
    plan = MaskPlan(ONE // 10, lag=7)
    writer.symbols(rng.integers(0, 3, 0), 3)
    writer.mask(mask, plan)
    writer.bytes_raw(np.arange(9, dtype=np.uint8))
    writer.symbols(np.full(1000, 7), 8)
    reader = StreamReader(*written(writer))
    assert reader.symbols(0, 3).size == 0
    assert (reader.mask((30, 50), plan) == mask).all()
    assert (reader.bytes_raw(9) == np.arange(9)).all()
    assert (reader.symbols(1000, 8) == 7).all()
    reader.finish()


def test_what_is_not_there_is_missed():
    reader = StreamReader(b"\x10" * 4, b"ab", b"")
    with pytest.raises(DamagedStreamError, match="3 bytes are wanted, 2 are left"):
        reader.bytes_raw(3)
    with pytest.raises(DamagedStreamError, match="table of 16"):
        reader.symbols(1, 16)
    with pytest.raises(DamagedStreamError, match="more is there"):
        reader.finish()
    with pytest.raises(DamagedStreamError, match="empty"):
        StreamReader(bytes(4), b"", b"").symbols(1, 4)
    for words in (b"abc", bytes(4)):
        with pytest.raises(DamagedStreamError, match="word"):
            StreamReader(b"", b"", words)


def test_masks_of_images_find_their_rows_of_pixels():
    mask = pruned_images(np.random.default_rng(2))
    assert 20 in likely_lags(mask, most=4)
    bits, transposed, plan = best_plan(mask)
    assert not transposed
    assert bits / 8 < 0.6 * entropy_bytes(np.bincount(mask.ravel()))
    writer = StreamWriter()
    writer.mask(mask, plan)
    assert abs(len(writer.words()) - bits / 8) < 8


def test_even_masks_cost_little_more_than_their_entropy():
    mask = (np.random.default_rng(3).random((200, 300)) < 0.05).astype(np.uint8)
    plan = MaskPlan(ONE // 20, by_row=False, by_col=False)
    assert bits_needed(mask, plan) / 8 < 1.01 * entropy_bytes(np.bincount(mask.ravel()))


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("zeros", [0.0, 0.6, 0.95, 1.0])
def test_codes(bits, zeros):
    rng = np.random.default_rng(bits)
    codes = rng.integers(0, 1 << bits, (40, 101)) * (rng.random((40, 101)) >= zeros)
    packed = pack_codes(torch.from_numpy(codes), bits).numpy()
    _, coded = there_and_back(packed, CodeLayout(bits, 101))
    assert coded < entropy_bytes(np.bincount(codes.ravel())) * 1.02 + 60 + min(1 << bits, packed.size)
    assert coded <= packed.size + 8


def test_pruned_codes_are_a_mask_and_the_others():
    rng = np.random.default_rng(0)
    codes = rng.integers(1, 8, (60, 400)) * pruned_images(rng)
    packed = pack_codes(torch.from_numpy(codes), 3).numpy()
    coding, coded = there_and_back(packed, CodeLayout(3, 400))
    assert coding[:4] == ["m", 3, 400, 0]
    assert coded < 0.9 * entropy_bytes(np.bincount(codes.ravel()))


def test_codes_with_bits_in_their_padding_are_kept():
    packed = np.full((5, 2), 255, np.uint8)  # 3 codes of 5 bits leave one bit
    coding, _ = there_and_back(packed, CodeLayout(5, 3))
    assert isinstance(coding, str)


@pytest.mark.parametrize(
    "array",
    [
        np.random.default_rng(0).normal(size=1000).astype(np.float32).view("<u4"),
        np.random.default_rng(0).normal(size=(30, 40)).astype(np.float16).view("<u2"),
        np.where(np.random.default_rng(0).random((30, 40)) < 0.9, 0, 1.5).astype(np.float32).view("<u4"),
        np.arange(5, dtype="<u8"),
        np.zeros((3, 0), "<u4"),
        np.zeros((0, 3), "<u1"),
        np.zeros((7, 7), "<u4"),
        np.array(3, "<u8"),
        np.random.default_rng(0).integers(0, 2, (9, 9)).astype("<u1"),
    ],
    ids=lambda a: f"{a.dtype}-{a.shape}",
)
def test_values(array):
    _, coded = there_and_back(array)
    assert coded <= array.nbytes + 8


def test_floats_shrink_by_their_exponents_and_zeros_almost_vanish():
    rng = np.random.default_rng(4)
    values = rng.normal(size=(100, 100)).astype(np.float32)
    assert there_and_back(values.view("<u4"))[1] < 0.88 * values.nbytes
    values[rng.random(values.shape) < 0.9] = 0
    assert there_and_back(values.view("<u4"))[1] < 0.16 * values.nbytes


@settings(max_examples=60)
@given(st.data())
def test_any_codes(data):
    bits = data.draw(st.integers(1, 8))
    rows, count = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 40))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    few = data.draw(st.sampled_from([0.02, 0.3, 1.0]))
    codes = rng.integers(0, 1 << bits, (rows, count)) * (rng.random((rows, count)) < few)
    there_and_back(pack_codes(torch.from_numpy(codes), bits).numpy(), CodeLayout(bits, count))


def test_an_old_stream_decodes_to_the_same_symbols():
    """Written once: whatever the platform and the library's version, these bytes mean these symbols."""
    reader = StreamReader(*(base64.b64decode(part) for part in GOLDEN))
    assert (reader.symbols(60, 5) == np.arange(60) ** 2 % 5).all()
    mask = (np.add.outer(np.arange(12), np.arange(20)) % 7 == 0).astype(np.uint8)
    assert (reader.mask((12, 20), MaskPlan(ONE // 7, 6)) == mask).all()
    reader.finish()


GOLDEN = ("zNwAANw=", "", "E5lZ++ozpPTP8Ag221XxgXUN2l/e7YSj16sTaQIAAAA=")
