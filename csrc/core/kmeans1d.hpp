// The best k means of numbers: sum over the numbers of w (x - nearest mean)^2 at its least.
//
// In one dimension clusters are runs of the sorted numbers, and dynamic programming over their cuts finds the best
// (Wang and Song 2011; monotone rows: Gronlund et al. 2017). Here the cuts are narrowed down first: positions are
// grouped into cells, the dynamic programme over cells bounds every solution from below, Lloyd's algorithm from
// its path bounds the best one from above, and cells that cannot hold a cut of a better solution are dropped, the
// others split, until each holds one position. What is left is exact. Memory: the sorted numbers and the cells.
#pragma once

#include <cstdint>

#include "views.hpp"

namespace hashfold {

// The best cost is at least `bound` and at most `cost`; they agree (to rounding) unless the search was stopped by
// its tolerance or by its limit of cells.
struct Clusters1d {
    double cost;
    double bound;
    int64_t rounds;
};

// values: n >= 1 finite numbers; weights: as many, not negative, or null: all 1. means: k of them, ascending; the
// last is repeated if there are fewer than k distinct numbers. Stops when cost - bound <= tolerance * cost.
Clusters1d kmeans1d(const float* values, const float* weights, int64_t n, int64_t k, double tolerance,
                    float* means);

// Group g is values[starts[g]] to values[starts[g + 1]], not empty; its means are row g of `means`.
void kmeans1d_groups(const float* values, const float* weights, const int64_t* starts, double tolerance,
                     Matrix<float> means, double* costs, double* bounds);

}  // namespace hashfold
