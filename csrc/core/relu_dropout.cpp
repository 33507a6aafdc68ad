#include "relu_dropout.hpp"

#include <algorithm>
#include <cmath>

#include "parallel.hpp"
#include "relu_dropout_table.hpp"
#include "rng.hpp"

namespace hashfold {
namespace {

constexpr int64_t kGrain = 1 << 15;

}  // namespace

void relu_dropout(const float* x, int64_t count, double keep, uint64_t seed, float* y) {
    const uint64_t keys = mix64(seed);
    const auto highest = static_cast<uint32_t>(std::clamp(std::floor(keep * 0x1.0p32) - 1.0, 0.0, 0x1.0p32 - 1.0));
    const DropoutRule rule{
        {static_cast<uint32_t>(keys), static_cast<uint32_t>(keys >> 32)}, highest, static_cast<float>(1.0 / keep)};
    parallel_chunks(count, kGrain, [&](int64_t begin, int64_t end, int) {
        relu_dropout_table().forward(x, rule, y, begin, end);
    });
}

void relu_dropout_grad(const float* grad, const float* y, int64_t count, double keep, float* grad_x) {
    const auto scale = static_cast<float>(1.0 / keep);
    parallel_chunks(count, kGrain, [&](int64_t begin, int64_t end, int) {
        relu_dropout_table().grad(grad, y, scale, grad_x, begin, end);
    });
}

}  // namespace hashfold
