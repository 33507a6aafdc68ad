// Inner products of queries with a layer's weight rows, and the best of them.
//
// All of them or those of given lists of items. Scores are the same bits whatever the number of
// threads; between a few queries and many those of floats may differ by rounding, since each takes its own
// kernel. Items in 8 bits have their queries quantised first (see quantized.hpp): one sum, the same bits always.
#pragma once

#include <cstdint>

#include "quantized.hpp"
#include "tables.hpp"
#include "views.hpp"

namespace hashfold {

// Item i scores <x, vectors[i]> + bias[i]; bias may be null.
struct Items {
    Matrix<const float> vectors;
    const float* bias;
};

struct QuantizedItems {
    QuantizedRows rows;
    const float* bias;
};

inline int64_t count_of(const Items& items) {
    return items.vectors.rows;
}
inline int64_t count_of(const QuantizedItems& items) {
    return items.rows.codes.rows;
}

// The best k items of every query, best first (equal scores: smaller id first). For each row i of x, ids
// and scores hold k entries at i * k; counts[i] of them are filled: k, but for scores that are not numbers.
void top_k(Matrix<const float> x, const Items& items, int64_t k, int32_t* ids, float* scores, int64_t* counts);
void top_k(Matrix<const float> x, const QuantizedItems& items, int64_t k, int32_t* ids, float* scores,
           int64_t* counts);

// scores[j] of the ids of each row.
void score_rows(Matrix<const float> x, const Items& items, const int64_t* indptr, const int32_t* ids,
                float* scores);
void score_rows(Matrix<const float> x, const QuantizedItems& items, const int64_t* indptr, const int32_t* ids,
                float* scores);

// Sorts each row by score, best first, and keeps at most `budget`; packs the rows.
void rank_rows(int64_t rows, int64_t budget, int64_t* indptr, int32_t* ids, float* scores);

// Inverted lists: bucket c of the only table holds the items of list c. Query i visits the lists
// probes[i]; the best `budget` of their items, best first. On entry indptr bounds the room of each row;
// on return the rows are packed. found: items scored.
void probe_lists(const HashTables& lists, Matrix<const int32_t> probes, Matrix<const float> x, const Items& items,
                 int64_t budget, int64_t* indptr, int32_t* ids, float* scores, int64_t* found);
void probe_lists(const HashTables& lists, Matrix<const int32_t> probes, Matrix<const float> x,
                 const QuantizedItems& items, int64_t budget, int64_t* indptr, int32_t* ids, float* scores,
                 int64_t* found);

// The same without scoring: list by list in the order of probes, an item's score being its list's.
void list_probes(const HashTables& lists, Matrix<const int32_t> probes, Matrix<const float> list_scores,
                 int64_t budget, int64_t* indptr, int32_t* ids, float* scores, int64_t* found);

}  // namespace hashfold
