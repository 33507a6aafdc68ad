#include "active_step.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "active_step_table.hpp"
#include "kept.hpp"
#include "parallel.hpp"

namespace hashfold {
namespace {

const PackedProducts& products(Precision precision) {
    const ActiveStepTable& table = active_step_table();
    return precision == Precision::bf16 ? table.bf16 : table.fp32;
}

int64_t num_tiles(int64_t count) {
    return (count + kStepTile - 1) / kStepTile;
}

// What one worker needs for one tile: the tile itself, and the kernels' scratch.
struct TileScratch {
    float* tile;
    uint32_t* words;
};

TileScratch tile_scratch(const PackedProducts& kernels, int64_t batch, int64_t in) {
    thread_local Kept memory;
    const int64_t tile = kStepTile * stride_of(batch);
    auto* words = memory.get<uint32_t>(tile + kernels.scratch_words(batch, in));
    return {reinterpret_cast<float*>(words), words + tile};
}

enum Packings { for_logits = 1, for_gradients = 2 };

PackedInput packed(const PackedProducts& kernels, Matrix<const float> x, int which) {
    thread_local Kept rows, columns;
    const int64_t width = active_step_table().panel_columns;
    PackedInput to{x.rows, x.cols, nullptr, nullptr};
    if (which & for_logits) {
        to.of_rows = rows.get<uint32_t>(kernels.of_rows_words(x.rows, x.cols));
        parallel_chunks((x.rows + width - 1) / width, 2,
                        [&](int64_t begin, int64_t end, int) { kernels.pack_rows(x, to, begin, end); });
    }
    if (which & for_gradients) {
        to.of_columns = columns.get<uint32_t>(kernels.of_columns_words(x.rows, x.cols));
        parallel_chunks((x.cols + width - 1) / width, 2,
                        [&](int64_t begin, int64_t end, int) { kernels.pack_columns(x, to, begin, end); });
    }
    return to;
}

// body(rows) for tiles [first, last) of an active set.
template <class Body>
void each_tile(ActiveIds active, int64_t first, int64_t last, const Body& body) {
    const int64_t end = std::min(active.count, last * kStepTile);
    for (int64_t begin = first * kStepTile; begin < end; begin += kStepTile)
        body(TileRows{active, begin, std::min(kStepTile, end - begin), end});
}

// body(rows, scratch) for every tile of an active set.
template <class Body>
void parallel_tiles(const PackedProducts& kernels, const PackedInput& x, ActiveIds active, const Body& body) {
    const int64_t tiles = num_tiles(active.count), grain = std::clamp<int64_t>(tiles / 16, 1, 8);
    parallel_chunks(tiles, grain, [&](int64_t first, int64_t last, int) {
        const TileScratch scratch = tile_scratch(kernels, x.batch, x.in);
        each_tile(active, first, last, [&](const TileRows& rows) { body(rows, scratch); });
    });
}

// At most this many partial sums of grad_x; fixed, so that the result does not depend on the number of threads.
constexpr int64_t kMostParts = 8;

// grad_x = the sum of `parts` blocks of (batch x padded(in)).
void add_parts(const float* sums, int64_t parts, Matrix<float> grad_x) {
    const int64_t stride = padded(grad_x.cols), size = grad_x.rows * stride;
    parallel_chunks(grad_x.rows, 32, [&](int64_t begin, int64_t end, int) {
        for (int64_t n = begin; n < end; ++n) {
            float* to = grad_x.row(n);
            std::copy_n(sums + n * stride, grad_x.cols, to);
            for (int64_t part = 1; part < parts; ++part) {
                const float* from = sums + part * size + n * stride;
                for (int64_t k = 0; k < grad_x.cols; ++k) to[k] += from[k];
            }
        }
    });
}

// The backward pass: gradient(rows, scratch) fills scratch.tile with the gradients of a tile.
template <class Gradient>
void backward(const PackedProducts& kernels, const PackedInput& x, ActiveIds active, const MovedLayer& layer,
              Matrix<float> grad_x, const Gradient& gradient) {
    if (active.count == 0 || x.batch == 0) {
        std::fill_n(grad_x.data, grad_x.rows * grad_x.cols, 0.0f);
        return;
    }
    const int64_t tiles = num_tiles(active.count), parts = std::clamp<int64_t>(tiles / 4, 1, kMostParts);
    const int64_t size = x.batch * padded(x.in);
    thread_local Kept memory;
    float* sums = memory.get<float>(parts * size);
    parallel_chunks(parts, 1, [&](int64_t part, int64_t, int) {
        const int64_t first = tiles * part / parts, last = tiles * (part + 1) / parts;
        const TileScratch scratch = tile_scratch(kernels, x.batch, x.in);
        each_tile(active, first, last, [&](const TileRows& rows) {
            gradient(rows, scratch);
            kernels.backward(x, scratch.tile, rows, layer, sums + part * size, rows.number() > first,
                             scratch.words);
        });
    });
    add_parts(sums, parts, grad_x);
}

// Labels of the batch by the tile that their column lies in.
struct LabelsByTile {
    struct Label {
        int32_t row;
        int32_t column;  // its row of the tile
        int64_t position;
    };
    int64_t stride;
    std::vector<int64_t> starts;
    std::vector<Label> labels;

