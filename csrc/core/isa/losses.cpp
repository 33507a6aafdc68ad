#include "../losses_table.hpp"
#include "math.hpp"

namespace hashfold::HASHFOLD_ISA {
namespace {

// Rows are read a vector at a time; the last, partial vector through a padded copy.
template <class T>
HF_INLINE Vec<T> load_part(const T* from, int64_t count, T padding) {
    Vec<T> v = splat(padding);
    for (int64_t i = 0; i < count; ++i) v[i] = from[i];
    return v;
}
template <class T>
HF_INLINE void store_part(T* to, Vec<T> v, int64_t count) {
    for (int64_t i = 0; i < count; ++i) to[i] = v[i];
}

// body(position, count): one call a vector, count below the width only in the last.
template <class T, class Body>
HF_INLINE void each_vector(int64_t n, const Body& body) {
    int64_t j = 0;
    for (; j + kWidth<T> <= n; j += kWidth<T>) body(j, int64_t{kWidth<T>});
    if (j < n) body(j, n - j);
}
template <class T>
HF_INLINE Vec<T> read(const T* from, int64_t count, T padding) {
    return count == kWidth<T> ? load(from) : load_part(from, count, padding);
}
template <class T>
HF_INLINE void write(T* to, Vec<T> v, int64_t count) {
    if (count == kWidth<T>)
        store(to, v);
    else
        store_part(to, v, count);
}

constexpr float kLowest = -3.0e38f;  // below any logit; padding

template <class T>
void softmax(Matrix<const T> logits, const T* weights, const T* log_weights, TrueColumns labels, T* loss, T scale,
             Matrix<T> grad, int64_t begin, int64_t end) {
    (void)weights;
    const int64_t n = logits.cols;
    for (int64_t i = begin; i < end; ++i) {
        const T* z = logits.row(i);
        T* g = grad.row(i);
        const int64_t count = labels.count(i);
        loss[i] = 0;
        if (count == 0) {
            for (int64_t j = 0; j < n; ++j) g[j] = 0;
            continue;
        }
        Vec<T> tops = splat(T(kLowest));
        each_vector<T>(n, [&](int64_t j, int64_t c) {
            const Vec<T> v = read(z + j, c, T(kLowest)) + read(log_weights + j, c, T(0));
            tops = v > tops ? v : tops;
        });
        T top = tops[0];
        for (int k = 1; k < kWidth<T>; ++k) top = most(top, T(tops[k]));
        Vec<T> sums{};
        each_vector<T>(n, [&](int64_t j, int64_t c) {
            const Vec<T> e = exponential(read(z + j, c, T(kLowest)) + read(log_weights + j, c, T(0)) - top);
            sums += e;
            write(g + j, e, c);
        });
        const T total = sum<T>(sums), share = T(1) / T(count);
        for (int64_t p = labels.starts[i]; p < labels.starts[i + 1]; ++p) {
            const int64_t j = labels.positions[p];
            loss[i] += top - z[j] - log_weights[j];
        }
        loss[i] = loss[i] * share + T(__builtin_log(double(total)));
        const T factor = scale / total;
        each_vector<T>(n, [&](int64_t j, int64_t c) { write(g + j, read(g + j, c, T(0)) * factor, c); });
        for (int64_t p = labels.starts[i]; p < labels.starts[i + 1]; ++p) g[labels.positions[p]] -= scale * share;
    }
}

template <class T>
void sigmoid(Matrix<const T> logits, const T* weights, TrueColumns labels, T* loss, T scale, Matrix<T> grad,
             int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
        const T* z = logits.row(i);
        T* g = grad.row(i);
        Vec<T> sums{};
        each_vector<T>(logits.cols, [&](int64_t j, int64_t c) {
            const Vec<T> v = read(z + j, c, T(0)), w = read(weights + j, c, T(0));
            const Vec<T> e = exponential(v < T(0) ? v : -v);  // e^-|z|, never above 1
            const Vec<T> inverse = T(1) / (e + T(1));
            const Vec<T> positive = v < T(0) ? Vec<T>{} : v;
            sums += w * (positive + log_one_plus(e));
            write(g + j, w * scale * (v < T(0) ? e * inverse : inverse), c);
        });
        loss[i] = sum<T>(sums);
        for (int64_t p = labels.starts[i]; p < labels.starts[i + 1]; ++p) {
            const int64_t j = labels.positions[p];
            // A label stands for itself alone, whatever the weight of its column.
            const T own = weights[j] != T(0) ? g[j] / weights[j] : T(0);
            const T cost = z[j] > T(0) ? z[j] + T(__builtin_log1p(__builtin_exp(double(-z[j]))))
                                       : T(__builtin_log1p(__builtin_exp(double(z[j]))));
            loss[i] += (T(1) - weights[j]) * cost - z[j];
            g[j] = own - scale;
        }
    }
}

template <class T>
constexpr LossesOf<T> functions{softmax<T>, sigmoid<T>};

}  // namespace

const LossesTable& losses_table() {
    static constexpr LossesTable table{functions<float>, functions<double>};
    return table;
}

}  // namespace hashfold::HASHFOLD_ISA
