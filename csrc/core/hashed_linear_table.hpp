// What hashed_linear needs from each instruction set.
#pragma once

#include "hashed_linear.hpp"
#include "isa.hpp"

namespace hashfold {

// One row: what each feature's id was mixed to (the id itself in an identity layout), and its value.
template <class T>
struct MixedRow {
    const uint32_t* keys;
    const T* values;
    int64_t count;
};

// The part of a layout that says where in a block a feature lies.
struct BlockHash {
    uint32_t key;  // the output's id, mixed
    uint32_t size;
    bool sign;
    bool identity;
};

// Room for two outputs at a time: 2 * count each.
template <class T>
struct PlaceScratch {
    uint32_t* places;
    T* values;
};

// The pairs of one row.
struct RowPairs {
    const int32_t* ids;
    const uint32_t* keys;  // ids, mixed
    int64_t count;
};

template <class T>
struct HashedGradientOf {
    void (*values)(const MixedRow<T>& row, const RowPairs& pairs, const HashedLayout& layout, const T* buckets,
                   const T* grad_out, PlaceScratch<T> scratch, T* grad);
    // Only the buckets in [begin, end).
    void (*buckets)(const MixedRow<T>& row, const RowPairs& pairs, const HashedLayout& layout, const T* grad_out,
                    PlaceScratch<T> scratch, T* grad, int64_t begin, int64_t end);
};

// scales is null but for 8-bit buckets.
template <class T, class Bucket>
using HashedScores = void (*)(const MixedRow<T>& row, const RowPairs& pairs, const HashedLayout& layout,
                              const Bucket* buckets, const float* scales, const T* bias, PlaceScratch<T> scratch,
                              T* out);

struct Trained {
    float weight;
    float squares;
};

struct LabelPairs {
    const int32_t* rows;
    const float* targets;
    const uint32_t* order;  // positions in rows and targets
    int64_t count;
};

struct FitStep {
    FitLoss loss;
    float lr;
    float bias_lr;
    float l2;
    bool measured;  // return the sum of the losses
};

// Each holds the nonzeros of the longest row.
struct FitScratch {
    uint32_t* places;
    float* values;
    float* gradients;
    float* squares;
};

struct HashedLinearTable {
    void (*mix)(const int32_t* ids, int64_t count, uint32_t salt, uint32_t* keys);
    HashedScores<float, float> scores_f32;
    HashedScores<double, double> scores_f64;
    HashedScores<float, int8_t> scores_int8;
    HashedGradientOf<float> gradient_f32;
    HashedGradientOf<double> gradient_f64;
    double (*fit_epoch)(const Csr<float>& x, const uint32_t* keys, const LabelPairs& pairs, const BlockHash& hash,
                        const FitStep& step, Trained* block, Trained* bias, const FitScratch& scratch);
};

HASHFOLD_DISPATCH(HashedLinearTable, hashed_linear_table)

}  // namespace hashfold
