// The input layer: compressed sparse rows times a feature-major weight, y = x W.
//
// weight is (features, out): a feature's row is read once for each nonzero in the forward pass, and
// read and written once a batch in the backward pass, because the batch's nonzeros are sorted by
// feature first.
#pragma once

#include <cstdint>
#include <vector>

#include "row_optimizer.hpp"
#include "views.hpp"

namespace hashfold {

// A batch's nonzeros sorted by feature: group g holds entries starts[g] to starts[g + 1].
template <class T>
struct FeatureGroups {
    std::vector<int32_t> features;  // ascending
    std::vector<int64_t> starts;
    std::vector<int32_t> rows;
    std::vector<T> values;
    int64_t size() const { return static_cast<int64_t>(features.size()); }
};

template <class T>
FeatureGroups<T> group_by_feature(const Csr<T>& x);

// out (rows, out) = x W.
template <class T>
void sparse_linear(const Csr<T>& x, Matrix<const T> weight, Matrix<T> out);

// grad_values[j] = <grad_out[row of j], weight[feature of j]>.
template <class T>
void sparse_linear_grad_values(const Csr<T>& x, Matrix<const T> weight, Matrix<const T> grad_out, T* grad_values);

// rows[g] = sum over the entries of group g of value * grad_out[row]; rows is (groups, out).
template <class T>
void sparse_linear_grad_rows(const FeatureGroups<T>& groups, Matrix<const T> grad_out, Matrix<T> rows);

// The same sums, each applied to its row at once.
void sparse_linear_update(const FeatureGroups<float>& groups, Matrix<const float> grad_out,
                          const RowOptimizer& rule, const RowParameter& parameter);

}  // namespace hashfold
