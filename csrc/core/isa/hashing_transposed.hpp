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

// Rows [first, first + count) as (dim, kBlock), zeros behind the last row.
HF_INLINE void transpose_block(Matrix<const float> x, int64_t first, int64_t count, float* block) {
    for (int64_t f = 0; f < x.cols; ++f)
        for (int64_t r = 0; r < kBlock; ++r)
            block[f * kBlock + r] = r < count ? x.data[(first + r) * x.cols + f] : 0.0f;
}

HF_INLINE Vec<float> with_sign(Vec<float> v, uint32_t negative) {
    return (Vec<float>)((Vec<uint32_t>)v ^ splat<uint32_t>(negative << 31));
}

void list_signs_dense(Matrix<const float> x, const SignLists& by_hash, uint32_t* words, float* scratch,
                      int64_t begin, int64_t end) {
    const int64_t stride = sign_words(by_hash.lists);
    for (int64_t i = begin; i < end; i += kBlock, words += kBlock * stride) {
        const int64_t rows = least(kBlock, end - i);
        transpose_block(x, i, rows, scratch);
        for (int64_t h = 0; h < by_hash.lists; ++h) {
            Vec<float> sums[kVectors] = {};
            for (int64_t j = by_hash.starts[h]; j < by_hash.starts[h + 1]; ++j) {
                const uint32_t entry = by_hash.entries[j];
                const float* feature = scratch + (entry >> 1) * kBlock;
#pragma GCC unroll 4
                for (int v = 0; v < kVectors; ++v)
                    sums[v] += with_sign(load(feature + v * kWidth<float>), entry & 1);
            }
            uint64_t positive = 0;
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v)
                positive |= static_cast<uint64_t>(positive_bits(sums[v])) << (v * kWidth<float>);
            for (int64_t r = 0; r < rows; ++r)
                words[r * stride + h / 32] |= static_cast<uint32_t>(positive >> r & 1) << (h % 32);
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
