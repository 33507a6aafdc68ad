#include "rowwise_linear.hpp"

#include <type_traits>

#include "parallel.hpp"
#include "rowwise_linear_table.hpp"

namespace hashfold {
namespace {

constexpr int64_t kRowGrain = 8, kNeuronGrain = 16;

template <class T, class Input>
const RowwiseLinearOf<T, Input>& functions() {
    const RowwiseLinearTable& table = rowwise_linear_table();
    if constexpr (std::is_same_v<Input, Matrix<const float>>)
        return table.dense_f32;
    else if constexpr (std::is_same_v<Input, Matrix<const double>>)
        return table.dense_f64;
    else if constexpr (std::is_same_v<Input, Csr<float>>)
        return table.csr_f32;
    else
        return table.csr_f64;
}

template <class Input>
const RowwiseUpdateOf<Input>& updates() {
    if constexpr (std::is_same_v<Input, Csr<float>>)
        return rowwise_linear_table().csr_update;
    else
        return rowwise_linear_table().dense_update;
}

template <class T>
GroupSpan<T> span_of(const FeatureGroups<T>& groups) {
    return {groups.features.data(), groups.starts.data(), groups.rows.data(), groups.values.data()};
}

}  // namespace

template <class T, class Input>
void rowwise_linear(const Input& x, const ActiveRows& active, Matrix<const T> weight, const T* bias, T* out) {
    parallel_chunks(active.rows, kRowGrain, [&](int64_t begin, int64_t end, int) {
        functions<T, Input>().forward(x, active, weight, bias, out, begin, end);
    });
}

template <class T, class Input>
void rowwise_linear_grad_x(const Input& x, const ActiveRows& active, const T* grad_out, Matrix<const T> weight,
                           T* grad_x) {
    parallel_chunks(active.rows, kRowGrain, [&](int64_t begin, int64_t end, int) {
        functions<T, Input>().grad_x(x, active, grad_out, weight, grad_x, begin, end);
    });
}

template <class T>
FeatureGroups<T> group_by_neuron(const ActiveRows& active, const T* grad_out) {
    return group_by_feature(Csr<T>{active.indptr, active.ids, grad_out, active.rows});
}

template <class T, class Input>
void rowwise_linear_grad_weight(const FeatureGroups<T>& groups, const Input& x, Matrix<T> weight_grad) {
    parallel_chunks(groups.size(), kNeuronGrain, [&](int64_t begin, int64_t end, int) {
        functions<T, Input>().grad_weight(span_of(groups), x, weight_grad, begin, end);
    });
}

template <class Input>
void rowwise_linear_update(const FeatureGroups<float>& groups, const Input& x, const RowStep& weight,
                           const RowStep& bias) {
    parallel_chunks(groups.size(), kNeuronGrain, [&](int64_t begin, int64_t end, int) {
        std::vector<float> scratch(weight.parameter.weight.cols);
        updates<Input>().update(span_of(groups), x, weight, bias, scratch.data(), begin, end);
    });
}

#define HASHFOLD_INSTANTIATE_FOR(T, Input)                                                               \
    template void rowwise_linear(const Input&, const ActiveRows&, Matrix<const T>, const T*, T*);        \
    template void rowwise_linear_grad_x(const Input&, const ActiveRows&, const T*, Matrix<const T>, T*); \
    template void rowwise_linear_grad_weight(const FeatureGroups<T>&, const Input&, Matrix<T>);
#define HASHFOLD_INSTANTIATE(T)                                             \
    template FeatureGroups<T> group_by_neuron(const ActiveRows&, const T*); \
    HASHFOLD_INSTANTIATE_FOR(T, Matrix<const T>)                            \
    HASHFOLD_INSTANTIATE_FOR(T, Csr<T>)
HASHFOLD_INSTANTIATE(float)
HASHFOLD_INSTANTIATE(double)
template void rowwise_linear_update(const FeatureGroups<float>&, const Matrix<const float>&, const RowStep&,
                                    const RowStep&);
template void rowwise_linear_update(const FeatureGroups<float>&, const Csr<float>&, const RowStep&,
                                    const RowStep&);

}  // namespace hashfold
