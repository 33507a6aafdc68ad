// What active_linear needs from each instruction set. Each function works on active rows
// [begin, end), with a scratch of scratch_size(batch, in) elements.
#pragma once

#include "active_linear.hpp"
#include "isa.hpp"

namespace hashfold {

// Active rows handled together: their gradients and those of the batch fit the cache.
inline constexpr int64_t kActiveTile = 64;

template <class T>
struct ActiveLinearOf {
    int64_t (*scratch_size)(int64_t batch, int64_t in);
    void (*forward)(Matrix<const T> x, Matrix<const T> weight, const T* bias, ActiveIds active, Matrix<T> logits,
                    T* scratch, int64_t begin, int64_t end);
    // adds to grad_x
    void (*grad_x)(Matrix<const T> grad, Matrix<const T> weight, ActiveIds active, Matrix<T> grad_x, T* scratch,
                   int64_t begin, int64_t end);
    void (*grad_weight)(Matrix<const T> grad, Matrix<const T> x, ActiveIds active, Matrix<T> grad_weight,
                        T* grad_bias, T* scratch, int64_t begin, int64_t end);
};

struct ActiveLinearTable {
    ActiveLinearOf<float> f32;
    ActiveLinearOf<double> f64;
};

HASHFOLD_DISPATCH(ActiveLinearTable, active_linear_table)

}  // namespace hashfold
