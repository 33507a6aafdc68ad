#include "active_linear.hpp"

#include <algorithm>
#include <memory>
#include <vector>

#include "active_linear_table.hpp"
#include "parallel.hpp"

namespace hashfold {
namespace {

template <class T>
const ActiveLinearOf<T>& functions() {
    if constexpr (sizeof(T) == sizeof(float))
        return active_linear_table().f32;
    else
        return active_linear_table().f64;
}

template <class T>
std::unique_ptr<T[]> scratch(int64_t batch, int64_t in) {
    return std::unique_ptr<T[]>(new T[functions<T>().scratch_size(batch, in)]);
}

// Each worker sums into its own copy of `total`; the copies are added up in the workers' order.
template <class T, class Body>
void summed_over_spans(int64_t count, Matrix<T> total, const Body& body) {
    const int64_t size = total.rows * total.cols;
    std::fill_n(total.data, size, T(0));
    std::vector<std::unique_ptr<T[]>> parts(num_threads());
    parallel_spans(count, kActiveTile, [&](int64_t begin, int64_t end, int worker) {
        if (worker == 0) return body(begin, end, total);
        parts[worker].reset(new T[size]());
        body(begin, end, Matrix<T>{parts[worker].get(), total.rows, total.cols});
    });
    for (const auto& part : parts)
        if (part)
            for (int64_t i = 0; i < size; ++i) total.data[i] += part[i];
}

}  // namespace

template <class T>
void active_linear(Matrix<const T> x, Matrix<const T> weight, const T* bias, ActiveIds active, Matrix<T> logits) {
    parallel_chunks(active.count, kActiveTile * 2, [&](int64_t begin, int64_t end, int) {
        const auto memory = scratch<T>(x.rows, x.cols);
        functions<T>().forward(x, weight, bias, active, logits, memory.get(), begin, end);
    });
}

template <class T>
void active_linear_grad_x(Matrix<const T> grad, Matrix<const T> weight, ActiveIds active, Matrix<T> grad_x) {
    summed_over_spans(active.count, grad_x, [&](int64_t begin, int64_t end, Matrix<T> out) {
        const auto memory = scratch<T>(grad.rows, weight.cols);
        functions<T>().grad_x(grad, weight, active, out, memory.get(), begin, end);
    });
}

template <class T>
void active_linear_grad_weight(Matrix<const T> grad, Matrix<const T> x, ActiveIds active, Matrix<T> grad_weight,
                               T* grad_bias) {
    parallel_chunks(active.count, kActiveTile, [&](int64_t begin, int64_t end, int) {
        const auto memory = scratch<T>(grad.rows, x.cols);
        functions<T>().grad_weight(grad, x, active, grad_weight, grad_bias, memory.get(), begin, end);
    });
}

void active_linear_step(Matrix<const float> grad, Matrix<const float> x, ActiveIds active,
                        const RowOptimizer& rule, const RowParameter& weight, const RowOptimizer& bias_rule,
                        const RowParameter& bias, Matrix<float> grad_x) {
    summed_over_spans(active.count, grad_x, [&](int64_t begin, int64_t end, Matrix<float> out) {
        const auto memory = scratch<float>(grad.rows, x.cols);
        active_linear_table().step(grad, x, active, rule, weight, bias_rule, bias, out, memory.get(), begin, end);
    });
}

#define HASHFOLD_INSTANTIATE(T)                                                                    \
    template void active_linear(Matrix<const T>, Matrix<const T>, const T*, ActiveIds, Matrix<T>); \
    template void active_linear_grad_x(Matrix<const T>, Matrix<const T>, ActiveIds, Matrix<T>);    \
    template void active_linear_grad_weight(Matrix<const T>, Matrix<const T>, ActiveIds, Matrix<T>, T*);
HASHFOLD_INSTANTIATE(float)
HASHFOLD_INSTANTIATE(double)

}  // namespace hashfold
