#include "../sparse_linear_table.hpp"
#include "row_update.hpp"

namespace hashfold::HASHFOLD_ISA {
namespace {

constexpr int64_t kAhead = 4;  // rows prefetched ahead: about one memory latency at 128 columns

template <class T>
void forward(const Csr<T>& x, Matrix<const T> weight, Matrix<T> out, int64_t begin, int64_t end) {
    const int64_t n = weight.cols, row_bytes = n * sizeof(T);
    for (int64_t i = begin; i < end; ++i) {
        T* y = out.row(i);
        for (int64_t k = 0; k < n; ++k) y[k] = 0;
        const int64_t last = x.indptr[i + 1];
        for (int64_t j = x.indptr[i]; j < last; ++j) {
            if (j + kAhead < last) prefetch_bytes(weight.row(x.indices[j + kAhead]), row_bytes);
            axpy(x.values[j], weight.row(x.indices[j]), y, n);
        }
    }
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
    for (int64_t k = 0; k < grad_out.cols; ++k) sums[k] = 0;
    for (int64_t j = groups.starts[g]; j < groups.starts[g + 1]; ++j)
        axpy(groups.values[j], grad_out.row(groups.rows[j]), sums, grad_out.cols);
}

template <class T>
void grad_rows(const GroupSpan<T>& groups, Matrix<const T> grad_out, Matrix<T> rows, int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) sum_group(groups, g, grad_out, rows.row(g));
}

void update(const GroupSpan<float>& groups, Matrix<const float> grad_out, const RowOptimizer& rule,
            const RowParameter& parameter, float* scratch, int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) {
        if (g + kAhead < end) prefetch_row(parameter, groups.features[g + kAhead]);
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