    LabelsByTile(TrueColumns columns, int64_t rows, int64_t tiles)
        : stride(stride_of(rows)), starts(tiles + 1), labels(columns.starts[rows]) {
        const int64_t first = columns.starts[0], last = columns.starts[rows];
        for (int64_t p = first; p < last; ++p) ++starts[columns.positions[p] / kStepTile + 1];
        for (int64_t t = 0; t < tiles; ++t) starts[t + 1] += starts[t];
        std::vector<int64_t> next(starts.begin(), starts.end() - 1);
        for (int64_t i = 0; i < rows; ++i)
            for (int64_t p = columns.starts[i]; p < columns.starts[i + 1]; ++p) {
                const int64_t column = columns.positions[p];
                labels[next[column / kStepTile]++] = {static_cast<int32_t>(i),
                                                      static_cast<int32_t>(column % kStepTile), p};
            }
    }

    // body(label, where the label's entry of the tile is)
    template <class Body>
    void each(int64_t tile, float* values, const Body& body) const {
        for (int64_t k = starts[tile]; k < starts[tile + 1]; ++k)
            body(labels[k], values[labels[k].column * stride + labels[k].row]);
    }
};

struct LossStep {
    const PackedProducts& kernels;
    const TileLosses& losses;
    PackedInput x;
    ActiveIds active;
    const float* weights;
    TrueColumns labels;
    const MovedLayer& layer;
    Matrix<float> grad_x;
    LabelsByTile by_tile;
    float scale;

    Matrix<const float> weight() const {
        const Matrix<float>& w = layer.weight.weight;
        return {w.data, w.rows, w.cols};
    }

    void set_shift(const TileRows& rows, bool with_weights, float* shift) const {
        float weight = 1.0f, log_of_weight = 0.0f;  // nearly all weights are the same
        for (int64_t j = 0; j < rows.count; ++j) {
            shift[j] = layer.bias.weight.data ? layer.bias.weight.data[rows[j]] : 0.0f;
            if (!with_weights) continue;
            if (const float w = weights[rows.begin + j]; w != weight) {
                weight = w;
                log_of_weight = std::log(w);
            }
            shift[j] += log_of_weight;
        }
    }

