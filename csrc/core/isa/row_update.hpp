// One row's optimizer step, inlined into the kernels that produce its gradient.
#pragma once

#include "../row_optimizer.hpp"
#include "../simd.hpp"

namespace hashfold::HASHFOLD_ISA {

template <class T>
HF_INLINE Vec<T> square_root(Vec<T> v) {
    for (int i = 0; i < kWidth<T>; ++i) v[i] = __builtin_sqrtf(v[i]);
    return v;
}

HF_INLINE void prefetch_row(const RowParameter& p, int64_t row) {
    const int64_t at = row * p.weight.cols, bytes = p.weight.cols * sizeof(float);
    prefetch_bytes(p.weight.data + at, bytes);
    if (p.state1) prefetch_bytes(p.state1 + at, bytes);
    if (p.state2) prefetch_bytes(p.state2 + at, bytes);
}

// The rules once for vectors (V = Vec<float>) and once for the tail (V = float).
template <class V, class Root>
HF_INLINE V step_of(const RowOptimizer& o, V g, V* s1, V* s2, Root root) {
    switch (o.rule) {
        case Rule::adam:
            *s1 = *s1 * o.beta1 + g * (1.0f - o.beta1);
            *s2 = *s2 * o.beta2 + g * g * (1.0f - o.beta2);
            return *s1 * o.lr / (root(*s2) + o.eps);
        case Rule::adagrad:
            *s1 = *s1 + g * g;
            return g * o.lr / (root(*s1) + o.eps);
        default:
            if (o.beta1 == 0.0f) return g * o.lr;
            *s1 = *s1 * o.beta1 + g;
            return *s1 * o.lr;
    }
}

// One number of the parameter, counted from its first: the tail of a row, or a bias (whose length is
// never rescaled).
HF_INLINE void update_entry(const RowOptimizer& o, const RowParameter& p, int64_t at, float grad) {
    float a = p.state1 ? p.state1[at] : 0.0f, b = p.state2 ? p.state2[at] : 0.0f;
    const float move = step_of(o, grad, &a, &b, [](float v) { return __builtin_sqrtf(v); });
    if (p.state1) p.state1[at] = a;
    if (p.state2) p.state2[at] = b;
    p.weight.data[at] = p.weight.data[at] * (1.0f - o.lr * o.weight_decay) - move;
}

HF_INLINE void update_row(const RowOptimizer& o, const RowParameter& p, int64_t row, const float* grad) {
    const int64_t n = p.weight.cols;
    float* w = p.weight.row(row);
    float* s1 = p.state1 ? p.state1 + row * n : nullptr;
    float* s2 = p.state2 ? p.state2 + row * n : nullptr;
    const float keep = 1.0f - o.lr * o.weight_decay;
    constexpr int width = kWidth<float>;
    int64_t i = 0;
    for (; i + width <= n; i += width) {
        Vec<float> a = s1 ? load(s1 + i) : Vec<float>{}, b = s2 ? load(s2 + i) : Vec<float>{};
        const Vec<float> move =
            step_of(o, load(grad + i), &a, &b, [](Vec<float> v) { return square_root<float>(v); });
        if (s1) store(s1 + i, a);
        if (s2) store(s2 + i, b);
        store(w + i, load(w + i) * keep - move);
    }
    for (; i < n; ++i) update_entry(o, p, row * n + i, grad[i]);
    if (o.row_norm > 0.0f) {
        const float square = dot(w, w, n);
        const float scale = square > 0.0f ? o.row_norm / __builtin_sqrtf(square) : 0.0f;
        for (i = 0; i < n; ++i) w[i] *= scale;
    }
}

}  // namespace hashfold::HASHFOLD_ISA
