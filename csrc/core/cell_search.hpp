// The best items of the cells that fit a query: a tree of two levels picks the cells, their rows in 8 bits pick
// the items, and the weights as they are now rank them.
#pragma once

#include <cstdint>

#include "cells.hpp"
#include "views.hpp"

namespace hashfold {

// Cells are grouped in branches: `branches` holds one vector of each in its only cell, `centroids` those of the
// cells, a branch's together. Both have kRouteOffsets offsets; a query weighs them 1, 0 and 0.
struct CellTree {
    const CellRows& branches;
    const CellRows& centroids;
};

inline constexpr int kRouteOffsets = 3;

struct CellQueries {
    Matrix<const float> x;
    int64_t branches;  // followed
    int64_t probes;    // cells visited, at most
    int64_t budget;    // items wanted
};

// The `budget` items with the largest <x, vectors[i]> + bias[i] of the cells visited, best first, equal ones by
// id. An item is scored in 32 bits unless its score in 8 bits, give or take five standard deviations of what
// rounding does, is below that of `budget` others: an answer can lack an item of the cells, but hardly ever does.
// The same bits for one row and for many, and for any number of threads. On entry indptr bounds the room of each
// row in ids and scores; on return the rows are packed. found: items of the cells visited.
// items: of those in 8 bits, whose offset is the bias.
void search_cells(const CellTree& tree, const CellRows& items, const CellQueries& queries,
                  Matrix<const float> vectors, const float* bias, int64_t* indptr, int32_t* ids, float* scores,
                  int64_t* found);

// Rows x (n, cols), with a weight for each offset: weights (n, num_offsets).
struct WeighedRows {
    Matrix<const float> x;
    const float* weights;
};

// chosen[i]: of the items in cells[i] (not empty) the one with the highest score for row i, in 8 bits.
void best_in_cells(const CellRows& store, const WeighedRows& rows, const int32_t* cells, int32_t* chosen);

// chosen[i]: of the centroids in the `branches` best branches the one with the highest score for row i, in 8 bits.
void best_in_tree(const CellTree& tree, const WeighedRows& rows, int64_t branches, int32_t* chosen);

// means row m: of the rows i with members[i] = m; as it was where there are none. The same bits for any threads.
void mean_rows(Matrix<const float> x, const int32_t* members, Matrix<float> means);

}  // namespace hashfold
