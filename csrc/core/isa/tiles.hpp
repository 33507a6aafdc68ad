// Register tiles: C (rows x columns) += A (rows x depth) B (depth x columns).
//
// A is read element by element with any strides, B two vectors at a time through a function that
// gives the start of its row k. One tile keeps kTileRows x 2 vectors of sums in registers; the
// narrower instruction sets have half as many registers.
#pragma once

#include "../simd.hpp"

namespace hashfold::HASHFOLD_ISA {

inline constexpr int kTileRows = HASHFOLD_VECTOR_BYTES == 64 ? 12 : 6;
template <class T>
inline constexpr int kTileCols = 2 * kWidth<T>;

// An operand with element (i, k) at data[i * row_stride + k * depth_stride].
template <class T>
struct Strided {
    const T* data;
    int64_t row_stride;
    int64_t depth_stride;
};

template <int R, class T, class RowOfB>
HF_INLINE void register_tile(Strided<T> a, const RowOfB& b, int64_t depth, T* c, int64_t c_stride, int64_t cols,
                             bool accumulate) {
    constexpr int W = kWidth<T>;
    Vec<T> sums[R][2] = {};
    for (int64_t k = 0; k < depth; ++k) {
        const T* row = b(k);
        const Vec<T> b0 = load(row), b1 = load(row + W);
        const T* column = a.data + k * a.depth_stride;
#pragma GCC unroll 12
        for (int r = 0; r < R; ++r) {
            const T scale = column[r * a.row_stride];
            sums[r][0] += b0 * scale;
            sums[r][1] += b1 * scale;
        }
    }
    for (int r = 0; r < R; ++r) {
        T* out = c + r * c_stride;
        if (cols == 2 * W) {
            store(out, accumulate ? load(out) + sums[r][0] : sums[r][0]);
            store(out + W, accumulate ? load(out + W) + sums[r][1] : sums[r][1]);
            continue;
        }
        T edge[2 * W];
        store(edge, sums[r][0]);
        store(edge + W, sums[r][1]);
        for (int64_t j = 0; j < cols; ++j) out[j] = accumulate ? out[j] + edge[j] : edge[j];
    }
}

template <int R, class T, class RowOfB>
HF_INLINE void last_tile(int64_t rows, Strided<T> a, const RowOfB& b, int64_t depth, T* c, int64_t c_stride,
                         int64_t cols, bool accumulate) {
    if constexpr (R > 0) {
        if (rows == R)
            register_tile<R>(a, b, depth, c, c_stride, cols, accumulate);
        else
            last_tile<R - 1>(rows, a, b, depth, c, c_stride, cols, accumulate);
    }
}

// C (rows x cols), cols at most kTileCols; B's rows must be readable for kTileCols elements.
template <class T, class RowOfB>
HF_INLINE void column_of_tiles(Strided<T> a, int64_t rows, const RowOfB& b, int64_t depth, T* c, int64_t c_stride,
                               int64_t cols, bool accumulate) {
    int64_t i = 0;
    for (; i + kTileRows <= rows; i += kTileRows)
        register_tile<kTileRows>(Strided<T>{a.data + i * a.row_stride, a.row_stride, a.depth_stride}, b, depth,
                                 c + i * c_stride, c_stride, cols, accumulate);
    last_tile<kTileRows - 1>(rows - i, Strided<T>{a.data + i * a.row_stride, a.row_stride, a.depth_stride}, b,
                             depth, c + i * c_stride, c_stride, cols, accumulate);
}

// C (rows x cols) of any width. Where fewer than kTileCols columns are left, B's last columns are
// first copied to `panel` (depth x kTileCols), padded with zeros.
template <class T, class RowOfB>
HF_INLINE void tiles(Strided<T> a, int64_t rows, const RowOfB& b, int64_t depth, T* c, int64_t c_stride,
                     int64_t cols, bool accumulate, T* panel) {
    int64_t j = 0;
    for (; j + kTileCols<T> <= cols; j += kTileCols<T>)
        column_of_tiles(
            a, rows, [&](int64_t k) { return b(k) + j; }, depth, c + j, c_stride, kTileCols<T>, accumulate);
    if (j == cols) return;
    for (int64_t k = 0; k < depth; ++k)
        for (int64_t q = 0; q < kTileCols<T>; ++q) panel[k * kTileCols<T> + q] = j + q < cols ? b(k)[j + q] : T(0);
    column_of_tiles(
        a, rows, [&](int64_t k) { return panel + k * kTileCols<T>; }, depth, c + j, c_stride, cols - j,
        accumulate);
}

}  // namespace hashfold::HASHFOLD_ISA
