// A linear layer whose weights are folded into buckets (HashedNets: Chen et al., ICML 2015), at chosen pairs
// of a row and an output only:
//
//   y[i, o] = bias[o] + sum over the nonzeros f of row i of x_if * sign(f, o) * buckets[offset[o] + place(f, o)]
//
// place(f, o) = the high 32 bits of hash(f, o) * size[o]. Every output may own a block of buckets (offsets
// ascending, blocks disjoint), or all share one table (offset 0, the same size). An output of size 0 is its
// bias. The virtual weight (features, outputs) never exists.
#pragma once

#include <cstdint>

#include "rowwise_linear.hpp"
#include "views.hpp"

namespace hashfold {

struct HashedLayout {
    const int64_t* offsets;  // (outputs,)
    const int32_t* sizes;    // (outputs,)
    uint32_t seed;
    bool sign;      // multiply by a hashed sign; otherwise all signs are +1
    bool identity;  // place(f, o) = f: sizes are the number of features, and nothing is shared
};

template <class T>
void hashed_linear(const Csr<T>& x, const ActiveRows& pairs, const HashedLayout& layout, const T* buckets,
                   const T* bias, T* out);

// The same with buckets in 8 bits: bucket b of output o is scales[o] * codes[b].
void hashed_linear(const Csr<float>& x, const ActiveRows& pairs, const HashedLayout& layout, const int8_t* codes,
                   const float* scales, const float* bias, float* out);

// Gradient of each value of x.
template <class T>
void hashed_linear_grad_values(const Csr<T>& x, const ActiveRows& pairs, const HashedLayout& layout,
                               const T* buckets, const T* grad_out, T* grad_values);

// Adds to grad (buckets,). A bucket's terms are added in the order of the pairs whatever the number of
// threads: each worker owns a span of buckets and hashes all pairs.
template <class T>
void hashed_linear_grad_buckets(const Csr<T>& x, const ActiveRows& pairs, const HashedLayout& layout,
                                const T* grad_out, T* grad, int64_t num_buckets);

enum class FitLoss { squared_hinge, logistic };

struct FitRule {
    FitLoss loss;
    int32_t epochs;
    float lr;           // of the first epoch; falls by equal steps
    float floor;        // to floor * lr in the last
    float l2;           // added to a gradient: l2 * weight
    float bias_rate;    // a bias moves at bias_rate * the rate
    float initial_sum;  // where Adagrad's sums of squares start
    uint64_t seed;      // of the order of the pairs
};

// Task t trains output labels[t] (distinct) on pairs indptr[t] to indptr[t + 1]: rows of x, and targets
// (above 1/2: the row has the label).
struct FitTasks {
    const int32_t* labels;
    const int64_t* indptr;
    const int32_t* rows;
    const float* targets;
    int64_t count;
};

// Where blocks go to: floats, or codes and a scale for each output (the largest magnitude / 127).
struct FitOutput {
    float* buckets;
    int8_t* codes;
    float* scales;  // (outputs,); null with floats
    float* bias;    // (outputs,), read and written
    bool warm;      // start from the blocks there; otherwise from zero
};

// Adagrad output by output. A block and its sums of squares lie side by side in scratch memory while its
// output is trained, so that only the result is ever kept; blocks are disjoint, so that results do not depend
// on the number of threads. losses (tasks,): the sum of each output's losses in the last epoch.
void hashed_linear_fit(const Csr<float>& x, const FitTasks& tasks, const HashedLayout& layout, const FitRule& rule,
                       const FitOutput& output, double* losses);

}  // namespace hashfold
