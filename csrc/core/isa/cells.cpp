#include "../cells_table.hpp"
#include "../simd.hpp"
#include "dot8.hpp"

namespace hashfold::HASHFOLD_ISA {
namespace {

constexpr int kLanes = kWidth<float>;
constexpr int kParts = kCellBlock / kLanes;  // vectors that hold one number of each item of a block
constexpr int kChains = 4 / kParts;          // of sums: they hide a product's latency

template <class T>
HF_INLINE Vec<T> values(const void* from, int part) {
    Vec<T> v;
    std::memcpy(&v, static_cast<const char*>(from) + part * HASHFOLD_VECTOR_BYTES, sizeof v);
    return v;
}

// Adds the products of N groups of four features, one to each chain.
template <int N>
HF_INLINE void add_groups(const uint8_t* codes, const uint8_t* block, int64_t first,
                          Vec<int32_t> (&sums)[kChains][kParts]) {
    for (int c = 0; c < N; ++c) {
        int32_t word;
        std::memcpy(&word, codes + 4 * (first + c), sizeof word);
        for (int p = 0; p < kParts; ++p)
            sums[c][p] = dot4(sums[c][p], splat(word), values<int32_t>(block + (first + c) * 4 * kCellBlock, p));
    }
}

// Scores of a block; NaN where there is no item.
HF_INLINE void score_block(const CellQuery& query, const CellShape& shape, const CellRun& run, int64_t index,
                           Vec<float> (&scores)[kParts]) {
    const int64_t groups = shape.groups();
    const uint8_t* block = run.blocks + index * shape.block_bytes();
    Vec<int32_t> sums[kChains][kParts] = {};
    int64_t k = 0;
    for (; k + kChains <= groups; k += kChains) add_groups<kChains>(query.codes, block, k, sums);
    for (; k < groups; ++k) add_groups<1>(query.codes, block, k, sums);
    const float* offsets = run.offsets + index * kCellBlock * run.num_offsets;
    for (int p = 0; p < kParts; ++p) {
        Vec<int32_t> sum = sums[0][p];
        for (int c = 1; c < kChains; ++c) sum += sums[c][p];
        if (query.zero) sum -= values<int32_t>(run.sums + index * kCellBlock, p) * query.zero;
        scores[p] =
            __builtin_convertvector(sum, Vec<float>) * (values<float>(block + shape.scales_at(), p) * query.scale);
        for (int e = 0; e < run.num_offsets; ++e)
            if (query.weights[e] != 0.0f)
                scores[p] += values<float>(offsets + e * kCellBlock, p) * query.weights[e];
    }
}

HF_INLINE bool any(Vec<int32_t> mask) {
    uint64_t words[HASHFOLD_VECTOR_BYTES / 8], all = 0;
    std::memcpy(words, &mask, sizeof mask);
    for (uint64_t word : words) all |= word;
    return all != 0;
}

int64_t scan(const CellQuery& query, const CellShape& shape, const CellRun& run, CellHit* hits) {
    int64_t n = 0;
    for (int64_t index = 0; index < run.count; ++index) {
        const uint8_t* block = run.blocks + index * shape.block_bytes();
        Vec<float> scores[kParts];
        score_block(query, shape, run, index, scores);
        for (int p = 0; p < kParts; ++p) {
            const Vec<float> slacks = values<float>(block + shape.scales_at(), p) * query.slack;
            const Vec<int32_t> found = (Vec<int32_t>)(scores[p] + slacks >= query.threshold);
            if (!any(found)) continue;
            const Vec<int32_t> ids = values<int32_t>(block + shape.ids_at(), p);
            for (int lane = 0; lane < kLanes; ++lane)
                if (found[lane]) hits[n++] = {ids[lane], scores[p][lane], slacks[lane]};
        }
    }
    return n;
}

void scores(const CellQuery& query, const CellShape& shape, const CellRun& run, float* out) {
    for (int64_t index = 0; index < run.count; ++index) {
        Vec<float> of_block[kParts];
        score_block(query, shape, run, index, of_block);
        for (int p = 0; p < kParts; ++p) store(out + index * kCellBlock + p * kLanes, of_block[p]);
    }
}

// The best of each lane so far. Blocks come in order, so that of equal scores the first stays.
struct Lead {
    Vec<float> scores[kParts];
    Vec<int32_t> blocks[kParts];  // -1: none
};

CellHit best(const CellQuery& query, const CellShape& shape, const CellRun& run) {
    Lead lead;
    for (int p = 0; p < kParts; ++p) {
        lead.scores[p] = Vec<float>{};
        lead.blocks[p] = splat(-1);
    }
    for (int64_t index = 0; index < run.count; ++index) {
        Vec<float> of_block[kParts];
        score_block(query, shape, run, index, of_block);
        for (int p = 0; p < kParts; ++p) {
            const Vec<int32_t> first = (lead.blocks[p] < 0) & (Vec<int32_t>)(of_block[p] == of_block[p]);
            const Vec<int32_t> ahead = (Vec<int32_t>)(of_block[p] > lead.scores[p]) | first;
            lead.scores[p] = ahead ? of_block[p] : lead.scores[p];
            lead.blocks[p] = ahead ? splat(static_cast<int32_t>(index)) : lead.blocks[p];
        }
    }
    CellHit found{-1, 0.0f, 0.0f};
    int32_t at = 0;
    for (int lane = 0; lane < kCellBlock; ++lane) {
        const int32_t place = lead.blocks[lane / kLanes][lane % kLanes] * static_cast<int32_t>(kCellBlock) + lane;
        const float score = lead.scores[lane / kLanes][lane % kLanes];
        if (place < 0) continue;
        if (found.id < 0 || score > found.score || (score == found.score && place < at)) {
            found = {0, score, 0.0f};
            at = place;
        }
    }
    if (found.id == 0)
        std::memcpy(&found.id,
                    run.blocks + at / kCellBlock * shape.block_bytes() + shape.ids_at() + at % kCellBlock * 4,
                    sizeof found.id);
    return found;
}

}  // namespace

const CellsTable& cells_table() {
    static constexpr CellsTable table{scan, scores, best};
    return table;
}

}  // namespace hashfold::HASHFOLD_ISA
