#include "core/sparse_linear.hpp"

#include <algorithm>

#include "families.hpp"
#include "row_optimizer.hpp"

namespace hashfold {
namespace {

template <class T>
void forward(Array1<const int64_t> indptr, Array1<const int32_t> indices, Array1<const T> values,
             Array2<const T> weight, Array2<T> out) {
    const Csr<T> x = csr<T>(indptr, indices, values);
    require(static_cast<int64_t>(out.shape(0)) == x.rows && out.shape(1) == weight.shape(1), "shape of out");
    sparse_linear(x, matrix(weight), matrix(out));
}

template <class T>
void grad_values(Array1<const int64_t> indptr, Array1<const int32_t> indices, Array1<const T> values,
                 Array2<const T> weight, Array2<const T> grad_out, Array1<T> grad) {
    const Csr<T> x = csr<T>(indptr, indices, values);
    require(length(grad) == length(values), "length of grad_values");
    sparse_linear_grad_values(x, matrix(weight), matrix(grad_out), grad.data());
}

// weight_grad (features, out) is zero but for the rows of the batch's features.
template <class T>
void grad_weight(Array1<const int64_t> indptr, Array1<const int32_t> indices, Array1<const T> values,
                 Array2<const T> grad_out, Array2<T> weight_grad) {
    const FeatureGroups<T> groups = group_by_feature(csr<T>(indptr, indices, values));
    std::vector<T> rows(groups.size() * grad_out.shape(1));
    const Matrix<T> sums{rows.data(), groups.size(), static_cast<int64_t>(grad_out.shape(1))};
    sparse_linear_grad_rows(groups, matrix(grad_out), sums);
    for (int64_t g = 0; g < groups.size(); ++g)
        std::copy_n(sums.row(g), sums.cols, weight_grad.data() + groups.features[g] * sums.cols);
}

FeatureGroups<float> group(Array1<const int64_t> indptr, Array1<const int32_t> indices,
                           Array1<const float> values) {
    return group_by_feature(csr<float>(indptr, indices, values));
}

void update(const FeatureGroups<float>& groups, Array2<const float> grad_out, const RowOptimizer& rule,
            Array2<float> weight, OptionalState state1, OptionalState state2) {
    require(grad_out.shape(1) == weight.shape(1), "grad_out and weight differ in columns");
    require(groups.size() == 0 || groups.features.back() < static_cast<int64_t>(weight.shape(0)), "features");
    sparse_linear_update(groups, matrix(grad_out), rule, row_parameter(rule, weight, state1, state2));
}

template <class T>
void bind_for(nb::module_& m) {
    m.def("sparse_linear", &forward<T>, "indptr"_a.noconvert(), "indices"_a.noconvert(), "values"_a.noconvert(),
          "weight"_a.noconvert(), "out"_a.noconvert(), GilRelease());
    m.def("sparse_linear_grad_values", &grad_values<T>, "indptr"_a.noconvert(), "indices"_a.noconvert(),
          "values"_a.noconvert(), "weight"_a.noconvert(), "grad_out"_a.noconvert(), "grad_values"_a.noconvert(),
          GilRelease());
    m.def("sparse_linear_grad_weight", &grad_weight<T>, "indptr"_a.noconvert(), "indices"_a.noconvert(),
          "values"_a.noconvert(), "grad_out"_a.noconvert(), "weight_grad"_a.noconvert(), GilRelease());
}

}  // namespace

void bind_sparse_linear(nb::module_& m) {
    bind_for<float>(m);
    bind_for<double>(m);
    nb::class_<FeatureGroups<float>>(m, "FeatureGroups");
    m.def("group_by_feature", &group, "indptr"_a.noconvert(), "indices"_a.noconvert(), "values"_a.noconvert(),
          GilRelease());
    m.def("sparse_linear_update", &update, "groups"_a, "grad_out"_a.noconvert(), "rule"_a, "weight"_a.noconvert(),
          "state1"_a.noconvert().none(), "state2"_a.noconvert().none(), GilRelease());
}

}  // namespace hashfold
