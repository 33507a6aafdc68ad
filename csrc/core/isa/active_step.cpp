#include "../active_step_table.hpp"
#include "math.hpp"
#include "row_update.hpp"
#include "words.hpp"

namespace hashfold::HASHFOLD_ISA {
namespace {

static_assert(kStepTile % kWordTileRows == 0 && 16 % kLanes == 0);

// What the kernels write of a tile's row: the batch in whole vectors.
HF_INLINE int64_t in_vectors(int64_t batch) {
    return (batch + kLanes - 1) / kLanes * kLanes;
}

template <class P>
int64_t of_rows_words(int64_t batch, int64_t in) {
    return panels_of(batch) * kPanelColumns * words_of<P>(in);
}

template <class P>
int64_t of_columns_words(int64_t batch, int64_t in) {
    return panels_of(in) * kPanelColumns * words_of<P>(batch);
}

// panel (words x kPanelColumns): word q of row begin + j of x at [q][j], zeros beyond x.
template <class P>
HF_INLINE void transposed_panel(Matrix<const float> x, int64_t begin, uint32_t* panel) {
    const int64_t words = words_of<P>(x.cols);
    for (int64_t half = 0; half < kPanelColumns; half += kLanes)
        for (int64_t q = 0; q < words; q += kLanes) {
            Words block[kLanes];
#pragma GCC unroll 16
            for (int j = 0; j < kLanes; ++j) {
                const int64_t n = begin + half + j;
                block[j] = n < x.rows ? words_along<P>(x.row(n), q * P::kPerWord, x.cols) : Words{};
            }
            transpose_from<1>(block);
            for (int64_t k = 0; k < least<int64_t>(kLanes, words - q); ++k)
                store(panel + (q + k) * kPanelColumns + half, block[k]);
        }
}

template <class P>
void pack_rows(Matrix<const float> x, const PackedInput& to, int64_t begin, int64_t end) {
    const int64_t size = kPanelColumns * words_of<P>(x.cols);
    for (int64_t panel = begin; panel < end; ++panel)
        transposed_panel<P>(x, panel * kPanelColumns, to.of_rows + panel * size);
}

template <class P>
void pack_columns(Matrix<const float> x, const PackedInput& to, int64_t begin, int64_t end) {
    const int64_t depth = words_of<P>(x.rows);
    for (int64_t panel = begin; panel < end; ++panel)
        for (int64_t m = 0; m < depth; ++m) {
            const int64_t n = m * P::kPerWord;
            const float* second = n + 1 < x.rows ? x.row(n + 1) : nullptr;
            panel_row<P>(x.row(n), second, panel * kPanelColumns, x.cols,
                         to.of_columns + (panel * depth + m) * kPanelColumns);
        }
}

// Rows [begin, end) of an active set, of one or two arrays (null: none), prefetched bit by bit: in `calls` calls.
class RowsAhead {
  public:
    RowsAhead(const TileRows& rows, int64_t begin, int64_t end, RowBytes array, RowBytes other, int64_t calls)
        : rows_(rows),
          next_(begin),
          end_(end),
          array_(array),
          other_(other),
          a_call_(calls ? (end - begin + calls - 1) / calls : 0) {}

    void operator()() {
        for (int64_t n = 0; n < a_call_ && next_ < end_; ++n, ++next_) {
            if (array_.data) prefetch_early(array_.row(rows_.active[next_]), array_.bytes);
            if (other_.data) prefetch_early(other_.row(rows_.active[next_]), other_.bytes);
        }
    }

