// y = dropout(relu(x)) in one pass: an entry is kept with probability `keep`, and then divided by it. Whether
// entry i is kept is a pure function of (seed, i): no mask is stored, and the result depends on neither threads
// nor instruction set.
#pragma once

#include <cstdint>

namespace hashfold {

void relu_dropout(const float* x, int64_t count, double keep, uint64_t seed, float* y);

// grad_x = grad / keep where y, the result of the above, is above 0.
void relu_dropout_grad(const float* grad, const float* y, int64_t count, double keep, float* grad_x);

}  // namespace hashfold
