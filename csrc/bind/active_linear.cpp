#include "core/active_linear.hpp"

#include "families.hpp"
#include "row_optimizer.hpp"

namespace hashfold {
namespace {

using OptionalIds = std::optional<Array1<const int32_t>>;
template <class T>
using OptionalVector = std::optional<Array1<T>>;

ActiveIds active_ids(const OptionalIds& ids, int64_t all) {
    return ids ? ActiveIds{ids->data(), length(*ids)} : ActiveIds{nullptr, all};
}

template <class T>
void forward(Array2<const T> x, Array2<const T> weight, OptionalVector<const T> bias, OptionalIds ids,
             Array2<T> logits) {
    const ActiveIds active = active_ids(ids, weight.shape(0));
    require(x.shape(1) == weight.shape(1), "x and weight differ in columns");
    require(logits.shape(0) == x.shape(0) && static_cast<int64_t>(logits.shape(1)) == active.count,
            "logits' shape");
    require(!bias || bias->shape(0) == weight.shape(0), "bias and weight differ in length");
    active_linear(matrix(x), matrix(weight), bias ? bias->data() : nullptr, active, matrix(logits));
}

template <class T>
void grad_x(Array2<const T> grad, Array2<const T> weight, OptionalIds ids, Array2<T> out) {
    const ActiveIds active = active_ids(ids, weight.shape(0));
    require(static_cast<int64_t>(grad.shape(1)) == active.count, "grad and ids differ in length");
    active_linear_grad_x(matrix(grad), matrix(weight), active, matrix(out));
}

template <class T>
void grad_weight(Array2<const T> grad, Array2<const T> x, OptionalIds ids, Array2<T> out,
                 OptionalVector<T> grad_bias) {
    const ActiveIds active = active_ids(ids, out.shape(0));
    require(static_cast<int64_t>(grad.shape(1)) == active.count, "grad and ids differ in length");
    active_linear_grad_weight(matrix(grad), matrix(x), active, matrix(out),
                              grad_bias ? grad_bias->data() : nullptr);
}

void step(Array2<const float> grad, Array2<const float> x, OptionalIds ids, const RowOptimizer& rule,
          Array2<float> weight, OptionalState state1, OptionalState state2, const RowOptimizer& bias_rule,
          OptionalState bias, OptionalState bias_state1, OptionalState bias_state2, Array2<float> grad_x) {
    const ActiveIds active = active_ids(ids, weight.shape(0));
    require(static_cast<int64_t>(grad.shape(1)) == active.count, "grad and ids differ in length");
    require(x.shape(1) == weight.shape(1) && grad_x.shape(1) == x.shape(1), "columns of x, weight and grad_x");
    const RowParameter moved = row_parameter(rule, weight, state1, state2);
    const RowParameter moved_bias = bias ? row_parameter(bias_rule, *bias, bias_state1, bias_state2)
                                         : RowParameter{{nullptr, 0, 1}, nullptr, nullptr};
    active_linear_step(matrix(grad), matrix(x), active, rule, moved, bias_rule, moved_bias, matrix(grad_x));
}

template <class T>
void bind_for(nb::module_& m) {
    m.def("active_linear", &forward<T>, "x"_a.noconvert(), "weight"_a.noconvert(), "bias"_a.noconvert().none(),
          "ids"_a.noconvert().none(), "logits"_a.noconvert(), GilRelease());
    m.def("active_linear_grad_x", &grad_x<T>, "grad"_a.noconvert(), "weight"_a.noconvert(),
          "ids"_a.noconvert().none(), "grad_x"_a.noconvert(), GilRelease());
    m.def("active_linear_grad_weight", &grad_weight<T>, "grad"_a.noconvert(), "x"_a.noconvert(),
          "ids"_a.noconvert().none(), "grad_weight"_a.noconvert(), "grad_bias"_a.noconvert().none(), GilRelease());
}

}  // namespace

void bind_active_linear(nb::module_& m) {
    bind_for<float>(m);
    bind_for<double>(m);
    m.def("active_linear_step", &step, "grad"_a.noconvert(), "x"_a.noconvert(), "ids"_a.noconvert().none(),
          "rule"_a, "weight"_a.noconvert(), "state1"_a.noconvert().none(), "state2"_a.noconvert().none(),
          "bias_rule"_a, "bias"_a.noconvert().none(), "bias_state1"_a.noconvert().none(),
          "bias_state2"_a.noconvert().none(), "grad_x"_a.noconvert(), GilRelease());
}

}  // namespace hashfold
