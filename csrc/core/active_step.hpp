// The training step of a layer whose active set the whole batch shares: logits, loss, gradient of the input,
// and the rows moved, tile of rows by tile of rows, each while it is in cache.
//
// The operands of the products are packed into 32-bit words, one float or a pair of bfloat16 each: bf16 halves
// the words and the multiplications. Weights, sums, losses and optimizer state stay fp32 in either precision.
#pragma once

#include <cstdint>

#include "active_linear.hpp"
#include "losses.hpp"
#include "row_optimizer.hpp"

namespace hashfold {

enum class Precision : int { fp32 = 0, bf16 = 1 };
enum class SampledLoss : int { softmax = 0, sigmoid = 1 };

// The layer that a step moves. bias.weight.data may be null; it is a matrix of one column.
struct MovedLayer {
    RowOptimizer rule;
    RowParameter weight;
    RowOptimizer bias_rule;
    RowParameter bias;
};

// logits (batch, active) = x W[ids]^T + b[ids]; bias may be null.
void active_forward(Precision precision, Matrix<const float> x, Matrix<const float> weight, const float* bias,
                    ActiveIds active, Matrix<float> logits);

// grad_x (batch, in) = grad W[ids], and every active row of weight (and entry of bias) moved by its gradient;
// grad_x is taken from the rows before they move.
void active_step(Precision precision, Matrix<const float> grad, Matrix<const float> x, ActiveIds active,
                 const MovedLayer& layer, Matrix<float> grad_x);

// The same with the gradient of the mean loss over rows (see losses.hpp; weights: one a column); returns that
// loss. Logits exist a tile at a time (sigmoid), or once in scratch (softmax).
double active_loss_step(Precision precision, SampledLoss loss, Matrix<const float> x, ActiveIds active,
                        const float* weights, TrueColumns labels, const MovedLayer& layer, Matrix<float> grad_x);

}  // namespace hashfold