  private:
    const TileRows& rows_;
    int64_t next_;
    const int64_t end_;
    const RowBytes array_, other_;
    const int64_t a_call_;
};

template <class P>
void logits(const PackedInput& x, Matrix<const float> weight, const TileRows& rows, float* tile,
            uint32_t* scratch) {
    const int64_t words = words_of<P>(x.in), next = rows.begin + rows.count;
    for (int64_t j = 0; j < rows.count; ++j)
        for (int64_t q = 0; q < words; q += kLanes)
            store(scratch + RowLines::line(j, q, words),
                  words_along<P>(weight.row(rows[j]), q * P::kPerWord, weight.cols));
    const RowLines weights{scratch, words};
    RowsAhead next_tile(rows, next, least(next + kStepTile, rows.ahead), row_bytes(weight), {},
                        panels_of(x.batch) * chunks_of(words) * tiles_of(rows.count));
    for (int64_t at = 0; at < x.batch; at += kPanelColumns)
        for (int64_t from = 0; from < words; from += kWordDepth)
            panel_product<P>(weights.from(0, from), rows.count, x.of_rows + at * words + from * kPanelColumns,
                             least(kWordDepth, words - from), tile + at, stride_of(x.batch), x.batch - at,
                             from > 0, next_tile);
}

// The scratch of a backward tile, in words: the tile of gradients packed to be summed over the batch (by_label)
// and over its active rows (by_row), a panel, and the gradients of the weight's rows and of the bias.
template <class P>
struct BackwardScratch {
    uint32_t* panel;
    uint32_t* by_label;
    uint32_t* by_row;
    float* rows;
    float* bias;

