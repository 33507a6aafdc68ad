#include "../simd.hpp"
#include "../topk_table.hpp"
#include "hits.hpp"

namespace hashfold::HASHFOLD_ISA {
namespace {

constexpr int kGroup = 6;  // items at a time: 6 x 2 accumulators, 2 query vectors and a weight fill 16 registers
constexpr int64_t kAhead = 6;

// Scores of G items for V vectors of queries: one weight is broadcast against all queries.
template <int G, int V>
HF_INLINE void score_group(const float* panel, const Items& items, const int64_t* at, Vec<float> (&sums)[G][V]) {
    constexpr int width = kWidth<float>;
    const float* rows[G];
    for (int g = 0; g < G; ++g) {
        rows[g] = items.vectors.row(at[g]);
        for (int v = 0; v < V; ++v) sums[g][v] = splat(items.bias ? items.bias[at[g]] : 0.0f);
    }
    for (int64_t k = 0; k < items.vectors.cols; ++k) {
        Vec<float> queries[V];
        for (int v = 0; v < V; ++v) queries[v] = load(panel + (k * V + v) * width);
        for (int g = 0; g < G; ++g)
            for (int v = 0; v < V; ++v) sums[g][v] += queries[v] * rows[g][k];
    }
}

template <int G, int V>
HF_INLINE int64_t group(const float* panel, const Items& items, const int64_t* at, const float* thresholds,
                        Hit* hits) {
    Vec<float> sums[G][V];
    score_group<G, V>(panel, items, at, sums);
    return collect<G, V>(sums, at, thresholds, hits);
}

template <int V>
int64_t tile_of(const float* panel, const Items& items, const int32_t* ids, int64_t first, int64_t count,
                const float* thresholds, Hit* hits) {
    const int64_t row_bytes = items.vectors.cols * sizeof(float);
    int64_t n = 0, j = 0;
    for (; j + kGroup <= count; j += kGroup) {
        int64_t at[kGroup];
        for (int g = 0; g < kGroup; ++g) {
            at[g] = item_at(ids, first, j + g);
            if (ids && j + kGroup + g < count) prefetch_bytes(items.vectors.row(ids[j + kGroup + g]), row_bytes);
        }
        n += group<kGroup, V>(panel, items, at, thresholds, hits + n);
    }
    for (; j < count; ++j) {
        const int64_t at = item_at(ids, first, j);
        n += group<1, V>(panel, items, &at, thresholds, hits + n);
    }
    return n;
}

int64_t tile(const float* panel, int vectors, const Items& items, const int32_t* ids, int64_t first, int64_t count,
             const float* thresholds, Hit* hits) {
    return vectors == 1 ? tile_of<1>(panel, items, ids, first, count, thresholds, hits)
                        : tile_of<2>(panel, items, ids, first, count, thresholds, hits);
}

void scores(const float* x, const Items& items, const int32_t* ids, int64_t first, int64_t count, float* out) {
    const int64_t cols = items.vectors.cols;
    for (int64_t j = 0; j < count; ++j) {
        if (ids && j + kAhead < count) prefetch_bytes(items.vectors.row(ids[j + kAhead]), cols * sizeof(float));
        const int64_t at = item_at(ids, first, j);
        out[j] = dot(x, items.vectors.row(at), cols) + (items.bias ? items.bias[at] : 0.0f);
    }
}

}  // namespace

const TopKTable& topk_table() {
    static constexpr TopKTable table{kWidth<float>, tile, scores};
    return table;
}

}  // namespace hashfold::HASHFOLD_ISA
