// Signed random projections: sums over features, vectorised across the hashes.
#pragma once

#include "../hashing_table.hpp"
#include "../simd.hpp"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace hashfold::HASHFOLD_ISA {
namespace {

// Bit i is set where v[i] > 0.
HF_INLINE uint32_t positive_bits(Vec<float> v) {
#if defined(__x86_64__) && HASHFOLD_VECTOR_BYTES == 64
    return _mm512_cmp_ps_mask((__m512)v, _mm512_setzero_ps(), _CMP_GT_OQ);
#elif defined(__x86_64__) && HASHFOLD_VECTOR_BYTES == 32
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps((__m256)v, _mm256_setzero_ps(), _CMP_GT_OQ)));
#elif defined(__x86_64__)
    return static_cast<uint32_t>(_mm_movemask_ps(_mm_cmpgt_ps((__m128)v, _mm_setzero_ps())));
#else
    uint32_t bits = 0;
    for (int i = 0; i < kWidth<float>; ++i) bits |= static_cast<uint32_t>(v[i] > 0.0f) << i;
    return bits;
#endif
}

HF_INLINE void set_positive(const float* sums, int64_t count, uint32_t* words) {
    constexpr int width = kWidth<float>;
    int64_t h = 0;
    for (; h + width <= count; h += width) words[h / 32] |= positive_bits(load(sums + h)) << (h % 32);
    for (; h < count; ++h) words[h / 32] |= static_cast<uint32_t>(sums[h] > 0.0f) << (h % 32);
}

// A tile of rows against a panel of two vectors of hashes: 8 (4) rows fill the registers of a 512-bit
// (narrower) machine with sums.
constexpr int kTileRows = HASHFOLD_VECTOR_BYTES == 64 ? 8 : 4;
constexpr int64_t kPanel = 2 * kWidth<float>;

HF_INLINE void sign_tile(const float* x, int64_t dim, const float* panel, uint32_t* signs) {
    Vec<float> low[kTileRows] = {}, high[kTileRows] = {};
    for (int64_t f = 0; f < dim; ++f) {
        const Vec<float> p0 = load(panel + f * kPanel), p1 = load(panel + f * kPanel + kWidth<float>);
#pragma GCC unroll 8
        for (int r = 0; r < kTileRows; ++r) {
            low[r] += p0 * x[r * dim + f];
            high[r] += p1 * x[r * dim + f];
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kTileRows; ++r) signs[r] = positive_bits(low[r]) | positive_bits(high[r]) << kWidth<float>;
}

// Columns [first, first + kPanel) of the projection, zeros behind its last.
HF_INLINE void pack_panel(Matrix<const float> projection, int64_t first, float* panel) {
    const int64_t count = least(kPanel, projection.cols - first);
    for (int64_t f = 0; f < projection.rows; ++f) {
        const float* from = projection.data + f * projection.cols + first;
        for (int64_t k = 0; k < kPanel; ++k) panel[f * kPanel + k] = k < count ? from[k] : 0.0f;
    }
}

HF_INLINE void signs_of_row(const float* x, Matrix<const float> projection, uint32_t* words, float* sums) {
    for (int64_t h = 0; h < projection.cols; ++h) sums[h] = 0.0f;
    for (int64_t f = 0; f < projection.rows; ++f)
        axpy(x[f], projection.data + f * projection.cols, sums, projection.cols);
    set_positive(sums, projection.cols, words);
}

void signs_dense(Matrix<const float> x, Matrix<const float> projection, uint32_t* words, float* scratch,
                 int64_t begin, int64_t end) {
    const int64_t dim = x.cols, hashes = projection.cols, stride = sign_words(hashes);
    const int64_t tiled = (end - begin) / kTileRows * kTileRows;
    for (int64_t first = 0; tiled > 0 && first < hashes; first += kPanel) {
        pack_panel(projection, first, scratch);
        for (int64_t i = 0; i < tiled; i += kTileRows) {
            uint32_t signs[kTileRows];
            sign_tile(x.data + (begin + i) * dim, dim, scratch, signs);
            for (int r = 0; r < kTileRows; ++r) words[(i + r) * stride + first / 32] |= signs[r] << (first % 32);
        }
    }
    for (int64_t i = tiled; i < end - begin; ++i)
        signs_of_row(x.data + (begin + i) * dim, projection, words + i * stride, scratch);
}

void signs_sparse(const Csr<float>& x, Matrix<const float> projection, uint32_t* words, float* scratch,
                  int64_t begin, int64_t end) {
    constexpr int64_t ahead = 4;
    const int64_t hashes = projection.cols;
    for (int64_t i = begin; i < end; ++i) {
        for (int64_t h = 0; h < hashes; ++h) scratch[h] = 0.0f;
        const int64_t last = x.indptr[i + 1];
        for (int64_t j = x.indptr[i]; j < last; ++j) {
            if (j + ahead < last) prefetch_bytes(projection.data + x.indices[j + ahead] * hashes, hashes * 4);
            axpy(x.values[j], projection.data + x.indices[j] * hashes, scratch, hashes);
        }
        set_positive(scratch, hashes, words + (i - begin) * sign_words(hashes));
    }
}

}  // namespace
}  // namespace hashfold::HASHFOLD_ISA
