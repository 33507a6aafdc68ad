// A layer in which each row computes neurons of its own: y[i, a] = <x_i, W[a]> + b[a] for the ids a
// that are active in row i, and for no other.
//
// weight is (neurons, in). The input comes dense or as compressed sparse rows: the sparse output of
// one such layer is the input of the next, and only its nonzeros are multiplied. Gradients of weights
// are summed neuron by neuron, the batch's pairs grouped by neuron first: a row of the weight is read
// and written once a batch, and no sum depends on the number of threads.
#pragma once

#include "row_optimizer.hpp"
#include "sparse_linear.hpp"
#include "views.hpp"

namespace hashfold {

// Row i computes ids[indptr[i]] to ids[indptr[i + 1] - 1]; results lie in the same order.
struct ActiveRows {
    const int64_t* indptr;
    const int32_t* ids;
    int64_t rows;
};

// In all of these Input is Matrix<const T> or Csr<T>. bias may be null.
template <class T, class Input>
void rowwise_linear(const Input& x, const ActiveRows& active, Matrix<const T> weight, const T* bias, T* out);

// grad_x gets the gradient of a dense x, (rows, in), or of each value of a sparse one.
template <class T, class Input>
void rowwise_linear_grad_x(const Input& x, const ActiveRows& active, const T* grad_out, Matrix<const T> weight,
                           T* grad_x);

// The pairs (row, neuron) grouped by neuron; values are their gradients.
template <class T>
FeatureGroups<T> group_by_neuron(const ActiveRows& active, const T* grad_out);

// Writes the rows of weight_grad (neurons, in) whose neurons are in a group, and no other.
template <class T, class Input>
void rowwise_linear_grad_weight(const FeatureGroups<T>& groups, const Input& x, Matrix<T> weight_grad);

// A parameter and the rule by which its rows move.
struct RowStep {
    RowOptimizer rule;
    RowParameter parameter;
};

// The same sums, each applied to its row at once. bias.parameter.weight is (neurons, 1), or null without
// a bias; a bias is never rescaled to row_norm.
template <class Input>
void rowwise_linear_update(const FeatureGroups<float>& groups, const Input& x, const RowStep& weight,
                           const RowStep& bias);

}  // namespace hashfold
