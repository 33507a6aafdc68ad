#include <cmath>
#include <vector>

#include "losses_table.hpp"
#include "parallel.hpp"

namespace hashfold {
namespace {

template <class T>
const LossesOf<T>& functions() {
    if constexpr (sizeof(T) == sizeof(float))
        return losses_table().f32;
    else
        return losses_table().f64;
}

}  // namespace

template <class T>
void sampled_softmax(Matrix<const T> logits, const T* weights, TrueColumns labels, T* loss, T scale,
                     Matrix<T> grad) {
    std::vector<T> log_weights(logits.cols);
    for (int64_t j = 0; j < logits.cols; ++j) log_weights[j] = weights[j] == T(1) ? T(0) : std::log(weights[j]);
    parallel_chunks(logits.rows, 8, [&](int64_t begin, int64_t end, int) {
        functions<T>().softmax(logits, weights, log_weights.data(), labels, loss, scale, grad, begin, end);
    });
}

template <class T>
void sampled_sigmoid(Matrix<const T> logits, const T* weights, TrueColumns labels, T* loss, T scale,
                     Matrix<T> grad) {
    parallel_chunks(logits.rows, 8, [&](int64_t begin, int64_t end, int) {
        functions<T>().sigmoid(logits, weights, labels, loss, scale, grad, begin, end);
    });
}

#define HASHFOLD_INSTANTIATE(T)                                                              \
    template void sampled_softmax(Matrix<const T>, const T*, TrueColumns, T*, T, Matrix<T>); \
    template void sampled_sigmoid(Matrix<const T>, const T*, TrueColumns, T*, T, Matrix<T>);
HASHFOLD_INSTANTIATE(float)
HASHFOLD_INSTANTIATE(double)

}  // namespace hashfold
