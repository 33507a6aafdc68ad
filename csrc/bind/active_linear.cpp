#include "core/active_linear.hpp"

#include "active_ids.hpp"
#include "families.hpp"

namespace hashfold {
namespace {

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
}

}  // namespace hashfold
