// Rows in 8 bits as they cross from Python.
#pragma once

#include "arrays.hpp"
#include "core/quantized.hpp"

namespace hashfold {

inline QuantizedRows quantized_rows(const Array2<const int8_t>& codes, const Array1<const float>& scales,
                                    const Array1<const int32_t>& sums) {
    const Matrix<const int8_t> rows = matrix(codes);
    require(length(scales) == rows.rows && length(sums) == rows.rows, "a scale and a sum for each row of codes");
    require(rows.cols <= kMostQuantizedColumns, "columns of codes");
    return {rows, scales.data(), sums.data()};
}

}  // namespace hashfold
