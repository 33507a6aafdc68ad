// What the scan of a cell needs from each instruction set.
#pragma once

#include "cells.hpp"
#include "isa.hpp"

namespace hashfold {

// An item scores scale * item scale * (sum of products - zero * sum of the item's codes), and its offsets times
// the query's weights, and is off by at most `slack` * item scale or so.
struct CellQuery {
    const uint8_t* codes;  // padded with zeros to fours
    float scale;
    int32_t zero;
    float slack;
    const float* weights;  // of the offsets
    float threshold;       // items whose score cannot reach it are passed over
};

struct CellHit {
    int32_t id;
    float score;
    float slack;
};

struct CellsTable {
    // Writes the items of a run that may reach the threshold, and returns how many.
    int64_t (*scan)(const CellQuery& query, const CellShape& shape, const CellRun& run, CellHit* hits);

    // Of every place of a run; NaN where there is no item.
    void (*scores)(const CellQuery& query, const CellShape& shape, const CellRun& run, float* scores);

    // The item of a run with the highest score, of equal ones the first; id -1 if there is none.
    CellHit (*best)(const CellQuery& query, const CellShape& shape, const CellRun& run);
};

HASHFOLD_DISPATCH(CellsTable, cells_table)

}  // namespace hashfold
