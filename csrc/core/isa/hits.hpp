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

// Appends the scores above the thresholds; most vectors have none.
template <int V>
HF_INLINE int64_t collect(const Vec<float> (&scores)[V], int64_t item, const float* thresholds, Hit* hits) {
    constexpr int width = kWidth<float>;
    int64_t n = 0;
    for (int v = 0; v < V; ++v) {
        const Vec<float> limit = load(thresholds + v * width);
        if (!any((Vec<int32_t>)((scores[v] > limit) | ((limit != limit) & (scores[v] == scores[v]))))) continue;
        for (int lane = 0; lane < width; ++lane)
            if (scores[v][lane] > limit[lane] ||
                (limit[lane] != limit[lane] && scores[v][lane] == scores[v][lane]))
                hits[n++] = {static_cast<int32_t>(item), v * width + lane, scores[v][lane]};
    }
    return n;
}

}  // namespace hashfold::HASHFOLD_ISA
