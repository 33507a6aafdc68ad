// Matrix rows in 8 bits, and queries that meet them in integer arithmetic.
//
// A row is scale * codes, codes in [-127, 127]; a query is scale * (codes - zero), codes in [0, 255], zero
// standing for 0, so that a row without negative values (behind a relu) uses all 8 bits for its magnitude.
// Their inner product is an integer sum, scaled once: the same bits at every instruction set.
#pragma once

#include <cstdint>

#include "views.hpp"

namespace hashfold {

// Sums of 32,768 products, and what is taken off them for `zero`, stay below 2^31.
inline constexpr int64_t kMostQuantizedColumns = 32'768;

struct QuantizedRows {
    Matrix<const int8_t> codes;
    const float* scales;
    const int32_t* sums;  // of each row's codes
};

struct QuantizedQuery {
    const uint8_t* codes;
    float scale;
    int32_t zero;
};

// scales[i] is the largest |x| of row i over 127, its last 8 bits dropped: scale * code is then exact, and
// quantising what dequantize_rows gives returns the same codes and scales. Values round to the nearest code,
// ties to even.
void quantize_rows(Matrix<const float> x, Matrix<int8_t> codes, float* scales, int32_t* sums);
void dequantize_rows(Matrix<const int8_t> codes, const float* scales, Matrix<float> x);

// Row i spans [least value or 0, largest value or 0] in 255 steps of scales[i].
void quantize_queries(Matrix<const float> x, Matrix<uint8_t> codes, float* scales, int32_t* zeros);

}  // namespace hashfold
