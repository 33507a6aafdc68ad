#include "core/rowwise_linear.hpp"

#include "families.hpp"
#include "row_optimizer.hpp"

namespace hashfold {
namespace {

template <class T>
using OptionalArray1 = std::optional<Array1<T>>;

ActiveRows active_rows(const Array1<const int64_t>& indptr, const Array1<const int32_t>& ids) {
    require(length(indptr) >= 1, "indptr is empty");
    require(indptr.data()[length(indptr) - 1] == length(ids), "indptr does not end at the active ids");
    return {indptr.data(), ids.data(), length(indptr) - 1};
}

template <class T, class Input>
void forward(const Input& x, const ActiveRows& active, Array2<const T> weight, OptionalArray1<const T> bias,
             Array1<T> out) {
    require(x.rows == active.rows, "x and the active sets differ in rows");
    require(!bias || length(*bias) == static_cast<int64_t>(weight.shape(0)), "length of bias");
    rowwise_linear(x, active, matrix(weight), bias ? bias->data() : nullptr, out.data());
}

template <class T, class Input>
void grad_weight(const Input& x, const ActiveRows& active, const Array1<const T>& grad, Array2<T> weight_grad) {
    require(x.rows == active.rows, "x and the active sets differ in rows");
    rowwise_linear_grad_weight(group_by_neuron(active, grad.data()), x, matrix(weight_grad));
}

// Gradient of x first, with the weights of the forward pass; then the update.
template <class Input>
void update(const Input& x, const ActiveRows& active, const Array1<const float>& grad, const RowStep& weight,
            const RowStep& bias, float* grad_x) {
    require(x.rows == active.rows, "x and the active sets differ in rows");
    const Matrix<float>& w = weight.parameter.weight;
    if (grad_x) rowwise_linear_grad_x(x, active, grad.data(), Matrix<const float>{w.data, w.rows, w.cols}, grad_x);
    rowwise_linear_update(group_by_neuron(active, grad.data()), x, weight, bias);
}

RowStep bias_step(const RowOptimizer& rule, const OptionalMatrix& bias, const OptionalState& state1,
                  const OptionalState& state2) {
    return {rule,
            bias ? row_parameter(rule, *bias, state1, state2) : RowParameter{{nullptr, 0, 0}, nullptr, nullptr}};
}

template <class T>
void bind_dense(nb::module_& m) {
    m.def(
        "rowwise_linear",
        [](Array2<const T> x, Array1<const int64_t> indptr, Array1<const int32_t> ids, Array2<const T> weight,
           OptionalArray1<const T> bias,
           Array1<T> out) { forward<T>(matrix(x), active_rows(indptr, ids), weight, bias, out); },
        "x"_a.noconvert(), "out_indptr"_a.noconvert(), "out_ids"_a.noconvert(), "weight"_a.noconvert(),
        "bias"_a.noconvert().none(), "out"_a.noconvert(), GilRelease());
    m.def(
        "rowwise_linear_grad_x",
        [](Array1<const T> grad, Array1<const int64_t> indptr, Array1<const int32_t> ids, Array2<const T> weight,
           Array2<T> grad_x) {
            const Matrix<const T> shape{nullptr, static_cast<int64_t>(grad_x.shape(0)),
                                        static_cast<int64_t>(grad_x.shape(1))};
            rowwise_linear_grad_x(shape, active_rows(indptr, ids), grad.data(), matrix(weight), grad_x.data());
        },
        "grad"_a.noconvert(), "out_indptr"_a.noconvert(), "out_ids"_a.noconvert(), "weight"_a.noconvert(),
        "grad_x"_a.noconvert(), GilRelease());
    m.def(
        "rowwise_linear_grad_weight",
        [](Array1<const T> grad, Array2<const T> x, Array1<const int64_t> indptr, Array1<const int32_t> ids,
           Array2<T> weight_grad) { grad_weight(matrix(x), active_rows(indptr, ids), grad, weight_grad); },
        "grad"_a.noconvert(), "x"_a.noconvert(), "out_indptr"_a.noconvert(), "out_ids"_a.noconvert(),
        "weight_grad"_a.noconvert(), GilRelease());
}

template <class T>
void bind_csr(nb::module_& m) {
    m.def(
        "csr_rowwise_linear",
        [](Array1<const int64_t> in_indptr, Array1<const int32_t> in_ids, Array1<const T> in_values,
           Array1<const int64_t> indptr, Array1<const int32_t> ids, Array2<const T> weight,
           OptionalArray1<const T> bias, Array1<T> out) {
            forward<T>(csr<T>(in_indptr, in_ids, in_values), active_rows(indptr, ids), weight, bias, out);
        },
        "in_indptr"_a.noconvert(), "in_ids"_a.noconvert(), "in_values"_a.noconvert(), "out_indptr"_a.noconvert(),
        "out_ids"_a.noconvert(), "weight"_a.noconvert(), "bias"_a.noconvert().none(), "out"_a.noconvert(),
        GilRelease());
    m.def(
        "csr_rowwise_linear_grad_x",
        [](Array1<const T> grad, Array1<const int64_t> in_indptr, Array1<const int32_t> in_ids,
           Array1<const int64_t> indptr, Array1<const int32_t> ids, Array2<const T> weight,
           Array1<T> grad_values) {
            const Csr<T> pattern{in_indptr.data(), in_ids.data(), nullptr, length(in_indptr) - 1};
            require(length(grad_values) == length(in_ids), "length of grad_values");
            rowwise_linear_grad_x(pattern, active_rows(indptr, ids), grad.data(), matrix(weight),
                                  grad_values.data());
        },
        "grad"_a.noconvert(), "in_indptr"_a.noconvert(), "in_ids"_a.noconvert(), "out_indptr"_a.noconvert(),
        "out_ids"_a.noconvert(), "weight"_a.noconvert(), "grad_values"_a.noconvert(), GilRelease());
    m.def(
        "csr_rowwise_linear_grad_weight",
        [](Array1<const T> grad, Array1<const int64_t> in_indptr, Array1<const int32_t> in_ids,
           Array1<const T> in_values, Array1<const int64_t> indptr, Array1<const int32_t> ids,
           Array2<T> weight_grad) {
            grad_weight(csr<T>(in_indptr, in_ids, in_values), active_rows(indptr, ids), grad, weight_grad);
        },
        "grad"_a.noconvert(), "in_indptr"_a.noconvert(), "in_ids"_a.noconvert(), "in_values"_a.noconvert(),
        "out_indptr"_a.noconvert(), "out_ids"_a.noconvert(), "weight_grad"_a.noconvert(), GilRelease());
}

void bind_updates(nb::module_& m) {
    m.def(
        "rowwise_linear_update",
        [](Array2<const float> x, Array1<const int64_t> indptr, Array1<const int32_t> ids,
           Array1<const float> grad, const RowOptimizer& rule, Array2<float> weight, OptionalState state1,
           OptionalState state2, const RowOptimizer& bias_rule, OptionalMatrix bias, OptionalState bias_state1,
           OptionalState bias_state2, OptionalMatrix grad_x) {
            update(matrix(x), active_rows(indptr, ids), grad, {rule, row_parameter(rule, weight, state1, state2)},
                   bias_step(bias_rule, bias, bias_state1, bias_state2), grad_x ? grad_x->data() : nullptr);
        },
        "x"_a.noconvert(), "out_indptr"_a.noconvert(), "out_ids"_a.noconvert(), "grad"_a.noconvert(), "rule"_a,
        "weight"_a.noconvert(), "state1"_a.noconvert().none(), "state2"_a.noconvert().none(), "bias_rule"_a,
        "bias"_a.noconvert().none(), "bias_state1"_a.noconvert().none(), "bias_state2"_a.noconvert().none(),
        "grad_x"_a.noconvert().none(), GilRelease());
    m.def(
        "csr_rowwise_linear_update",
        [](Array1<const int64_t> in_indptr, Array1<const int32_t> in_ids, Array1<const float> in_values,
           Array1<const int64_t> indptr, Array1<const int32_t> ids, Array1<const float> grad,
           const RowOptimizer& rule, Array2<float> weight, OptionalState state1, OptionalState state2,
           const RowOptimizer& bias_rule, OptionalMatrix bias, OptionalState bias_state1,
           OptionalState bias_state2, OptionalArray1<float> grad_values) {
            update(csr<float>(in_indptr, in_ids, in_values), active_rows(indptr, ids), grad,
                   {rule, row_parameter(rule, weight, state1, state2)},
                   bias_step(bias_rule, bias, bias_state1, bias_state2),
                   grad_values ? grad_values->data() : nullptr);
        },
        "in_indptr"_a.noconvert(), "in_ids"_a.noconvert(), "in_values"_a.noconvert(), "out_indptr"_a.noconvert(),
        "out_ids"_a.noconvert(), "grad"_a.noconvert(), "rule"_a, "weight"_a.noconvert(),
        "state1"_a.noconvert().none(), "state2"_a.noconvert().none(), "bias_rule"_a, "bias"_a.noconvert().none(),
        "bias_state1"_a.noconvert().none(), "bias_state2"_a.noconvert().none(), "grad_values"_a.noconvert().none(),
        GilRelease());
}

}  // namespace

void bind_rowwise_linear(nb::module_& m) {
    bind_dense<float>(m);
    bind_dense<double>(m);
    bind_csr<float>(m);
    bind_csr<double>(m);
    bind_updates(m);
}

}  // namespace hashfold
