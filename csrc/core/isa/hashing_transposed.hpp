// Hashes that look at few features of a row: a block of rows is transposed, so that a feature of all of
// them is four vectors, and the sums and maxima run across the rows.
#pragma once

#include "../hashing_table.hpp"
#include "../simd.hpp"
#include "hashing_signs.hpp"

namespace hashfold::HASHFOLD_ISA {
namespace {

constexpr int kVectors = 4;
constexpr int64_t kBlock = kVectors * kWidth<float>;
static_assert(kBlock <= kMaxBlock);

// Rows [first, first + count) as (dim, kBlock), zeros behind the last row. Eight features of all rows at a
// time, so that the lines written stay in the first-level cache.
HF_INLINE void transpose_block(Matrix<const float> x, int64_t first, int64_t count, float* block) {
    const float* from = x.data + first * x.cols;
    int64_t f = 0;
    for (; f + 8 <= x.cols; f += 8)
        for (int64_t r = 0; r < count; ++r)
#pragma GCC unroll 8
            for (int64_t k = 0; k < 8; ++k) block[(f + k) * kBlock + r] = from[r * x.cols + f + k];
    for (; f < x.cols; ++f)
        for (int64_t r = 0; r < count; ++r) block[f * kBlock + r] = from[r * x.cols + f];
    if (count < kBlock)
        for (f = 0; f < x.cols; ++f)
            for (int64_t r = count; r < kBlock; ++r) block[f * kBlock + r] = 0.0f;
}

// Bit r of a[h] becomes bit h of a[r] (Warren, "Hacker's Delight", 7-3, bits counted from the low end).
HF_INLINE void transpose_bits(uint32_t* a) {
    uint32_t mask = 0x0000FFFFu;
    for (int width = 16; width != 0; width >>= 1, mask ^= mask << width)
        for (int k = 0; k < 32; k = (k + width + 1) & ~width) {
            const uint32_t swap = (a[k] >> width ^ a[k + width]) & mask;
            a[k] ^= swap << width;
            a[k + width] ^= swap;
        }
}

HF_INLINE Vec<float> with_sign(Vec<float> v, uint32_t negative) {
    return (Vec<float>)((Vec<uint32_t>)v ^ splat<uint32_t>(negative << 31));
}

HF_INLINE uint64_t list_signs(const float* block, const SignLists& by_hash, int64_t h) {
    Vec<float> sums[kVectors] = {};
    for (int64_t j = by_hash.starts[h]; j < by_hash.starts[h + 1]; ++j) {
        const uint32_t entry = by_hash.entries[j];
        const float* feature = block + (entry >> 1) * kBlock;
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) sums[v] += with_sign(load(feature + v * kWidth<float>), entry & 1);
    }
    uint64_t positive = 0;
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
        positive |= static_cast<uint64_t>(positive_bits(sums[v])) << (v * kWidth<float>);
    return positive;
}

void list_signs_dense(Matrix<const float> x, const SignLists& by_hash, uint32_t* words, float* scratch,
                      int64_t begin, int64_t end) {
    const int64_t stride = sign_words(by_hash.lists);
    for (int64_t i = begin; i < end; i += kBlock, words += kBlock * stride) {
        const int64_t rows = least(kBlock, end - i);
        transpose_block(x, i, rows, scratch);
        for (int64_t first = 0; first < by_hash.lists; first += 32) {
            uint32_t low[32] = {}, high[32] = {};
            const int64_t count = least<int64_t>(32, by_hash.lists - first);
            for (int64_t h = 0; h < count; ++h) {
                const uint64_t positive = list_signs(scratch, by_hash, first + h);
                low[h] = static_cast<uint32_t>(positive);
                high[h] = static_cast<uint32_t>(positive >> 32);
            }
            transpose_bits(low);
            if (kBlock > 32) transpose_bits(high);
            for (int64_t r = 0; r < rows; ++r) words[r * stride + first / 32] = r < 32 ? low[r] : high[r - 32];
        }
    }
}

void wta_dense(Matrix<const float> x, const WtaBins& bins, int32_t* codes, float* scratch, int64_t begin,
               int64_t end) {
    const int64_t hashes = bins.features.rows, size = bins.features.cols;
    for (int64_t i = begin; i < end; i += kBlock, codes += kBlock * hashes) {
        const int64_t rows = least(kBlock, end - i);
        transpose_block(x, i, rows, scratch);
        for (int64_t h = 0; h < hashes; ++h) {
            Vec<float> best[kVectors];
            Vec<int32_t> place[kVectors];
            for (int v = 0; v < kVectors; ++v) best[v] = splat(-__builtin_inff()), place[v] = splat<int32_t>(-1);
            for (int64_t j = 0; j < size; ++j) {
                const float* feature = scratch + bins.features.data[h * size + j] * kBlock;
                const Vec<int32_t> here = splat(bins.places.data[h * size + j]);
#pragma GCC unroll 4
                for (int v = 0; v < kVectors; ++v) {
                    const Vec<float> value = load(feature + v * kWidth<float>);
                    const Vec<int32_t> better = (value > best[v]) & (value != 0.0f);
                    best[v] = better ? value : best[v];
                    place[v] = better ? here : place[v];
                }
            }
            int32_t column[kBlock];
            for (int v = 0; v < kVectors; ++v) store(column + v * kWidth<float>, place[v]);
            for (int64_t r = 0; r < rows; ++r) codes[r * hashes + h] = column[r];
        }
    }
}

}  // namespace
}  // namespace hashfold::HASHFOLD_ISA
