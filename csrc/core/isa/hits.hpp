// What the tiles of a scan have in common: items by id or in a run, and the scores that pass the thresholds.
#pragma once

#include "../simd.hpp"
#include "../topk_table.hpp"

namespace hashfold::HASHFOLD_ISA {

HF_INLINE int64_t item_at(const int32_t* ids, int64_t first, int64_t j) {
    return ids ? ids[j] : first + j;
}

HF_INLINE bool any(Vec<int32_t> mask) {
    uint64_t words[HASHFOLD_VECTOR_BYTES / 8], all = 0;
    std::memcpy(words, &mask, sizeof mask);
    for (uint64_t word : words) all |= word;
    return all != 0;
}

// Which scores are above their limits; where a limit is NaN, those that are numbers.
HF_INLINE Vec<int32_t> passes(Vec<float> scores, Vec<float> limits) {
    return (Vec<int32_t>)(~(scores <= limits) & (scores == scores));
}

// Appends the scores of G items above the thresholds. Most groups have none.
template <int G, int V>
HF_INLINE int64_t collect(const Vec<float> (&scores)[G][V], const int64_t* at, const float* thresholds,
                          Hit* hits) {
    constexpr int width = kWidth<float>;
    Vec<float> limits[V];
    for (int v = 0; v < V; ++v) limits[v] = load(thresholds + v * width);
    Vec<int32_t> found{};
#pragma GCC unroll 12
    for (int g = 0; g < G; ++g)
        for (int v = 0; v < V; ++v) found |= passes(scores[g][v], limits[v]);
    if (!any(found)) return 0;
    int64_t n = 0;
    for (int g = 0; g < G; ++g) {
        for (int v = 0; v < V; ++v) {
            const Vec<int32_t> mask = passes(scores[g][v], limits[v]);
            if (!any(mask)) continue;
            int32_t passed[width];
            float values[width];
            std::memcpy(passed, &mask, sizeof passed);
            store(values, scores[g][v]);
            for (int lane = 0; lane < width; ++lane) {  // no branch: which lanes pass cannot be foreseen
                hits[n] = {static_cast<int32_t>(at[g]), v * width + lane, values[lane]};
                n -= passed[lane];
            }
        }
    }
    return n;
}

}  // namespace hashfold::HASHFOLD_ISA
