// One active set for the whole batch: the layer becomes dense tile products over gathered rows.
//
// logits (batch, active) = x (batch, in) W[ids]^T + b[ids], with W (out, in). In the backward pass a
// tile of rows yields its share of grad_x and its own gradient while it is in cache. active_step.hpp has the
// training step, which never builds a gradient of the size of W.
#pragma once

#include <cstdint>

#include "views.hpp"

namespace hashfold {

// The rows of a weight that take part. ids null: all of them, in order.
struct ActiveIds {
    const int32_t* ids;
    int64_t count;
    int64_t operator[](int64_t i) const { return ids ? ids[i] : i; }
};

// bias may be null.
template <class T>
void active_linear(Matrix<const T> x, Matrix<const T> weight, const T* bias, ActiveIds active, Matrix<T> logits);

// grad_x (batch, in) = grad W[ids].
template <class T>
void active_linear_grad_x(Matrix<const T> grad, Matrix<const T> weight, ActiveIds active, Matrix<T> grad_x);

// grad_weight[ids[i]] = sum over the batch of grad[:, i] * x; grad_bias[ids[i]] = sum of grad[:, i].
// Rows that are not active keep what they hold. grad_bias may be null.
template <class T>
void active_linear_grad_weight(Matrix<const T> grad, Matrix<const T> x, ActiveIds active, Matrix<T> grad_weight,
                               T* grad_bias);

}  // namespace hashfold
