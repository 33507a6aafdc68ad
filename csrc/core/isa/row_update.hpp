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
    prefetch_bytes(p.weight.row(row), p.weight.cols * sizeof(float));
    if (p.state1) prefetch_bytes(p.state1 + row * p.state1_cols, p.state1_cols * sizeof(float));
    if (p.state2) prefetch_bytes(p.state2 + row * p.state2_cols, p.state2_cols * sizeof(float));
}

// A dozen rows ahead, into the second-level cache: the first level has too few misses in flight for rows and two
// states, and its prefetches then wait for each other (a quarter of the input layer's update at 128 columns).
constexpr int64_t kRowsAhead = 12;

HF_INLINE void prefetch_row_early(const RowParameter& p, int64_t row) {
    prefetch_early(p.weight.row(row), p.weight.cols * sizeof(float));
    if (p.state1) prefetch_early(p.state1 + row * p.state1_cols, p.state1_cols * sizeof(float));
    if (p.state2) prefetch_early(p.state2 + row * p.state2_cols, p.state2_cols * sizeof(float));
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

// The whole vectors of a row; returns how many numbers they hold. S: how many states the rule has. A copy of the
// rule with its kind known: the loop then has no branches.
template <Rule R, int S>
HF_INLINE int64_t update_vectors(const RowOptimizer& rule, const RowParameter& p, int64_t row, const float* grad) {
    RowOptimizer o = rule;
    o.rule = R;
    const int64_t n = p.weight.cols;
    float* __restrict w = p.weight.row(row);
    float* __restrict s1 = p.state1 + (S > 0 ? row * n : 0);
    float* __restrict s2 = p.state2 + (S > 1 ? row * n : 0);
    const float keep = 1.0f - o.lr * o.weight_decay;
    constexpr int width = kWidth<float>;
    int64_t i = 0;
    for (; i + width <= n; i += width) {
        Vec<float> a{}, b{};
        if constexpr (S > 0) a = load(s1 + i);
        if constexpr (S > 1) b = load(s2 + i);
        const Vec<float> move =
            step_of(o, load(grad + i), &a, &b, [](Vec<float> v) { return square_root<float>(v); });
        if constexpr (S > 0) store(s1 + i, a);
        if constexpr (S > 1) store(s2 + i, b);
        store(w + i, load(w + i) * keep - move);
    }
    return i;
}

// Adam or Adagrad with the mean of the row's squares for those of its numbers: one root and division a row.
template <bool Momentum>
HF_INLINE int64_t update_by_row(const RowOptimizer& o, const RowParameter& p, int64_t row, const float* grad) {
    const int64_t n = p.weight.cols;
    const float square = dot(grad, grad, n) / static_cast<float>(n), keep = 1.0f - o.lr * o.weight_decay;
    float* total = Momentum ? p.state2 + row : p.state1 + row;
    *total = Momentum ? *total * o.beta2 + square * (1.0f - o.beta2) : *total + square;
    const float scale = o.lr / (__builtin_sqrtf(*total) + o.eps);
    float* __restrict w = p.weight.row(row);
    float* __restrict m = p.state1 + (Momentum ? row * n : 0);
    for (int64_t i = 0; i < n; ++i) {
        float move = grad[i];
        if constexpr (Momentum) move = m[i] = m[i] * o.beta1 + grad[i] * (1.0f - o.beta1);
        w[i] = w[i] * keep - move * scale;
    }
    return n;
}

HF_INLINE void update_row(const RowOptimizer& o, const RowParameter& p, int64_t row, const float* grad) {
    const int64_t n = p.weight.cols;
    float* w = p.weight.row(row);
    int64_t i = 0;
    switch (o.rule) {
        case Rule::adam:
            i = o.row_state ? update_by_row<true>(o, p, row, grad)
                            : update_vectors<Rule::adam, 2>(o, p, row, grad);

            break;
        case Rule::adagrad:
            i = o.row_state ? update_by_row<false>(o, p, row, grad)
                            : update_vectors<Rule::adagrad, 1>(o, p, row, grad);

            break;
        default:
            i = p.state1 ? update_vectors<Rule::sgd, 1>(o, p, row, grad)
                         : update_vectors<Rule::sgd, 0>(o, p, row, grad);
    }
    for (; i < n; ++i) update_entry(o, p, row * n + i, grad[i]);
    if (o.row_norm > 0.0f) {
        const float square = dot(w, w, n);
        const float scale = square > 0.0f ? o.row_norm / __builtin_sqrtf(square) : 0.0f;
        for (i = 0; i < n; ++i) w[i] *= scale;
    }
}

}  // namespace hashfold::HASHFOLD_ISA
