// What sparse_linear needs from each instruction set.
#pragma once

#include "isa.hpp"
#include "sparse_linear.hpp"

namespace hashfold {

template <class T>
struct GroupSpan {
    const int32_t* features;
    const int64_t* starts;
    const int32_t* rows;
    const T* values;
};

template <class T>
struct SparseLinearOf {
    void (*forward)(const Csr<T>& x, Matrix<const T> weight, Matrix<T> out, int64_t begin, int64_t end);
    void (*grad_values)(const Csr<T>& x, Matrix<const T> weight, Matrix<const T> grad_out, T* grad_values,
                        int64_t begin, int64_t end);
    void (*grad_rows)(const GroupSpan<T>& groups, Matrix<const T> grad_out, Matrix<T> rows, int64_t begin,
                      int64_t end);
};

struct SparseLinearTable {
    SparseLinearOf<float> f32;
    SparseLinearOf<double> f64;
    // scratch holds one gradient row
    void (*update)(const GroupSpan<float>& groups, Matrix<const float> grad_out, const RowOptimizer& rule,
                   const RowParameter& parameter, float* scratch, int64_t begin, int64_t end);
};

HASHFOLD_DISPATCH(SparseLinearTable, sparse_linear_table)

}  // namespace hashfold
