#include "sparse_linear.hpp"

#include <algorithm>

#include "parallel.hpp"
#include "sparse_linear_table.hpp"

namespace hashfold {
namespace {

template <class T>
const SparseLinearOf<T>& functions() {
    if constexpr (sizeof(T) == sizeof(float))
        return sparse_linear_table().f32;
    else
        return sparse_linear_table().f64;
}

template <class T>
GroupSpan<T> span_of(const FeatureGroups<T>& groups) {
    return {groups.features.data(), groups.starts.data(), groups.rows.data(), groups.values.data()};
}

struct Entry {
    int32_t feature;
    int32_t row;
    int64_t position;
};

// Stable least-significant-digit radix sort by feature, 11 bits a pass.
void sort_by_feature(std::vector<Entry>& entries, int32_t largest) {
    std::vector<Entry> other(entries.size());
    for (int shift = 0; shift == 0 || (largest >> shift) > 0; shift += 11) {
        int64_t starts[2049] = {};
        for (const Entry& e : entries) ++starts[((e.feature >> shift) & 2047) + 1];
        for (int i = 0; i < 2048; ++i) starts[i + 1] += starts[i];
        for (const Entry& e : entries) other[starts[(e.feature >> shift) & 2047]++] = e;
        entries.swap(other);
        if (shift == 22) break;
    }
}

}  // namespace

template <class T>
FeatureGroups<T> group_by_feature(const Csr<T>& x) {
    const int64_t base = x.indptr[0], count = x.indptr[x.rows] - base;
    std::vector<Entry> entries;
    entries.reserve(count);
    int32_t largest = 0;
    for (int64_t i = 0; i < x.rows; ++i)
        for (int64_t j = x.indptr[i]; j < x.indptr[i + 1]; ++j) {
            entries.push_back({x.indices[j], static_cast<int32_t>(i), j});
            largest = std::max(largest, x.indices[j]);
        }
    sort_by_feature(entries, largest);
    FeatureGroups<T> groups;
    groups.rows.resize(count);
    groups.values.resize(count);
    for (int64_t k = 0; k < count; ++k) {
        const Entry& e = entries[k];
        if (k == 0 || e.feature != entries[k - 1].feature) {
            groups.features.push_back(e.feature);
            groups.starts.push_back(k);
        }
        groups.rows[k] = e.row;
        groups.values[k] = x.values[e.position];
    }
    groups.starts.push_back(count);
    return groups;
}

template <class T>
void sparse_linear(const Csr<T>& x, Matrix<const T> weight, Matrix<T> out) {
    parallel_chunks(x.rows, 8,
                    [&](int64_t begin, int64_t end, int) { functions<T>().forward(x, weight, out, begin, end); });
}

template <class T>
void sparse_linear_grad_values(const Csr<T>& x, Matrix<const T> weight, Matrix<const T> grad_out, T* grad_values) {
    parallel_chunks(x.rows, 8, [&](int64_t begin, int64_t end, int) {
        functions<T>().grad_values(x, weight, grad_out, grad_values, begin, end);
    });
}

template <class T>
void sparse_linear_grad_rows(const FeatureGroups<T>& groups, Matrix<const T> grad_out, Matrix<T> rows) {
    parallel_chunks(groups.size(), 64, [&](int64_t begin, int64_t end, int) {
        functions<T>().grad_rows(span_of(groups), grad_out, rows, begin, end);
    });
}

void sparse_linear_update(const FeatureGroups<float>& groups, Matrix<const float> grad_out,
                          const RowOptimizer& rule, const RowParameter& parameter) {
    parallel_chunks(groups.size(), 64, [&](int64_t begin, int64_t end, int) {
        std::vector<float> scratch(grad_out.cols);
        sparse_linear_table().update(span_of(groups), grad_out, rule, parameter, scratch.data(), begin, end);
    });
}

#define HASHFOLD_INSTANTIATE(T)                                                                   \
    template FeatureGroups<T> group_by_feature(const Csr<T>&);                                    \
    template void sparse_linear(const Csr<T>&, Matrix<const T>, Matrix<T>);                       \
    template void sparse_linear_grad_values(const Csr<T>&, Matrix<const T>, Matrix<const T>, T*); \
    template void sparse_linear_grad_rows(const FeatureGroups<T>&, Matrix<const T>, Matrix<T>);
HASHFOLD_INSTANTIATE(float)
HASHFOLD_INSTANTIATE(double)

}  // namespace hashfold
