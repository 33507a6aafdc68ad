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
    bool row_state;      // Adagrad, Adam: squares are averaged over the row, the last state is one number a row
    bool bf16_moment;    // Adam with row_state: the first moment is kept in bfloat16
};

// The parameter and its state: as many rows as weight, of weight.cols numbers or of one; null where the rule has
// no such state. A first moment in bfloat16 is in state1_bf16, and state1 is null.
struct RowParameter {
    Matrix<float> weight;
    float* state1;
    float* state2;
    int64_t state1_cols = 0;
    int64_t state2_cols = 0;
    uint16_t* state1_bf16 = nullptr;
};

// weight[ids[i]] moves by grads[i]; ids are distinct.
void row_update(const RowOptimizer& rule, const RowParameter& parameter, const int32_t* ids,
                Matrix<const float> grads);

}  // namespace hashfold
