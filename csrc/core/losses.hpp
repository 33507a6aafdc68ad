// Losses over an active set that the whole batch shares, with their gradients in the same pass.
//
// A column stands for weights[j] neurons: 1 for those certain to be there, (left / drawn) for sampled
// ones. Row i's true columns are positions[starts[i]] to positions[starts[i + 1]].
#pragma once

#include <cstdint>

#include "views.hpp"

namespace hashfold {

struct TrueColumns {
    const int64_t* starts;
    const int64_t* positions;
    int64_t count(int64_t row) const { return starts[row + 1] - starts[row]; }
};

// Softmax with the log-q correction (Bengio and Senecal 2008): z = logits + log(weights),
// loss_i = mean over row i's labels of (log sum exp z_i - z_label). Rows without labels cost nothing.
// grad_ij = scale * d loss_i / d logits_ij, here and below.
template <class T>
void sampled_softmax(Matrix<const T> logits, const T* weights, TrueColumns labels, T* loss, T scale,
                     Matrix<T> grad);

// Logistic loss of every column, importance-weighted:
// loss_i = sum_j weights_j softplus(z_ij) - sum over labels of z_i,label; a label's own weight counts as 1.
template <class T>
void sampled_sigmoid(Matrix<const T> logits, const T* weights, TrueColumns labels, T* loss, T scale,
                     Matrix<T> grad);

}  // namespace hashfold
