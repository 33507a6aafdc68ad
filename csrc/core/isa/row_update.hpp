// One row's optimizer step, inlined into the kernels that produce its gradient.
#pragma once

#include "../row_optimizer.hpp"
#include "bf16.hpp"

namespace hashfold::HASHFOLD_ISA {

template <class T>
HF_INLINE Vec<T> square_root(Vec<T> v) {
    for (int i = 0; i < kWidth<T>; ++i) v[i] = __builtin_sqrtf(v[i]);
    return v;
}

// An array of rows as what is asked for ahead: where its rows begin (null: nowhere) and the bytes of one.
struct RowBytes {
    const void* data;
    int64_t bytes;
    const char* row(int64_t i) const { return static_cast<const char*>(data) + i * bytes; }
};

template <class T>
HF_INLINE RowBytes row_bytes(const Matrix<T>& m) {
    return {m.data, m.cols * static_cast<int64_t>(sizeof(T))};
}
HF_INLINE RowBytes first_state(const RowParameter& p) {
    if (p.state1_bf16) return {p.state1_bf16, p.state1_cols * static_cast<int64_t>(sizeof(uint16_t))};
    return {p.state1, p.state1_cols * static_cast<int64_t>(sizeof(float))};
}
HF_INLINE RowBytes second_state(const RowParameter& p) {
    return {p.state2, p.state2_cols * static_cast<int64_t>(sizeof(float))};
}

HF_INLINE void prefetch_row(const RowParameter& p, int64_t row) {
    const RowBytes first = first_state(p), second = second_state(p);
    prefetch_bytes(p.weight.row(row), row_bytes(p.weight).bytes);
    if (first.data) prefetch_bytes(first.row(row), first.bytes);
    if (second.data) prefetch_bytes(second.row(row), second.bytes);
}

// A dozen rows ahead, into the second-level cache: the first level has too few misses in flight for rows and two
// states, and its prefetches then wait for each other (a quarter of the input layer's update at 128 columns).
constexpr int64_t kRowsAhead = 12;

HF_INLINE void prefetch_row_early(const RowParameter& p, int64_t row) {
    const RowBytes first = first_state(p), second = second_state(p);
    prefetch_early(p.weight.row(row), row_bytes(p.weight).bytes);
    if (first.data) prefetch_early(first.row(row), first.bytes);
    if (second.data) prefetch_early(second.row(row), second.bytes);
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

// A row's numbers and first moments (M: float or bfloat16, null without momentum) moved by scale. The moment that
// moves a number is the one before rounding.
template <bool Momentum, class M>
HF_INLINE void move_row(const RowOptimizer& o, float scale, const float* grad, M* __restrict m,
                        float* __restrict w, int64_t n) {
    const float keep = 1.0f - o.lr * o.weight_decay, fresh = 1.0f - o.beta1;
    constexpr int width = kWidth<float>;
    int64_t i = 0;
    for (; i + width <= n; i += width) {
        Vec<float> move = load(grad + i);
        if constexpr (Momentum) {
            move = load_floats(m + i) * o.beta1 + move * fresh;
            store_floats(m + i, move);
        }
        store(w + i, load(w + i) * keep - move * scale);
    }
    for (; i < n; ++i) {
        float move = grad[i];
        if constexpr (Momentum) {
            move = as_float(m[i]) * o.beta1 + move * fresh;
            m[i] = rounded_to<M>(move);
        }
        w[i] = w[i] * keep - move * scale;
    }
}

// The lanes' sum in as few steps as it takes: a row's one root waits for it.
template <int Apart>
HF_INLINE float halved_sum(Vec<float> v) {
    if constexpr (Apart == 0) {
        return v[0];
    } else {
#if defined(__clang__)
        Vec<float> other{};
        for (int l = 0; l < Apart; ++l) other[l] = v[l + Apart];
#else
        Words take{};
        for (int l = 0; l < Apart; ++l) take[l] = l + Apart;
        const Vec<float> other = __builtin_shuffle(v, take);
#endif
        return halved_sum<Apart / 2>(v + other);
    }
}

HF_INLINE float square_length(const float* v, int64_t n) {
    Vec<float> sums[2] = {};
    int64_t i = 0;
    for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
        const Vec<float> a = load(v + i), b = load(v + i + kLanes);
        sums[0] += a * a;
        sums[1] += b * b;
    }
    float rest = 0.0f;
    for (; i < n; ++i) rest += v[i] * v[i];
    return halved_sum<kLanes / 2>(sums[0] + sums[1]) + rest;
}

// Adam or Adagrad with the mean of the row's squares for those of its numbers: one root and division a row.
template <bool Momentum>
HF_INLINE int64_t update_by_row(const RowOptimizer& o, const RowParameter& p, int64_t row, const float* grad) {
    const int64_t n = p.weight.cols;
    const float square = square_length(grad, n) / static_cast<float>(n);
    float* total = Momentum ? p.state2 + row : p.state1 + row;
    *total = Momentum ? *total * o.beta2 + square * (1.0f - o.beta2) : *total + square;
    const float scale = o.lr / (__builtin_sqrtf(*total) + o.eps);
    float* w = p.weight.row(row);
    if (Momentum && o.bf16_moment)
        move_row<Momentum>(o, scale, grad, p.state1_bf16 + row * n, w, n);
    else
        move_row<Momentum>(o, scale, grad, p.state1 + (Momentum ? row * n : 0), w, n);
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
