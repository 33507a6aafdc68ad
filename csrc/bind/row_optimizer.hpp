// The optimizer's settings and a parameter with its state, as Python passes them.
#pragma once

#include <nanobind/stl/optional.h>

#include <optional>

#include "arrays.hpp"
#include "core/row_optimizer.hpp"

namespace hashfold {

using OptionalMatrix = std::optional<Array2<float>>;
// float32, or the bits of bfloat16 as int16.
using OptionalState = std::optional<nb::ndarray<nb::ndim<2>, nb::c_contig, nb::device::cpu>>;

inline RowParameter row_parameter(const RowOptimizer& rule, const Array2<float>& weight,
                                  const OptionalState& state1, const OptionalState& state2) {
    const bool needs1 = rule.rule != Rule::sgd || rule.beta1 != 0.0f, needs2 = rule.rule == Rule::adam;
    require(!needs1 || state1, "the rule needs a first state");
    require(!needs2 || state2, "the rule needs a second state");
    const auto cols = static_cast<int64_t>(weight.shape(1));
    const int64_t cols1 = rule.row_state && !needs2 ? 1 : cols, cols2 = rule.row_state ? 1 : cols;
    const bool bf16 = rule.bf16_moment;
    const auto fits = [&](const OptionalState& s, int64_t wanted, nb::dlpack::dtype type) {
        return s->dtype() == type && s->shape(0) == weight.shape(0) && static_cast<int64_t>(s->shape(1)) == wanted;
    };
    const auto floats = nb::dtype<float>(), moments = bf16 ? nb::dtype<int16_t>() : floats;
    require((!needs1 || fits(state1, cols1, moments)) && (!needs2 || fits(state2, cols2, floats)),
            "shape or type of a state");
    const auto data = [](const OptionalState& s, bool needed) {
        return needed ? static_cast<float*>(s->data()) : nullptr;
    };
    return {matrix(weight),
            data(state1, needs1 && !bf16),
            data(state2, needs2),
            cols1,
            cols2,
            bf16 ? static_cast<uint16_t*>(state1->data()) : nullptr};
}

}  // namespace hashfold
