#include "row_optimizer.hpp"

#include "families.hpp"

namespace hashfold {
namespace {

void update(const RowOptimizer& rule, Array2<float> weight, OptionalState state1, OptionalState state2,
            Array1<const int32_t> ids, Array2<const float> grads) {
    require(length(ids) == static_cast<int64_t>(grads.shape(0)), "ids and grads differ in length");
    row_update(rule, row_parameter(rule, weight, state1, state2), ids.data(), matrix(grads));
}

}  // namespace

void bind_row_optimizer(nb::module_& m) {
    nb::class_<RowOptimizer>(m, "RowOptimizer")
        .def(
            "__init__",
            [](RowOptimizer* self, int rule, float lr, float beta1, float beta2, float eps, float weight_decay,
               float row_norm, bool row_state, bool bf16_moment) {
                const auto kind = static_cast<Rule>(rule);
                require(!row_state || kind != Rule::sgd, "momentum is kept for each weight");
                require(!bf16_moment || (kind == Rule::adam && row_state), "bf16 is for Adam by row");
                new (self)
                    RowOptimizer{kind, lr, beta1, beta2, eps, weight_decay, row_norm, row_state, bf16_moment};
            },
            "rule"_a, "lr"_a, "beta1"_a, "beta2"_a, "eps"_a, "weight_decay"_a, "row_norm"_a, "row_state"_a = false,
            "bf16_moment"_a = false);
    m.def("row_update", &update, "rule"_a, "weight"_a.noconvert(), "state1"_a.noconvert().none(),
          "state2"_a.noconvert().none(), "ids"_a.noconvert(), "grads"_a.noconvert(), GilRelease());
}

}  // namespace hashfold
