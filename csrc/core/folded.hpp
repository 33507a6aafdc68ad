// Products with a folded matrix: a virtual W (outputs, inputs) whose weights are picked from few shared values,
// by a hash or by stored codes. W is never built; it is decoded piece by piece into the cache.
//
//   hashed:    W[o, f] = sign(o, f) * shared[block of o + tile * (h(f / tile, o) * n >> 32) + f % tile]
//   codebook:  W[o, f] = shared[((group(o, f) << bits) + code(o, f / dim)) * dim + f % dim]
//
// The definitions, with their papers, are those of src/hashfold/kernels/hashed_matrix.py and codebook_matrix.py.
// Results do not depend on the number of threads.
#pragma once

#include <cstdint>

#include "views.hpp"

namespace hashfold {

template <class T>
struct HashedMatrix {
    using Value = T;
    int64_t outputs, inputs;
    const T* shared;  // the buckets; not read for their gradient
    int64_t num_shared;
    uint32_t seed;
    bool sign;
    bool identity;  // W[o, f] = shared[o * inputs + f]
    int64_t tile;   // 1, 4, 8, 16 or 32
    int64_t blocks;
    const uint32_t* keys = nullptr;  // the mixed id of each tile of inputs: set by the driver
};

template <class T>
struct CodebookMatrix {
    using Value = T;
    int64_t outputs, inputs;
    const T* shared;  // (groups, 2^bits, dim); not read for its gradient
    int64_t num_shared;
    const uint8_t* codes;  // (outputs, stride)
    int64_t stride;
    int64_t bits, dim;
    int64_t group_rows, group_cols;  // group_cols: a multiple of dim
};

// y (n, outputs) = x (n, inputs) W^T
template <class M, class T = typename M::Value>
void folded_matmul(const M& w, Matrix<const T> x, Matrix<T> y);

// grad_x (n, inputs) = grad (n, outputs) W
template <class M, class T = typename M::Value>
void folded_grad_x(const M& w, Matrix<const T> grad, Matrix<T> grad_x);

// grad_shared (num_shared,) = the entries of grad^T x, each added to its shared value.
template <class M, class T = typename M::Value>
void folded_grad_shared(const M& w, Matrix<const T> grad, Matrix<const T> x, T* grad_shared);

// rows (m, inputs) = W[ids]
template <class M, class T = typename M::Value>
void folded_rows(const M& w, const int64_t* ids, Matrix<T> rows);

// grad_shared (num_shared,) = the entries of grad (m, inputs), each added to the shared value of W[ids].
template <class M, class T = typename M::Value>
void folded_rows_grad(const M& w, const int64_t* ids, Matrix<const T> grad, T* grad_shared);

}  // namespace hashfold