    BackwardScratch(uint32_t* memory, int64_t batch, int64_t in) {
        panel = memory;
        by_label = panel + kWordDepth * kPanelColumns;
        by_row = by_label + RowLines::words(kStepTile, words_of<P>(batch));
        rows = reinterpret_cast<float*>(by_row + words_of<P>(kStepTile) * stride_of(batch));
        bias = rows + kStepTile * padded(in);
    }
    static int64_t words(int64_t batch, int64_t in) {
        return kWordDepth * kPanelColumns + RowLines::words(kStepTile, words_of<P>(batch)) +
               words_of<P>(kStepTile) * stride_of(batch) + kStepTile * (padded(in) + 1);
    }
};

template <class P>
int64_t scratch_words(int64_t batch, int64_t in) {
    return most(BackwardScratch<P>::words(batch, in), RowLines::words(kStepTile, words_of<P>(in)));
}

// One row of the tile in words along the batch; returns its sum.
template <class P>
HF_INLINE float pack_label(const float* row, int64_t batch, int64_t j, uint32_t* by_label) {
    const int64_t words = words_of<P>(batch), whole = in_vectors(batch);
    Vec<float> sums{};
    for (int64_t q = 0; q < words; q += kLanes) {
        const int64_t n = q * P::kPerWord;
        store(by_label + RowLines::line(j, q, words), words_along<P>(row, n, whole));
        for (int64_t k = n; k < least(n + P::kPerWord * kLanes, whole); k += kLanes) sums += load(row + k);
    }
    return sum<float>(sums);
}

template <class P>
HF_INLINE void pack_gradient(const float* tile, int64_t batch, int64_t count, const BackwardScratch<P>& to) {
    const int64_t stride = stride_of(batch);
    for (int64_t j = 0; j < count; j += P::kPerWord) {
        const int64_t last = least(j + P::kPerWord, count);
        for (int64_t r = j; r < last; ++r) to.bias[r] = pack_label<P>(tile + r * stride, batch, r, to.by_label);
        const float* first = tile + j * stride;
        const float* second = j + 1 < count ? first + stride : nullptr;
        uint32_t* pairs = to.by_row + j / P::kPerWord * stride;
        for (int64_t n = 0; n < batch; n += kLanes)
            store(pairs + n, P::across(first + n, second ? second + n : nullptr));
    }
}

template <class P>
HF_INLINE void add_grad_x(const PackedInput& x, const TileRows& rows, const MovedLayer& layer,
                          const BackwardScratch<P>& scratch, float* grad_x, bool add) {
    const int64_t depth = words_of<P>(rows.count);
    const WordColumns gradient{scratch.by_row, stride_of(x.batch)};
    const float* weights[kStepTile + 1];
    for (int64_t j = 0; j < rows.count; ++j) weights[j] = layer.weight.weight.row(rows[j]);
    weights[rows.count] = nullptr;
    RowsAhead states(rows, rows.begin, rows.begin + rows.count, first_state(layer.weight),
                     second_state(layer.weight), panels_of(x.in) * tiles_of(x.batch));
    for (int64_t at = 0; at < x.in; at += kPanelColumns) {
        for (int64_t q = 0; q < depth; ++q)
            panel_row<P>(weights[q * P::kPerWord], weights[least(q * P::kPerWord + 1, rows.count)], at, x.in,
                         scratch.panel + q * kPanelColumns);
        panel_product<P>(gradient, x.batch, scratch.panel, depth, grad_x + at, padded(x.in), x.in - at, add,
                         states);
    }
}

template <class P>
HF_INLINE void weight_gradient(const PackedInput& x, const TileRows& rows, const MovedLayer& layer,
                               const BackwardScratch<P>& scratch) {
    const int64_t words = words_of<P>(x.batch), next = rows.begin + rows.count;
    const RowLines gradient{scratch.by_label, words};
    RowsAhead next_tile(rows, next, least(next + kStepTile, rows.ahead), row_bytes(layer.weight.weight), {},
                        panels_of(x.in) * chunks_of(words) * tiles_of(rows.count));
    for (int64_t at = 0; at < x.in; at += kPanelColumns)
        for (int64_t from = 0; from < words; from += kWordDepth)
            panel_product<P>(gradient.from(0, from), rows.count, x.of_columns + at * words + from * kPanelColumns,
                             least(kWordDepth, words - from), scratch.rows + at, padded(x.in), x.in - at, from > 0,
                             next_tile);
}

template <class P>
void backward(const PackedInput& x, const float* tile, const TileRows& rows, const MovedLayer& layer,
              float* grad_x, bool add, uint32_t* memory) {
    const BackwardScratch<P> scratch(memory, x.batch, x.in);
    if (layer.bias.weight.data)
        for (int64_t j = 0; j < rows.count; ++j) prefetch_row(layer.bias, rows[j]);
    pack_gradient<P>(tile, x.batch, rows.count, scratch);
    add_grad_x<P>(x, rows, layer, scratch, grad_x, add);
    weight_gradient<P>(x, rows, layer, scratch);
    for (int64_t j = 0; j < rows.count; ++j)
        update_row(layer.rule, layer.weight, rows[j], scratch.rows + j * padded(x.in));
    if (layer.bias.weight.data)
        for (int64_t j = 0; j < rows.count; ++j)
            update_entry(layer.bias_rule, layer.bias, rows[j], scratch.bias[j]);
}

constexpr float kLowest = -3.0e38f;  // below any logit

// V vectors of the batch at once, whose sums then do not wait for each other.
template <int V>
HF_INLINE void softmax_columns(float* tile, int64_t stride, int64_t count, const float* shift, float* tops,
                               float* sums) {
    Vec<float> top[V], total[V] = {};
    for (int v = 0; v < V; ++v) top[v] = splat(kLowest);
    for (int64_t j = 0; j < count; ++j)
        for (int v = 0; v < V; ++v) {
            const Vec<float> z = load(tile + j * stride + v * kLanes) + shift[j];
            top[v] = z > top[v] ? z : top[v];
        }
    for (int64_t j = 0; j < count; ++j)
        for (int v = 0; v < V; ++v) {
            float* at = tile + j * stride + v * kLanes;
            const Vec<float> e = exponential_below_zero(load(at) + shift[j] - top[v]);
            total[v] += e;
            store(at, e);
        }
    for (int v = 0; v < V; ++v) {
        store(tops + v * kLanes, top[v]);
        store(sums + v * kLanes, total[v]);
    }
}

void softmax_forward(float* tile, int64_t batch, int64_t count, const float* shift, float* tops, float* sums) {
    const int64_t stride = stride_of(batch), last = in_vectors(batch);
    int64_t n = 0;
    for (; n + 4 * kLanes <= last; n += 4 * kLanes)
        softmax_columns<4>(tile + n, stride, count, shift, tops + n, sums + n);
    for (; n < last; n += kLanes) softmax_columns<1>(tile + n, stride, count, shift, tops + n, sums + n);
}

void softmax_total(const float* tops, const float* sums, int64_t tiles, int64_t batch, float* top, float* total) {
    const int64_t stride = padded(batch);
    for (int64_t n = 0; n < stride; n += kLanes) {
        Vec<float> highest = splat(kLowest), all{};
        for (int64_t t = 0; t < tiles; ++t) {
            const Vec<float> v = load(tops + t * stride + n);
            highest = v > highest ? v : highest;
        }
        for (int64_t t = 0; t < tiles; ++t)
            all += load(sums + t * stride + n) * exponential(load(tops + t * stride + n) - highest);
        store(top + n, highest);
        store(total + n, all);
    }
}

void softmax_backward(const float* tile, int64_t batch, int64_t count, const float* tops, const float* top,
                      const float* scale_of_row, float* gradient) {
    constexpr int64_t kBlock = 16 * kLanes;
    const int64_t stride = stride_of(batch);
    for (int64_t first = 0; first < batch; first += kBlock) {
        const int64_t end = least(first + kBlock, batch);
        float factors[kBlock];
        for (int64_t n = first; n < end; n += kLanes)
            store(factors + n - first,
                  exponential_below_zero(load(tops + n) - load(top + n)) * load(scale_of_row + n));
        for (int64_t j = 0; j < count; ++j)
            for (int64_t n = first; n < end; n += kLanes)
                store(gradient + j * stride + n, load(tile + j * stride + n) * load(factors + n - first));
    }
}

// One row of a tile; adds its softplus terms to `loss`.
HF_INLINE void sigmoid_row(float* row, int64_t batch, float shift, float weight, float scale, Vec<float>& loss) {
    const float scaled = weight * scale;
    for (int64_t first = 0; first < batch; first += 64 * kLanes) {
        // The logarithm of a product of 64 factors in [1, 2] instead of 64 logarithms.
        Vec<float> product = splat(1.0f), positive{};
        for (int64_t n = first; n < least(first + 64 * kLanes, batch); n += kLanes) {
            const Vec<float> v = load(row + n) + shift;
            const Vec<float> e = exponential_below_zero(v < 0.0f ? v : -v);  // e^-|v|
            const Vec<float> one_plus = e + 1.0f, inverse = 1.0f / one_plus;
            Vec<float> factor = one_plus, rise = v < 0.0f ? Vec<float>{} : v;
            Vec<float> slope = scaled * (v < 0.0f ? e * inverse : inverse);
            for (int l = kLanes - 1; n + l >= batch; --l) factor[l] = 1.0f, rise[l] = slope[l] = 0.0f;
            product *= factor;
            positive += rise;
            store(row + n, slope);
        }
        loss += weight * (positive + logarithm(product));
    }
}

float sigmoid(float* tile, int64_t batch, int64_t count, const float* shift, const float* weights, float scale) {
    Vec<float> loss{};
    for (int64_t j = 0; j < count; ++j)
        sigmoid_row(tile + j * stride_of(batch), batch, shift[j], weights[j], scale, loss);
    return sum<float>(loss);
}

template <class P>
constexpr PackedProducts products{of_rows_words<P>, of_columns_words<P>, scratch_words<P>, pack_rows<P>,
                                  pack_columns<P>,  logits<P>,           backward<P>};

}  // namespace

const ActiveStepTable& active_step_table() {
    static constexpr ActiveStepTable table{products<Fp32>,
                                           products<Bf16>,
                                           {softmax_forward, softmax_total, softmax_backward, sigmoid},
                                           kPanelColumns};
    return table;
}

}  // namespace hashfold::HASHFOLD_ISA
