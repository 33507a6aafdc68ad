// What relu_dropout needs from each instruction set.
#pragma once

#include "isa.hpp"
#include "relu_dropout.hpp"

namespace hashfold {

// An entry is kept where the hash of its position under `keys` is at most `highest`.
struct DropoutRule {
    uint32_t keys[2];
    uint32_t highest;
    float scale;
};

struct ReluDropoutTable {
    void (*forward)(const float* x, const DropoutRule& rule, float* y, int64_t begin, int64_t end);
    void (*grad)(const float* grad, const float* y, float scale, float* grad_x, int64_t begin, int64_t end);
};

HASHFOLD_DISPATCH(ReluDropoutTable, relu_dropout_table)

}  // namespace hashfold
