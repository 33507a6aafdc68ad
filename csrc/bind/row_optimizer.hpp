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
    for (const OptionalState& s : {state1, state2})
        require(!s || (s->shape(0) == weight.shape(0) && s->shape(1) == weight.shape(1)),
                "state and weight differ in shape");
    return {matrix(weight), needs1 ? state1->data() : nullptr, needs2 ? state2->data() : nullptr};
}

}  // namespace hashfold
