#include "../active_linear_table.hpp"
#include "tiles.hpp"

namespace hashfold::HASHFOLD_ISA {
namespace {

// Below this batch the transposed panel of a tile costs more than it saves.
constexpr int64_t kSmallBatch = 4;
// Input columns summed in one go: a panel of this depth stays in the first-level cache.
constexpr int64_t kDepth = 128;

// The scratch: a panel (max(batch, kActiveTile, kDepth) x kTileCols), a tile of gradients
// (batch x kActiveTile), and a tile of weight gradients (kActiveTile x in).
template <class T>
struct Scratch {
    T* panel;
    T* grad;
    T* rows;
    Scratch(T* memory, int64_t batch) {
        panel = memory;
        grad = panel + most(most(batch, kActiveTile), kDepth) * kTileCols<T>;
        rows = grad + batch * kActiveTile;
    }
};

template <class T>
int64_t scratch_size(int64_t batch, int64_t in) {
    return most(most(batch, kActiveTile), kDepth) * kTileCols<T> + batch * kActiveTile + kActiveTile * in;
}

template <class T>
void forward_small(Matrix<const T> x, Matrix<const T> weight, const T* bias, ActiveIds active, Matrix<T> logits,
                   int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
        if (i + 4 < end) prefetch_bytes(weight.row(active[i + 4]), weight.cols * sizeof(T));
        const int64_t row = active[i];
        for (int64_t n = 0; n < x.rows; ++n)
            logits.row(n)[i] = dot(x.row(n), weight.row(row), x.cols) + (bias ? bias[row] : T(0));
    }
}

// panel (depth x kTileCols) = the transposed columns [from, from + depth) of `valid` active rows, zeros
// beyond them.
template <class T>
HF_INLINE void pack(Matrix<const T> weight, ActiveIds active, int64_t begin, int64_t valid, int64_t from,
                    int64_t depth, T* panel) {
    constexpr int64_t cols = kTileCols<T>;
    const T* rows[cols];
    for (int64_t j = 0; j < cols; ++j) rows[j] = weight.row(active[begin + least(j, valid - 1)]) + from;
    for (int64_t k = 0; k < depth; ++k)
        for (int64_t j = 0; j < cols; ++j) panel[k * cols + j] = j < valid ? rows[j][k] : T(0);
}

template <class T>
void forward(Matrix<const T> x, Matrix<const T> weight, const T* bias, ActiveIds active, Matrix<T> logits,
             T* scratch, int64_t begin, int64_t end) {
    if (x.rows < kSmallBatch) return forward_small(x, weight, bias, active, logits, begin, end);
    constexpr int64_t cols = kTileCols<T>;
    T* panel = scratch;
    for (int64_t i = begin; i < end; i += cols) {
        const int64_t valid = least(cols, end - i);
        for (int64_t j = 0; j < cols && i + cols + j < end; ++j)
            prefetch_bytes(weight.row(active[i + cols + j]), weight.cols * sizeof(T));
        for (int64_t from = 0; from < x.cols; from += kDepth) {
            const int64_t depth = least(kDepth, x.cols - from);
            pack(weight, active, i, valid, from, depth, panel);
            column_of_tiles(
                Strided<T>{x.data + from, x.cols, 1}, x.rows, [&](int64_t k) { return panel + k * cols; }, depth,
                logits.data + i, logits.cols, valid, from > 0);
        }
        if (bias)
            for (int64_t n = 0; n < x.rows; ++n)
                for (int64_t j = 0; j < valid; ++j) logits.row(n)[i + j] += bias[active[i + j]];
    }
}

// A tile's columns of grad, side by side: (batch, count).
template <class T>
HF_INLINE Matrix<const T> gather_grad(Matrix<const T> grad, int64_t begin, int64_t count, T* to) {
    for (int64_t n = 0; n < grad.rows; ++n)
        for (int64_t j = 0; j < count; ++j) to[n * count + j] = grad.row(n)[begin + j];
    return {to, grad.rows, count};
}

template <class T>
HF_INLINE void add_grad_x(Matrix<const T> tile, Matrix<const T> weight, ActiveIds active, int64_t begin,
                          Matrix<T> grad_x, T* panel) {
    const T* rows[kActiveTile];
    for (int64_t j = 0; j < tile.cols; ++j) rows[j] = weight.row(active[begin + j]);
    tiles(
        Strided<T>{tile.data, tile.cols, 1}, tile.rows, [&](int64_t k) { return rows[k]; }, tile.cols, grad_x.data,
        grad_x.cols, grad_x.cols, true, panel);
}

// out (tile.cols, in) = tile^T x
template <class T>
HF_INLINE void weight_rows(Matrix<const T> tile, Matrix<const T> x, T* out, T* panel) {
    tiles(
        Strided<T>{tile.data, 1, tile.cols}, tile.cols, [&](int64_t k) { return x.row(k); }, x.rows, out, x.cols,
        x.cols, false, panel);
}

template <class T>
HF_INLINE T column_sum(Matrix<const T> tile, int64_t j) {
    T total = 0;
    for (int64_t n = 0; n < tile.rows; ++n) total += tile.row(n)[j];
    return total;
}

template <class T>
void grad_x(Matrix<const T> grad, Matrix<const T> weight, ActiveIds active, Matrix<T> out, T* memory,
            int64_t begin, int64_t end) {
    const Scratch<T> scratch(memory, grad.rows);
    for (int64_t i = begin; i < end; i += kActiveTile) {
        const Matrix<const T> tile = gather_grad(grad, i, least(kActiveTile, end - i), scratch.grad);
        add_grad_x(tile, weight, active, i, out, scratch.panel);
    }
}

template <class T>
void grad_weight(Matrix<const T> grad, Matrix<const T> x, ActiveIds active, Matrix<T> out, T* grad_bias, T* memory,
                 int64_t begin, int64_t end) {
    const Scratch<T> scratch(memory, grad.rows);
    for (int64_t i = begin; i < end; i += kActiveTile) {
        const Matrix<const T> tile = gather_grad(grad, i, least(kActiveTile, end - i), scratch.grad);
        weight_rows(tile, x, scratch.rows, scratch.panel);
        for (int64_t j = 0; j < tile.cols; ++j) {
            T* to = out.row(active[i + j]);
            for (int64_t k = 0; k < x.cols; ++k) to[k] = scratch.rows[j * x.cols + k];
            if (grad_bias) grad_bias[active[i + j]] = column_sum(tile, j);
        }
    }
}

template <class T>
constexpr ActiveLinearOf<T> functions{scratch_size<T>, forward<T>, grad_x<T>, grad_weight<T>};

}  // namespace

const ActiveLinearTable& active_linear_table() {
    static constexpr ActiveLinearTable table{functions<float>, functions<double>};
    return table;
}

}  // namespace hashfold::HASHFOLD_ISA
