// What adding up postings needs from each instruction set.
#pragma once

#include <cstdint>

#include "isa.hpp"

namespace hashfold {

inline constexpr int64_t kStripRows = 64;   // rows whose sums stay in registers
inline constexpr int64_t kStripLanes = 16;  // of a strip: rows that are 16 apart share one

// Where the byte of a row lies in its strip: the k-th bytes of 16 words are those of 16 rows in order, so
// that a shift and a mask make numbers of them at any vector width.
inline int64_t strip_place(int64_t row) {
    const int64_t within = row % kStripRows;
    return row - within + within % 16 * 4 + within / 16;
}

struct WeightedBytes {
    const uint8_t* bytes;  // at their strip_place
    float weight;
};

struct Sums {
    const float* sums;
    const float* scales;  // null: 1
    int64_t rows;
};

struct PostingsTable {
    // sums[r] = sum of weight * byte of row r over the columns; rows is a multiple of kStripRows.
    void (*add_columns)(const WeightedBytes* columns, int64_t count, float* sums, int64_t rows);

    // best[s] = the largest sums * scales of strip s (the last one may be short); adds how many sums are above
    // 0 to `met`. Sums and scales are at least 0. lanes: null, or for the same of each of a strip's lanes.
    void (*best_of_strips)(const Sums& of, float* best, float* lanes, int64_t* met);

    // Writes the places, from `begin` to the end of its strip, with sums * scales > limit to `places`, ascending;
    // returns how many.
    int64_t (*above_in_strip)(const Sums& of, int64_t begin, float limit, int32_t* places);
};

HASHFOLD_DISPATCH(PostingsTable, postings_table)

}  // namespace hashfold
