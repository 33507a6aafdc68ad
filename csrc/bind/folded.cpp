#include "core/folded.hpp"

#include "arrays.hpp"
#include "families.hpp"

namespace hashfold {
namespace {

// What Python knows of a matrix but for its shared values.
struct HashedFold {
    int64_t outputs, inputs;
    uint32_t seed;
    bool sign;
    int64_t tile, blocks;
    bool identity;

    template <class T>
    HashedMatrix<T> with(const T* shared, int64_t count) const {
        require(outputs >= 1 && inputs >= 1 && blocks >= 1 && tile >= 1, "a folded matrix without weights");
        require(identity ? count == outputs * inputs : count / blocks >= tile, "number of buckets");
        return {outputs, inputs, shared, count, seed, sign, identity, tile, blocks};
    }
};

struct CodebookFold {
    Array2<const uint8_t> codes;
    int64_t inputs, bits, dim, group_rows, group_cols;

    template <class T>
    CodebookMatrix<T> with(const T* shared, int64_t count) const {
        const auto parts = [](int64_t n, int64_t size) { return (n + size - 1) / size; };
        const Matrix<const uint8_t> packed = matrix(codes);
        require(inputs >= 1 && dim >= 1 && bits >= 1 && bits <= 8 && group_rows >= 1 && group_cols >= dim,
                "a folded matrix without weights");
        require(group_cols % dim == 0 && packed.cols == parts(parts(inputs, dim) * bits, 8), "width of the codes");
        const int64_t groups = parts(packed.rows, group_rows) * parts(inputs, group_cols);
        require(count == (groups << bits) * dim, "size of the codebook");
        return {packed.rows, inputs, shared, count, packed.data, packed.cols, bits, dim, group_rows, group_cols};
    }
};

template <class Fold, class T>
void matmul(const Fold& fold, Array1<const T> shared, Array2<const T> x, Array2<T> y) {
    const auto w = fold.with(shared.data(), length(shared));
    require(x.shape(0) == y.shape(0) && matrix(x).cols == w.inputs && matrix(y).cols == w.outputs, "shapes");
    folded_matmul(w, matrix(x), matrix(y));
}

template <class Fold, class T>
void grad_x(const Fold& fold, Array1<const T> shared, Array2<const T> grad, Array2<T> out) {
    const auto w = fold.with(shared.data(), length(shared));
    require(grad.shape(0) == out.shape(0) && matrix(grad).cols == w.outputs && matrix(out).cols == w.inputs,
            "shapes");
    folded_grad_x(w, matrix(grad), matrix(out));
}

template <class Fold, class T>
void grad_shared(const Fold& fold, Array2<const T> grad, Array2<const T> x, Array1<T> out) {
    const auto w = fold.with(static_cast<const T*>(out.data()), length(out));
    require(grad.shape(0) == x.shape(0) && matrix(grad).cols == w.outputs && matrix(x).cols == w.inputs, "shapes");
    folded_grad_shared(w, matrix(grad), matrix(x), out.data());
}

void require_ids(const Array1<const int64_t>& ids, int64_t rows) {
    for (int64_t i = 0; i < length(ids); ++i) require(ids.data()[i] >= 0 && ids.data()[i] < rows, "ids");
}

template <class Fold, class T>
void rows(const Fold& fold, Array1<const T> shared, Array1<const int64_t> ids, Array2<T> out) {
    const auto w = fold.with(shared.data(), length(shared));
    require(matrix(out).rows == length(ids) && matrix(out).cols == w.inputs, "shape of the rows");
    require_ids(ids, w.outputs);
    folded_rows(w, ids.data(), matrix(out));
}

template <class Fold, class T>
void rows_grad(const Fold& fold, Array1<const int64_t> ids, Array2<const T> grad, Array1<T> out) {
    const auto w = fold.with(static_cast<const T*>(out.data()), length(out));
    require(matrix(grad).rows == length(ids) && matrix(grad).cols == w.inputs, "shape of the rows");
    require_ids(ids, w.outputs);
    folded_rows_grad(w, ids.data(), matrix(grad), out.data());
}

template <class Fold, class T>
void bind_for(nb::module_& m) {
    m.def("folded_matmul", &matmul<Fold, T>, "fold"_a, "shared"_a.noconvert(), "x"_a.noconvert(),
          "out"_a.noconvert(), GilRelease());
    m.def("folded_grad_x", &grad_x<Fold, T>, "fold"_a, "shared"_a.noconvert(), "grad"_a.noconvert(),
          "out"_a.noconvert(), GilRelease());
    m.def("folded_grad_shared", &grad_shared<Fold, T>, "fold"_a, "grad"_a.noconvert(), "x"_a.noconvert(),
          "out"_a.noconvert(), GilRelease());
    m.def("folded_rows", &rows<Fold, T>, "fold"_a, "shared"_a.noconvert(), "ids"_a.noconvert(),
          "out"_a.noconvert(), GilRelease());
    m.def("folded_rows_grad", &rows_grad<Fold, T>, "fold"_a, "ids"_a.noconvert(), "grad"_a.noconvert(),
          "out"_a.noconvert(), GilRelease());
}

}  // namespace

void bind_folded(nb::module_& m) {
    nb::class_<HashedFold>(m, "HashedFold")
        .def("__init__", [](HashedFold* self, int64_t outputs, int64_t inputs, uint32_t seed, bool sign,
                            int64_t tile, int64_t blocks, bool identity) {
            new (self) HashedFold{outputs, inputs, seed, sign, tile, blocks, identity};
        });
    nb::class_<CodebookFold>(m, "CodebookFold")
        .def("__init__", [](CodebookFold* self, Array2<const uint8_t> codes, int64_t inputs, int64_t bits,
                            int64_t dim, int64_t group_rows, int64_t group_cols) {
            new (self) CodebookFold{codes, inputs, bits, dim, group_rows, group_cols};
        });
    bind_for<HashedFold, float>(m);
    bind_for<HashedFold, double>(m);
    bind_for<CodebookFold, float>(m);
    bind_for<CodebookFold, double>(m);
}

}  // namespace hashfold
