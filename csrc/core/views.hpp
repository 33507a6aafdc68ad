// Plain spans over memory that the caller owns. Python allocates, kernels fill.
#pragma once

#include <cstdint>

namespace hashfold {

// Row-major matrix.
template <class T>
struct Matrix {
    T* data;
    int64_t rows;
    int64_t cols;
    T* row(int64_t i) const { return data + i * cols; }
};

// Compressed sparse rows: row i holds entries indptr[i] to indptr[i + 1].
template <class T>
struct Csr {
    const int64_t* indptr;
    const int32_t* indices;
    const T* values;
    int64_t rows;
};

}  // namespace hashfold
