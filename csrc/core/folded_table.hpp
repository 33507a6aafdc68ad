// What the folded products need from each instruction set.
#pragma once

#include "folded.hpp"
#include "isa.hpp"

namespace hashfold {

// Up to so many rows of x are multiplied while W is decoded; more are multiplied with decoded panels.
inline constexpr int64_t kFoldedFew = 4;
// Rows of W decoded together, and columns of an operand packed side by side: multiples of the register tiles' rows
// and columns at every level.
inline constexpr int64_t kFoldedRows = 48, kFoldedCols = 32;
// Rows of x that use a decoded panel before the next is decoded.
inline constexpr int64_t kFoldedBatch = 10 * kFoldedRows;
// Hashes computed together: the keys have room for them behind the last tile.
inline constexpr int64_t kFoldedHashes = 64;
// Rows are staged in whole vectors: room behind a row for what the last one has too much.
inline constexpr int64_t kFoldedPadding = 16;

// An operand cut into panels of `width` columns, each (depth, width), zeros behind the last column.
template <class T>
struct FoldedPanels {
    const T* data;
    int64_t depth;
    int64_t width;
    // The panel of `column`, a multiple of width, from row k on.
    const T* at(int64_t column, int64_t k) const { return data + column * depth + k * width; }
};

struct Range {
    int64_t begin, end;
    int64_t count() const { return end - begin; }
};

// Where gradients of shared values are summed: value v of lane l at data[l * lane_stride + v]. Several lanes,
// because additions to one value would wait for each other.
template <class T>
struct FoldedSums {
    T* data;
    int64_t lane_stride;
    int64_t lanes;  // a power of two
};

template <class M>
struct FoldedOf {
    using T = typename M::Value;
    // Columns decoded together: whole tiles, bytes of codes, vectors and panels.
    int64_t (*piece)(const M& w, int64_t least);
    // y[:, outputs]. x: kFoldedFew rows at most, `stride` apart, zeros up to it.
    void (*few)(const M& w, const T* x, int64_t stride, Matrix<T> y, Range outputs);
    // y[rows, outputs], kFoldedRows and kFoldedBatch at most. x: panels of kFoldedCols rows.
    void (*forward)(const M& w, FoldedPanels<T> x, Matrix<T> y, Range rows, Range outputs, T* scratch);
    // grad_x[rows, inputs]. grad: panels of kFoldedRows rows.
    void (*grad_x)(const M& w, FoldedPanels<T> grad, Matrix<T> grad_x, Range rows, Range inputs, T* scratch);
    // grad, x: panels of kFoldedRows outputs and kFoldedCols inputs.
    void (*grad_shared)(const M& w, FoldedPanels<T> grad, FoldedPanels<T> x, Range outputs, FoldedSums<T> sums,
                        T* scratch);
    void (*rows)(const M& w, const int64_t* ids, Matrix<T> rows, Range which, T* scratch);
    void (*rows_grad)(const M& w, const int64_t* ids, Matrix<const T> grad, Range which, FoldedSums<T> sums);
    // Elements of scratch for any of them.
    int64_t (*scratch)(const M& w);
};

struct FoldedTable {
    FoldedOf<HashedMatrix<float>> hashed_f32;
    FoldedOf<HashedMatrix<double>> hashed_f64;
    FoldedOf<CodebookMatrix<float>> codebook_f32;
    FoldedOf<CodebookMatrix<double>> codebook_f64;
};

HASHFOLD_DISPATCH(FoldedTable, folded_table)

}  // namespace hashfold
