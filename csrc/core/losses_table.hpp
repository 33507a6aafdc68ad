// What losses needs from each instruction set.
#pragma once

#include "isa.hpp"
#include "losses.hpp"

namespace hashfold {

template <class T>
struct LossesOf {
    void (*softmax)(Matrix<const T> logits, const T* weights, const T* log_weights, TrueColumns labels, T* loss,
                    T scale, Matrix<T> grad, int64_t begin, int64_t end);
    void (*sigmoid)(Matrix<const T> logits, const T* weights, TrueColumns labels, T* loss, T scale, Matrix<T> grad,
                    int64_t begin, int64_t end);
};

struct LossesTable {
    LossesOf<float> f32;
    LossesOf<double> f64;
};

HASHFOLD_DISPATCH(LossesTable, losses_table)

}  // namespace hashfold
