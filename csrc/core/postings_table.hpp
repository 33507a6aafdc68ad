// What the search of rows needs from each instruction set.
#pragma once

#include <cstdint>

#include "isa.hpp"

namespace hashfold {

struct Sums {
    const float* sums;
    const float* scales;  // null: 1
    int64_t rows;
};

struct PostingsTable {
    // Writes the rows with sums * scales > limit to `over`, ascending, and how many sums are above 0 to
    // `met`; returns how many were written.
    int64_t (*sweep)(const Sums& of, float limit, int32_t* over, int64_t* met);
};

HASHFOLD_DISPATCH(PostingsTable, postings_table)

}  // namespace hashfold