    double softmax() const;
    double sigmoid() const;
};

double LossStep::softmax() const {
    const int64_t tiles = num_tiles(active.count), stride = padded(x.batch),
                  tile_size = kStepTile * stride_of(x.batch);
    thread_local Kept kept;
    float* exponentials = kept.get<float>(tiles * tile_size);
    std::vector<float> tops(tiles * stride), sums(tiles * stride), top(stride), total(stride), scales(stride);
    std::vector<float> label_scores(by_tile.labels.size());
    parallel_tiles(kernels, x, active, [&](const TileRows& rows, TileScratch scratch) {
        float shift[kStepTile], *to = exponentials + rows.number() * tile_size;
        const int64_t at = rows.number() * stride;
        set_shift(rows, true, shift);
        kernels.logits(x, weight(), rows, to, scratch.words);
        by_tile.each(rows.number(), to,
                     [&](const auto& label, float z) { label_scores[label.position] = z + shift[label.column]; });
        losses.softmax_forward(to, x.batch, rows.count, shift, &tops[at], &sums[at]);
    });
    losses.softmax_total(tops.data(), sums.data(), tiles, x.batch, top.data(), total.data());
    double loss = 0.0;
    for (int64_t i = 0; i < x.batch; ++i) {
        const int64_t count = labels.count(i);
        if (count == 0) continue;  // costs nothing, and has no gradient: its scale stays zero
        double scores = 0.0;
        for (int64_t p = labels.starts[i]; p < labels.starts[i + 1]; ++p) scores += label_scores[p];
        loss += std::log(static_cast<double>(total[i])) + top[i] - scores / count;
        scales[i] = scale / total[i];
    }
    backward(kernels, x, active, layer, grad_x, [&](const TileRows& rows, TileScratch scratch) {
        losses.softmax_backward(exponentials + rows.number() * tile_size, x.batch, rows.count,
                                &tops[rows.number() * stride], top.data(), scales.data(), scratch.tile);
        by_tile.each(rows.number(), scratch.tile, [&](const auto& label, float& g) {
            g -= scale / static_cast<float>(labels.count(label.row));
        });
    });
    return loss * scale;
}

double LossStep::sigmoid() const {
    std::vector<double> loss_of_tile(num_tiles(active.count));
    std::vector<float> label_scores(by_tile.labels.size());
    backward(kernels, x, active, layer, grad_x, [&](const TileRows& rows, TileScratch scratch) {
        const float* own = weights + rows.begin;
        float shift[kStepTile];
        set_shift(rows, false, shift);
        kernels.logits(x, weight(), rows, scratch.tile, scratch.words);
        by_tile.each(rows.number(), scratch.tile,
                     [&](const auto& label, float z) { label_scores[label.position] = z + shift[label.column]; });
        double loss = losses.sigmoid(scratch.tile, x.batch, rows.count, shift, own, scale);
        by_tile.each(rows.number(), scratch.tile, [&](const auto& label, float& g) {
            // A label stands for itself alone, whatever the weight of its column.
            const double z = label_scores[label.position], w = own[label.column];
            if (w != 1.0) loss += (1.0 - w) * (std::max(z, 0.0) + std::log1p(std::exp(-std::abs(z))));
            loss -= z;
            g = (w != 0.0 ? g / own[label.column] : 0.0f) - scale;
        });
        loss_of_tile[rows.number()] = loss;
    });
    double loss = 0.0;
    for (double part : loss_of_tile) loss += part;
    return loss * scale;
}

}  // namespace

void active_forward(Precision precision, Matrix<const float> x, Matrix<const float> weight, const float* bias,
                    ActiveIds active, Matrix<float> logits) {
    const PackedProducts& kernels = products(precision);
    const PackedInput input = packed(kernels, x, for_logits);
    parallel_tiles(kernels, input, active, [&](const TileRows& rows, TileScratch scratch) {
        float shift[kStepTile] = {};
        for (int64_t j = 0; bias && j < rows.count; ++j) shift[j] = bias[rows[j]];
        kernels.logits(input, weight, rows, scratch.tile, scratch.words);
        const int64_t stride = stride_of(x.rows);
        for (int64_t n = 0; n < x.rows; ++n) {
            float* to = logits.row(n) + rows.begin;
            for (int64_t j = 0; j < rows.count; ++j) to[j] = scratch.tile[j * stride + n] + shift[j];
        }
    });
}

void active_step(Precision precision, Matrix<const float> grad, Matrix<const float> x, ActiveIds active,
                 const MovedLayer& layer, Matrix<float> grad_x) {
    const PackedProducts& kernels = products(precision);
    const PackedInput input = packed(kernels, x, for_gradients);
    backward(kernels, input, active, layer, grad_x, [&](const TileRows& rows, TileScratch scratch) {
        const int64_t stride = stride_of(x.rows);
        for (int64_t j = 0; j < rows.count; ++j) {
            float* to = scratch.tile + j * stride;
            for (int64_t n = 0; n < grad.rows; ++n) to[n] = grad.row(n)[rows.begin + j];
            std::fill(to + grad.rows, to + padded(grad.rows), 0.0f);
        }
    });
}

double active_loss_step(Precision precision, SampledLoss loss, Matrix<const float> x, ActiveIds active,
                        const float* weights, TrueColumns labels, const MovedLayer& layer, Matrix<float> grad_x) {
    const PackedProducts& kernels = products(precision);
    const LossStep step{kernels,
                        active_step_table().losses,
                        packed(kernels, x, for_logits | for_gradients),
                        active,
                        weights,
                        labels,
                        layer,
                        grad_x,
                        LabelsByTile(labels, x.rows, num_tiles(active.count)),
                        1.0f / static_cast<float>(std::max<int64_t>(1, x.rows))};
    return loss == SampledLoss::softmax ? step.softmax() : step.sigmoid();
}

}  // namespace hashfold
