#include "quantized.hpp"

#include "parallel.hpp"
#include "quantized_table.hpp"

namespace hashfold {

void quantize_rows(Matrix<const float> x, Matrix<int8_t> codes, float* scales, int32_t* sums) {
    parallel_chunks(x.rows, 64, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i)
            quantized_table().quantize_row(x.row(i), x.cols, codes.row(i), scales + i, sums + i);
    });
}

void dequantize_rows(Matrix<const int8_t> codes, const float* scales, Matrix<float> x) {
    parallel_chunks(x.rows, 64, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i)
            quantized_table().dequantize_row(codes.row(i), scales[i], x.cols, x.row(i));
    });
}

void quantize_queries(Matrix<const float> x, Matrix<uint8_t> codes, float* scales, int32_t* zeros) {
    parallel_chunks(x.rows, 16, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i)
            quantized_table().quantize_query(x.row(i), x.cols, codes.row(i), scales + i, zeros + i);
    });
}

}  // namespace hashfold
