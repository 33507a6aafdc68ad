#include "active_linear.hpp"

#include <algorithm>
#include <memory>

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

// At most this many partial sums of the batch's size; fixed, so that the result does not depend on the
// number of threads.
constexpr int64_t kMostParts = 8;

// The active rows are cut into parts, each summed into a copy of `total` of its own; the copies are
// added up in order.
template <class T, class Body>
void summed_over_parts(int64_t count, Matrix<T> total, const Body& body) {
    const int64_t size = total.rows * total.cols, tiles = (count + kActiveTile - 1) / kActiveTile;
    const int64_t parts = std::clamp<int64_t>(tiles / 8, 1, kMostParts);
    std::unique_ptr<T[]> sums(new T[(parts - 1) * size]());
    std::fill_n(total.data, size, T(0));
    parallel_chunks(parts, 1, [&](int64_t part, int64_t, int) {
        const int64_t begin = tiles * part / parts * kActiveTile;
        const int64_t end = std::min(count, tiles * (part + 1) / parts * kActiveTile);
        body(begin, end, part == 0 ? total : Matrix<T>{sums.get() + (part - 1) * size, total.rows, total.cols});
    });
    for (int64_t part = 0; part + 1 < parts; ++part)
        for (int64_t i = 0; i < size; ++i) total.data[i] += sums[part * size + i];
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
    summed_over_parts(active.count, grad_x, [&](int64_t begin, int64_t end, Matrix<T> out) {
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

#define HASHFOLD_INSTANTIATE(T)                                                                    \
    template void active_linear(Matrix<const T>, Matrix<const T>, const T*, ActiveIds, Matrix<T>); \
    template void active_linear_grad_x(Matrix<const T>, Matrix<const T>, ActiveIds, Matrix<T>);    \
    template void active_linear_grad_weight(Matrix<const T>, Matrix<const T>, ActiveIds, Matrix<T>, T*);
HASHFOLD_INSTANTIATE(float)
HASHFOLD_INSTANTIATE(double)

}  // namespace hashfold
