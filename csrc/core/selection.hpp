// From labels and candidates to the active neurons of a batch.
#pragma once

#include <cstdint>

#include "views.hpp"

namespace hashfold {

// Ragged ids: row i holds ids[indptr[i] .. indptr[i + 1]).
struct Ragged {
    const int64_t* indptr;
    const int32_t* ids;
    int64_t rows;
    const int32_t* begin(int64_t i) const { return ids + indptr[i]; }
    const int32_t* end(int64_t i) const { return ids + indptr[i + 1]; }
    int64_t count(int64_t i) const { return indptr[i + 1] - indptr[i]; }
    int64_t total() const { return indptr[rows]; }
};

struct SharedSelection {
    int64_t count;          // ids written
    int64_t certain;        // the first of them: labels, then candidates
    int64_t labels_missed;  // labels of a row that its own candidates lack
};

// The union for the batch: labels in the order first seen, candidates likewise, then up to `uniform`
// distinct others drawn uniformly. ids and weights have room for all; label_positions is like labels.ids.
SharedSelection select_shared(const Ragged& labels, const Ragged& candidates, int64_t num_items, int64_t uniform,
                              uint64_t seed, int32_t* ids, float* weights, int64_t* label_positions);

struct RowRules {
    int64_t num_items;
    int64_t budget;   // candidates are taken best first while a row has fewer ids than this
    int64_t minimum;  // a row with fewer ids is filled up to this by uniform draws; 0: never
    uint64_t seed;
};

struct RowsSelection {
    int64_t filled = 0;
    int64_t rows_filled = 0;
    int64_t labels_missed = 0;
    int64_t truncated = 0;
};

// A set for each row: its labels, then its candidates, then the fill. On entry indptr bounds the room
// of each row in ids and weights; on return the rows are packed and indptr says where they lie.
RowsSelection select_rows(const Ragged& labels, const Ragged& candidates, const RowRules& rules, int64_t* indptr,
                          int32_t* ids, float* weights);

// Moves rows of counts[i] entries, each at indptr[i], together, and makes indptr say so.
void pack_rows(int64_t* indptr, const int64_t* counts, int64_t rows, int32_t* ids, float* values);

}  // namespace hashfold
