#include "../sparse_linear_table.hpp"
#include "row_update.hpp"

namespace hashfold::HASHFOLD_ISA {
namespace {

// Rows asked for ahead into the second-level cache, also those of the next sum: the first level has too few misses
// in flight, and most of a row's nonzeros would be within reach of its end.
constexpr int64_t kAhead = 16;

// The entries of a sum, [begin, end), and how far those behind it, that come next, go.
struct Entries {
    int64_t begin, end, ahead;
};

// to[0..V vectors) = sum of values[j] * rows[ids[j]][at..at + V vectors), in registers.
template <class T, int V>
HF_INLINE void weighted_block(const T* values, const int32_t* ids, const Entries& of, Matrix<const T> rows,
                              int64_t at, T* to) {
    Vec<T> sums[V] = {};
    for (int64_t j = of.begin; j < of.end; ++j) {
        if (j + kAhead < of.ahead) prefetch_early(rows.row(ids[j + kAhead]) + at, V * sizeof(Vec<T>));
        const T* row = rows.row(ids[j]) + at;
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) sums[v] += load(row + v * kWidth<T>) * values[j];
    }
    for (int v = 0; v < V; ++v) store(to + v * kWidth<T>, sums[v]);
}

// Blocks of V vectors as long as they fit, then of half as many.
template <class T, int V>
HF_INLINE int64_t weighted_blocks(const T* values, const int32_t* ids, const Entries& of, Matrix<const T> rows,
                                  int64_t at, T* to) {
    if constexpr (V > 0) {
        for (; at + V * kWidth<T> <= rows.cols; at += V * kWidth<T>)
            weighted_block<T, V>(values, ids, of, rows, at, to + at);
        return weighted_blocks<T, V / 2>(values, ids, of, rows, at, to);
    }
    return at;
}

// to = sum of values[j] * rows[ids[j]]. Half of the registers hold sums.
template <class T>
HF_INLINE void weighted_sum(const T* values, const int32_t* ids, const Entries& of, Matrix<const T> rows, T* to) {
    int64_t at = weighted_blocks<T, HASHFOLD_VECTOR_BYTES == 64 ? 16 : 8>(values, ids, of, rows, 0, to);
    for (; at < rows.cols; ++at) {
        T total = 0;
        for (int64_t j = of.begin; j < of.end; ++j) total += values[j] * rows.row(ids[j])[at];
        to[at] = total;
    }
}

template <class T>
void forward(const Csr<T>& x, Matrix<const T> weight, Matrix<T> out, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
        weighted_sum(x.values, x.indices, {x.indptr[i], x.indptr[i + 1], x.indptr[end]}, weight, out.row(i));
}

template <class T>
void grad_values(const Csr<T>& x, Matrix<const T> weight, Matrix<const T> grad_out, T* grad, int64_t begin,
                 int64_t end) {
    for (int64_t i = begin; i < end; ++i)
        for (int64_t j = x.indptr[i]; j < x.indptr[i + 1]; ++j)
            grad[j] = dot(grad_out.row(i), weight.row(x.indices[j]), weight.cols);
}

template <class T>
HF_INLINE void sum_group(const GroupSpan<T>& groups, int64_t g, Matrix<const T> grad_out, T* sums) {
    const int64_t begin = groups.starts[g], end = groups.starts[g + 1];
    weighted_sum(groups.values, groups.rows, {begin, end, end}, grad_out, sums);
}

template <class T>
void grad_rows(const GroupSpan<T>& groups, Matrix<const T> grad_out, Matrix<T> rows, int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) sum_group(groups, g, grad_out, rows.row(g));
}

void update(const GroupSpan<float>& groups, Matrix<const float> grad_out, const RowOptimizer& rule,
            const RowParameter& parameter, float* scratch, int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) {
        if (g + kRowsAhead < end) prefetch_row_early(parameter, groups.features[g + kRowsAhead]);
        sum_group(groups, g, grad_out, scratch);
        update_row(rule, parameter, groups.features[g], scratch);
    }
}

template <class T>
constexpr SparseLinearOf<T> functions{forward<T>, grad_values<T>, grad_rows<T>};

}  // namespace

const SparseLinearTable& sparse_linear_table() {
    static constexpr SparseLinearTable table{functions<float>, functions<double>, update};
    return table;
}

}  // namespace hashfold::HASHFOLD_ISA
