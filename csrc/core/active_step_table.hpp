// What active_step needs from each instruction set.
//
// A tile holds the logits, or their gradients, of kStepTile active rows: (kStepTile x stride_of(batch)), a row of
// the tile for each active row, the batch side by side. Rows of other blocks are padded to a multiple of 16
// floats, so that no product has edges.
#pragma once

#include "active_step.hpp"
#include "isa.hpp"

namespace hashfold {

inline constexpr int64_t kStepTile = 96;
inline constexpr int64_t padded(int64_t columns) {
    return (columns + 15) / 16 * 16;
}
// An odd number of cache lines: the rows of a tile, read down a column, would else fall into few cache sets.
inline constexpr int64_t stride_of(int64_t batch) {
    return (padded(batch) / 16 | 1) * 16;
}

// x packed in two ways, in panels of kPanelColumns columns: of x's rows, for products that sum over its columns
// (of_rows), and of its columns, for those that sum over the batch (of_columns).
struct PackedInput {
    int64_t batch, in;
    uint32_t* of_rows;
    uint32_t* of_columns;
};

// The active rows of a tile: `count` from `begin` on. Those behind them, up to `ahead`, come next on the same
// worker: the kernels prefetch them.
struct TileRows {
    ActiveIds active;
    int64_t begin, count, ahead;
    int64_t number() const { return begin / kStepTile; }
    int64_t operator[](int64_t j) const { return active[begin + j]; }
};

struct PackedProducts {
    // Words of the two packings, and of the scratch of `logits` and `backward`.
    int64_t (*of_rows_words)(int64_t batch, int64_t in);
    int64_t (*of_columns_words)(int64_t batch, int64_t in);
    int64_t (*scratch_words)(int64_t batch, int64_t in);
    // Panels [begin, end).
    void (*pack_rows)(Matrix<const float> x, const PackedInput& to, int64_t begin, int64_t end);
    void (*pack_columns)(Matrix<const float> x, const PackedInput& to, int64_t begin, int64_t end);
    // tile (rows.count x batch) = W[ids] x^T for the active rows, without the bias; what pads the batch is zero.
    void (*logits)(const PackedInput& x, Matrix<const float> weight, const TileRows& rows, float* tile,
                   uint32_t* scratch);
    // From a tile of gradients, zero where it pads the batch: grad_x (batch x padded(in)) set or added to, and the
    // active rows moved.
    void (*backward)(const PackedInput& x, const float* tile, const TileRows& rows, const MovedLayer& layer,
                     float* grad_x, bool add, uint32_t* scratch);
};

// Tiles in, tiles out; shift (kStepTile) is added to the logits: the bias, for softmax with log(weights).
// tops, sums, total, scale_of_row: padded(batch) floats.
struct TileLosses {
    // tile = exp(logits + shift - top of the batch's row); tops and sums over the tile's `count` active rows.
    void (*softmax_forward)(float* tile, int64_t batch, int64_t count, const float* shift, float* tops,
                            float* sums);
    // Over `tiles` rows of (tiles x padded(batch)) tops and sums: top and total of each row of the batch.
    void (*softmax_total)(const float* tops, const float* sums, int64_t tiles, int64_t batch, float* top,
                          float* total);
    // gradient = tile * exp(tops - top) * scale_of_row
    void (*softmax_backward)(const float* tile, int64_t batch, int64_t count, const float* tops, const float* top,
                             const float* scale_of_row, float* gradient);
    // tile becomes weights * scale * sigmoid(logits + shift), zero where it pads the batch; returns the sum of
    // weights * softplus.
    float (*sigmoid)(float* tile, int64_t batch, int64_t count, const float* shift, const float* weights,
                     float scale);
};

struct ActiveStepTable {
    PackedProducts fp32;
    PackedProducts bf16;
    TileLosses losses;
    int64_t panel_columns;
};

HASHFOLD_DISPATCH(ActiveStepTable, active_step_table)

}  // namespace hashfold
