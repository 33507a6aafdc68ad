// What topk needs from each instruction set.
#pragma once

#include "isa.hpp"
#include "topk.hpp"

namespace hashfold {

struct Hit {
    int32_t item;
    int32_t query;  // within the panel
    float score;
};

struct TopKTable {
    int width;  // queries that one vector holds; a panel is one or two vectors of queries, feature-major

    // Scores items ids[0..count), or first + [0..count) where ids is null, for a panel of `vectors`
    // vectors; writes those above the query's threshold and returns how many. A threshold that is NaN
    // lets everything through that is not NaN itself.
    int64_t (*tile)(const float* panel, int vectors, const Items& items, const int32_t* ids, int64_t first,
                    int64_t count, const float* thresholds, Hit* hits);

    // Scores the same items for one query.
    void (*scores)(const float* x, const Items& items, const int32_t* ids, int64_t first, int64_t count,
                   float* scores);
};

HASHFOLD_DISPATCH(TopKTable, topk_table)

}  // namespace hashfold
