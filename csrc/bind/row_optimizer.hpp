// The optimizer's settings and a parameter with its state, as Python passes them.
#pragma once

#include <nanobind/stl/optional.h>

#include <optional>

#include "arrays.hpp"
#include "core/row_optimizer.hpp"

namespace hashfold {

using OptionalState = std::optional<Array2<float>>;

inline RowParameter row_parameter(const RowOptimizer& rule, const Array2<float>& weight,
                                  const OptionalState& state1, const OptionalState& state2) {
    const bool needs1 = rule.rule != Rule::sgd || rule.beta1 != 0.0f, needs2 = rule.rule == Rule::adam;
    require(!needs1 || state1, "the rule needs a first state");
    require(!needs2 || state2, "the rule needs a second state");
    const auto cols = static_cast<int64_t>(weight.shape(1));
    const int64_t cols1 = rule.row_state && !needs2 ? 1 : cols, cols2 = rule.row_state ? 1 : cols;
    const auto fits = [&](const OptionalState& s, int64_t wanted) {
        return s->shape(0) == weight.shape(0) && static_cast<int64_t>(s->shape(1)) == wanted;
    };
    require((!needs1 || fits(state1, cols1)) && (!needs2 || fits(state2, cols2)), "shape of a state");
    return {matrix(weight), needs1 ? state1->data() : nullptr, needs2 ? state2->data() : nullptr, cols1, cols2};
}

}  // namespace hashfold
