#include "../rowwise_linear_table.hpp"
#include "row_update.hpp"

namespace hashfold::HASHFOLD_ISA {
namespace {

constexpr int64_t kAhead = 4;  // weight rows prefetched ahead, as in sparse_linear

// The two input forms differ in these four functions, and in nothing else.

template <class T>
HF_INLINE T dot_input(const Matrix<const T>& x, int64_t i, const T* w) {
    return dot(x.row(i), w, x.cols);
}

// Four sums, because the additions of one would wait for each other.
template <class T>
HF_INLINE T dot_input(const Csr<T>& x, int64_t i, const T* w) {
    T s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    int64_t k = x.indptr[i];
    const int64_t last = x.indptr[i + 1];
    for (; k + 4 <= last; k += 4) {
        s0 += x.values[k] * w[x.indices[k]];
        s1 += x.values[k + 1] * w[x.indices[k + 1]];
        s2 += x.values[k + 2] * w[x.indices[k + 2]];
        s3 += x.values[k + 3] * w[x.indices[k + 3]];
    }
    for (; k < last; ++k) s0 += x.values[k] * w[x.indices[k]];
    return (s0 + s1) + (s2 + s3);
}

template <class T>
HF_INLINE void add_input(T a, const Matrix<const T>& x, int64_t i, T* sums) {
    axpy(a, x.row(i), sums, x.cols);
}

template <class T>
HF_INLINE void add_input(T a, const Csr<T>& x, int64_t i, T* sums) {
    for (int64_t k = x.indptr[i]; k < x.indptr[i + 1]; ++k) sums[x.indices[k]] += a * x.values[k];
}

template <class T>
HF_INLINE void zero_grad_of(const Matrix<const T>& x, int64_t i, T* grad_x) {
    for (int64_t k = i * x.cols; k < (i + 1) * x.cols; ++k) grad_x[k] = 0;
}

template <class T>
HF_INLINE void zero_grad_of(const Csr<T>& x, int64_t i, T* grad_x) {
    for (int64_t k = x.indptr[i]; k < x.indptr[i + 1]; ++k) grad_x[k] = 0;
}

template <class T>
HF_INLINE void add_weight(T g, const T* w, const Matrix<const T>& x, int64_t i, T* grad_x) {
    axpy(g, w, grad_x + i * x.cols, x.cols);
}

template <class T>
HF_INLINE void add_weight(T g, const T* w, const Csr<T>& x, int64_t i, T* grad_x) {
    for (int64_t k = x.indptr[i]; k < x.indptr[i + 1]; ++k) grad_x[k] += g * w[x.indices[k]];
}

template <class T, class Input>
void forward(const Input& x, const ActiveRows& active, Matrix<const T> weight, const T* bias, T* out,
             int64_t begin, int64_t end) {
    const int64_t row_bytes = weight.cols * sizeof(T), last = active.indptr[end];
    for (int64_t i = begin; i < end; ++i)
        for (int64_t j = active.indptr[i]; j < active.indptr[i + 1]; ++j) {
            if (j + kAhead < last) prefetch_bytes(weight.row(active.ids[j + kAhead]), row_bytes);
            const int32_t id = active.ids[j];
            out[j] = dot_input(x, i, weight.row(id)) + (bias ? bias[id] : T(0));
        }
}

template <class T, class Input>
void grad_x(const Input& x, const ActiveRows& active, const T* grad_out, Matrix<const T> weight, T* grad_x,
            int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
        zero_grad_of(x, i, grad_x);
        for (int64_t j = active.indptr[i]; j < active.indptr[i + 1]; ++j)
            add_weight(grad_out[j], weight.row(active.ids[j]), x, i, grad_x);
    }
}

template <class T, class Input>
HF_INLINE void sum_neuron(const GroupSpan<T>& groups, int64_t g, const Input& x, T* sums, int64_t in) {
    for (int64_t k = 0; k < in; ++k) sums[k] = 0;
    for (int64_t j = groups.starts[g]; j < groups.starts[g + 1]; ++j)
        add_input(groups.values[j], x, groups.rows[j], sums);
}

template <class T, class Input>
void grad_weight(const GroupSpan<T>& groups, const Input& x, Matrix<T> weight_grad, int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g)
        sum_neuron(groups, g, x, weight_grad.row(groups.features[g]), weight_grad.cols);
}

template <class Input>
void update(const GroupSpan<float>& groups, const Input& x, const RowStep& weight, const RowStep& bias,
            float* scratch, int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) {
        const int32_t neuron = groups.features[g];
        if (g + 1 < end) prefetch_row(weight.parameter, groups.features[g + 1]);
        sum_neuron(groups, g, x, scratch, weight.parameter.weight.cols);
        update_row(weight.rule, weight.parameter, neuron, scratch);
        if (!bias.parameter.weight.data) continue;
        float total = 0;
        for (int64_t j = groups.starts[g]; j < groups.starts[g + 1]; ++j) total += groups.values[j];
        update_entry(bias.rule, bias.parameter, neuron, total);
    }
}

template <class T, class Input>
constexpr RowwiseLinearOf<T, Input> functions{forward<T, Input>, grad_x<T, Input>, grad_weight<T, Input>};

}  // namespace

const RowwiseLinearTable& rowwise_linear_table() {
    static constexpr RowwiseLinearTable table{
        functions<float, Matrix<const float>>, functions<double, Matrix<const double>>,
        functions<float, Csr<float>>,          functions<double, Csr<double>>,
        {update<Matrix<const float>>},         {update<Csr<float>>}};
    return table;
}

}  // namespace hashfold::HASHFOLD_ISA
