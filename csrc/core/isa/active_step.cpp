#include "../active_step_table.hpp"
#include "math.hpp"
#include "row_update.hpp"
#include "words.hpp"

namespace hashfold::HASHFOLD_ISA {
namespace {

static_assert(kStepTile % (2 * kLanes) == 0 && 16 % kLanes == 0);

template <class P>
int64_t by_column_stride(int64_t in) {
    return padded(words_of<P>(in));
}

template <class P>
int64_t by_column_words(int64_t batch, int64_t in) {
    return batch * by_column_stride<P>(in);
}

int64_t panels_of(int64_t columns) {
    return (columns + kPanelColumns - 1) / kPanelColumns;
}

template <class P>
int64_t by_row_words(int64_t batch, int64_t in) {
    return panels_of(in) * kPanelColumns * words_of<P>(batch);
}

template <class P>
void pack_by_column(Matrix<const float> x, const PackedInput& to, int64_t begin, int64_t end) {
    const int64_t stride = by_column_stride<P>(x.cols);
    for (int64_t n = begin; n < end; ++n)
        for (int64_t q = 0; q < words_of<P>(x.cols); q += kLanes)
            store(to.by_column + n * stride + q, words_along<P>(x.row(n), q * P::kPerWord, x.cols));
}

template <class P>
void pack_by_row(Matrix<const float> x, const PackedInput& to, int64_t begin, int64_t end) {
    const int64_t depth = words_of<P>(x.rows);
    for (int64_t panel = begin; panel < end; ++panel)
        for (int64_t m = 0; m < depth; ++m) {
            const int64_t n = m * P::kPerWord;
            const float* second = n + 1 < x.rows ? x.row(n + 1) : nullptr;
            panel_row<P>(x.row(n), second, panel * kPanelColumns, x.cols,
                         to.by_row + (panel * depth + m) * kPanelColumns);
        }
}

// panel (depth x kPanelColumns): word q of active row begin + j at [q - from][j], zeros beyond `valid` rows.
template <class P>
HF_INLINE void transposed_panel(Matrix<const float> weight, const TileRows& rows_of, int64_t begin, int64_t valid,
                                int64_t from, int64_t depth, uint32_t* panel) {
    for (int64_t half = 0; half < kPanelColumns; half += kLanes) {
        const float* rows[kLanes];
        for (int64_t j = 0; j < kLanes; ++j)
            rows[j] = half + j < valid ? weight.row(rows_of[begin + half + j]) : nullptr;
        for (int64_t q = 0; q < depth; q += kLanes) {
            Words block[kLanes];
#pragma GCC unroll 16
            for (int j = 0; j < kLanes; ++j)
                block[j] = rows[j] ? words_along<P>(rows[j], (from + q) * P::kPerWord, weight.cols) : Words{};
            transpose_from<1>(block);
            for (int64_t k = 0; k < least<int64_t>(kLanes, depth - q); ++k)
                store(panel + (q + k) * kPanelColumns + half, block[k]);
        }
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
          a_call_((end - begin + calls - 1) / calls) {}

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

HF_INLINE int64_t tiles_of(int64_t rows) {
    return rows / kWordTileRows + 1;
}
HF_INLINE int64_t chunks_of(int64_t words) {
    return (words + kWordDepth - 1) / kWordDepth;
}

template <class P>
void logits(const PackedInput& x, Matrix<const float> weight, const TileRows& rows, float* tile, uint32_t* panel) {
    const int64_t words = words_of<P>(x.in);
    const StridedWords input{x.by_column, by_column_stride<P>(x.in), 1};
    for (int64_t j = 0; j < rows.count; j += kPanelColumns) {
        const int64_t valid = least(kPanelColumns, rows.count - j), next = rows.begin + j + valid;
        RowsAhead next_panel(rows, next, least(next + kPanelColumns, rows.ahead), row_bytes(weight), {},
                             tiles_of(x.batch) * chunks_of(words));
        for (int64_t from = 0; from < words; from += kWordDepth) {
            const int64_t depth = least(kWordDepth, words - from);
            transposed_panel<P>(weight, rows, j, valid, from, depth, panel);
            word_tiles<P, 2>(input.from(0, from), x.batch, panel, depth, tile + j, kStepTile, from > 0,
                             next_panel);
        }
    }
    const int64_t computed = (rows.count + kPanelColumns - 1) / kPanelColumns * kPanelColumns;
    for (int64_t n = 0; computed < kStepTile && n < x.batch; ++n)
        for (int64_t j = computed; j < kStepTile; j += kLanes) store(tile + n * kStepTile + j, Vec<float>{});
}

// The scratch of a backward tile, in words: the tile of gradients packed to be summed over its columns
// (by_label) and over its rows (by_row), a panel, and the gradients of the weight's rows.
template <class P>
struct BackwardScratch {
    uint32_t* panel;
    uint32_t* by_label;
    uint32_t* by_row;
    float* rows;
    BackwardScratch(uint32_t* memory, int64_t batch) {
        panel = memory;
        by_label = panel + kWordDepth * kPanelColumns;
        by_row = by_label + batch * (kStepTile / P::kPerWord);
        rows = reinterpret_cast<float*>(by_row + words_of<P>(batch) * kStepTile);
    }
};

template <class P>
int64_t scratch_words(int64_t batch, int64_t in) {
    return kWordDepth * kPanelColumns + batch * (kStepTile / P::kPerWord) + words_of<P>(batch) * kStepTile +
           kStepTile * padded(in);
}

template <class P>
HF_INLINE void pack_gradient(const float* tile, int64_t batch, const BackwardScratch<P>& to) {
    constexpr int64_t across = kStepTile / P::kPerWord;
    for (int64_t n = 0; n < batch; n += P::kPerWord) {
        const float* first = tile + n * kStepTile;
        const float* second = n + 1 < batch ? first + kStepTile : nullptr;
        for (int64_t r = n; r < least(n + P::kPerWord, batch); ++r)
            for (int64_t q = 0; q < across; q += kLanes)
                store(to.by_label + r * across + q, P::along(tile + r * kStepTile + q * P::kPerWord));
        uint32_t* pairs = to.by_row + n / P::kPerWord * kStepTile;
        for (int64_t j = 0; j < kStepTile; j += kLanes)
            store(pairs + j, P::across(first + j, second ? second + j : nullptr));
    }
}

template <class P>
HF_INLINE void add_grad_x(const PackedInput& x, const TileRows& rows, const MovedLayer& layer,
                          const BackwardScratch<P>& scratch, float* grad_x, bool add) {
    constexpr int64_t across = kStepTile / P::kPerWord;
    const int64_t depth = words_of<P>(rows.count);
    const float* weights[kStepTile + 1];
    for (int64_t j = 0; j < rows.count; ++j) weights[j] = layer.weight.weight.row(rows[j]);
    weights[rows.count] = nullptr;
    RowsAhead states(rows, rows.begin, rows.begin + rows.count, first_state(layer.weight),
                     second_state(layer.weight), panels_of(x.in) * tiles_of(x.batch));
    for (int64_t at = 0; at < x.in; at += kPanelColumns) {
        for (int64_t q = 0; q < depth; ++q)
            panel_row<P>(weights[q * P::kPerWord], weights[least(q * P::kPerWord + 1, rows.count)], at, x.in,
                         scratch.panel + q * kPanelColumns);
        panel_product<P>({scratch.by_label, across, 1}, x.batch, scratch.panel, depth, grad_x + at, padded(x.in),
                         x.in - at, add, states);
    }
}

template <class P>
HF_INLINE void weight_gradient(const PackedInput& x, const TileRows& rows, const MovedLayer& layer,
                               const BackwardScratch<P>& scratch) {
    const int64_t words = words_of<P>(x.batch), next = rows.begin + rows.count;
    const StridedWords gradient{scratch.by_row, 1, kStepTile};
    RowsAhead next_tile(rows, next, least(next + kStepTile, rows.ahead), row_bytes(layer.weight.weight), {},
                        panels_of(x.in) * chunks_of(words) * tiles_of(rows.count));
    for (int64_t at = 0; at < x.in; at += kPanelColumns)
        for (int64_t from = 0; from < words; from += kWordDepth)
            panel_product<P>(gradient.from(0, from), rows.count, x.by_row + at * words + from * kPanelColumns,
                             least(kWordDepth, words - from), scratch.rows + at, padded(x.in), x.in - at, from > 0,
                             next_tile);
}

HF_INLINE void move_bias(const MovedLayer& layer, const float* tile, int64_t batch, const TileRows& rows) {
    for (int64_t j = 0; j < rows.count; j += kLanes) {
        Vec<float> sums{};
        for (int64_t n = 0; n < batch; ++n) sums += load(tile + n * kStepTile + j);
        for (int64_t l = 0; l < least<int64_t>(kLanes, rows.count - j); ++l)
            update_entry(layer.bias_rule, layer.bias, rows[j + l], sums[l]);
    }
}

template <class P>
void backward(const PackedInput& x, const float* tile, const TileRows& rows, const MovedLayer& layer,
              float* grad_x, bool add, uint32_t* memory) {
    const BackwardScratch<P> scratch(memory, x.batch);
    pack_gradient<P>(tile, x.batch, scratch);
    if (layer.bias.weight.data)
        for (int64_t j = 0; j < rows.count; ++j) prefetch_row(layer.bias, rows[j]);
    add_grad_x<P>(x, rows, layer, scratch, grad_x, add);
    weight_gradient<P>(x, rows, layer, scratch);
    for (int64_t j = 0; j < rows.count; ++j)
        update_row(layer.rule, layer.weight, rows[j], scratch.rows + j * padded(x.in));
    if (layer.bias.weight.data) move_bias(layer, tile, x.batch, rows);
}

constexpr float kLowest = -3.0e38f;  // below any logit; padding

void softmax_forward(float* tile, int64_t batch, int64_t count, const float* shift, float* tops, float* sums) {
    float padding[kStepTile];  // sends what is beyond count to zero
    for (int64_t j = 0; j < kStepTile; ++j) padding[j] = j < count ? shift[j] : kLowest;
    for (int64_t first = 0; first < batch; first += kLanes) {  // kLanes rows, whose lanes are put together at once
        const int64_t last = least<int64_t>(kLanes, batch - first) - 1;
        Vec<float> of_row[kLanes];
        for (int64_t l = 0; l < kLanes; ++l) {
            const float* row = tile + (first + least(l, last)) * kStepTile;
            of_row[l] = splat(kLowest);
            for (int64_t j = 0; j < kStepTile; j += kLanes) {
                const Vec<float> v = load(row + j) + load(padding + j);
                of_row[l] = v > of_row[l] ? v : of_row[l];
            }
        }
        store(tops + first, lanes_of_each<1>(of_row, [](Vec<float> a, Vec<float> b) { return a > b ? a : b; }));
        for (int64_t l = 0; l <= last; ++l) {
            float* row = tile + (first + l) * kStepTile;
            of_row[l] = Vec<float>{};
            for (int64_t j = 0; j < kStepTile; j += kLanes) {
                const Vec<float> e = exponential(load(row + j) + load(padding + j) - tops[first + l]);
                of_row[l] += e;
                store(row + j, e);
            }
        }
        store(sums + first, lanes_of_each<1>(of_row, [](Vec<float> a, Vec<float> b) { return a + b; }));
    }
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

void softmax_backward(const float* tile, int64_t batch, const float* tops, const float* top,
                      const float* scale_of_row, float* gradient) {
    for (int64_t first = 0; first < batch; first += kLanes) {
        const Vec<float> factors =
            exponential(load(tops + first) - load(top + first)) * load(scale_of_row + first);
        for (int64_t n = first; n < least(first + kLanes, batch); ++n)
            for (int64_t j = 0; j < kStepTile; j += kLanes)
                store(gradient + n * kStepTile + j, load(tile + n * kStepTile + j) * factors[n - first]);
    }
}

float sigmoid(float* tile, int64_t batch, const float* shift, const float* weights, float scale) {
    Vec<float> loss{};
    for (int64_t j = 0; j < kStepTile; j += kLanes) {
        const Vec<float> w = load(weights + j), scaled = w * scale, bias = load(shift + j);
        for (int64_t first = 0; first < batch; first += 64) {
            // The logarithm of a product of 64 factors in [1, 2] instead of 64 logarithms.
            Vec<float> product = splat(1.0f), positive{};
            for (int64_t n = first; n < least(first + 64, batch); ++n) {
                float* at = tile + n * kStepTile + j;
                const Vec<float> v = load(at) + bias;
                const Vec<float> e = exponential(v < 0.0f ? v : -v);  // e^-|v|, never above 1
                const Vec<float> one_plus = e + 1.0f, inverse = 1.0f / one_plus;
                product *= one_plus;
                positive += v < 0.0f ? Vec<float>{} : v;
                store(at, scaled * (v < 0.0f ? e * inverse : inverse));
            }
            loss += w * (positive + logarithm(product));
        }
    }
    return sum<float>(loss);
}

template <class P>
constexpr PackedProducts products{by_column_words<P>, by_row_words<P>, scratch_words<P>, pack_by_column<P>,
                                  pack_by_row<P>,     logits<P>,       backward<P>};

}  // namespace

const ActiveStepTable& active_step_table() {
    static constexpr ActiveStepTable table{products<Fp32>,
                                           products<Bf16>,
                                           {softmax_forward, softmax_total, softmax_backward, sigmoid},
                                           kPanelColumns};
    return table;
}

}  // namespace hashfold::HASHFOLD_ISA
