#include "core/relu_dropout.hpp"

#include "arrays.hpp"
#include "families.hpp"

namespace hashfold {
namespace {

void forward(Array1<const float> x, double keep, uint64_t seed, Array1<float> y) {
    require(length(x) == length(y), "x and y differ in length");
    relu_dropout(x.data(), length(x), keep, seed, y.data());
}

void grad(Array1<const float> grad, Array1<const float> y, double keep, Array1<float> grad_x) {
    require(length(grad) == length(y) && length(y) == length(grad_x), "grad, y and grad_x differ in length");
    relu_dropout_grad(grad.data(), y.data(), length(y), keep, grad_x.data());
}

}  // namespace

void bind_relu_dropout(nb::module_& m) {
    m.def("relu_dropout", &forward, "x"_a.noconvert(), "keep"_a, "seed"_a, "y"_a.noconvert(), GilRelease());
    m.def("relu_dropout_grad", &grad, "grad"_a.noconvert(), "y"_a.noconvert(), "keep"_a, "grad_x"_a.noconvert(),
          GilRelease());
}

}  // namespace hashfold
