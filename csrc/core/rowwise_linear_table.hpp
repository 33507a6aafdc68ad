// What rowwise_linear needs from each instruction set.
#pragma once

#include "isa.hpp"
#include "rowwise_linear.hpp"
#include "sparse_linear_table.hpp"

namespace hashfold {

template <class T, class Input>
struct RowwiseLinearOf {
    void (*forward)(const Input& x, const ActiveRows& active, Matrix<const T> weight, const T* bias, T* out,
                    int64_t begin, int64_t end);
    void (*grad_x)(const Input& x, const ActiveRows& active, const T* grad_out, Matrix<const T> weight, T* grad_x,
                   int64_t begin, int64_t end);
    void (*grad_weight)(const GroupSpan<T>& groups, const Input& x, Matrix<T> weight_grad, int64_t begin,
                        int64_t end);
};

template <class Input>
struct RowwiseUpdateOf {
    // scratch holds one gradient row
    void (*update)(const GroupSpan<float>& groups, const Input& x, const RowStep& weight, const RowStep& bias,
                   float* scratch, int64_t begin, int64_t end);
};

struct RowwiseLinearTable {
    RowwiseLinearOf<float, Matrix<const float>> dense_f32;
    RowwiseLinearOf<double, Matrix<const double>> dense_f64;
    RowwiseLinearOf<float, Csr<float>> csr_f32;
    RowwiseLinearOf<double, Csr<double>> csr_f64;
    RowwiseUpdateOf<Matrix<const float>> dense_update;
    RowwiseUpdateOf<Csr<float>> csr_update;
};

HASHFOLD_DISPATCH(RowwiseLinearTable, rowwise_linear_table)

}  // namespace hashfold
