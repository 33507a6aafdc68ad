// Row-lazy optimizers: only the rows that received a gradient move, and only their state.
#pragma once

#include <cstdint>

#include "views.hpp"

namespace hashfold {

enum class Rule : int { sgd = 0, adagrad = 1, adam = 2 };

struct RowOptimizer {
    Rule rule;
    float lr;     // for Adam with the bias corrections of the current step folded in
    float beta1;  // Adam: first moment; SGD: momentum (0: none, then state1 is unused)
    float beta2;  // Adam
    float eps;
    float weight_decay;  // decoupled, on the rows that move
    float row_norm;      // above 0: rows are rescaled to this Euclidean norm after the update
};

// The parameter and its state. state1 and state2 have the shape of weight, or are null where the
// rule has no such state.
struct RowParameter {
    Matrix<float> weight;
    float* state1;
    float* state2;
};

// weight[ids[i]] moves by grads[i]; ids are distinct.
void row_update(const RowOptimizer& rule, const RowParameter& parameter, const int32_t* ids,
                Matrix<const float> grads);

}  // namespace hashfold
