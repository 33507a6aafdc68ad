#include "../folded_table.hpp"
#include "folded_codebook.hpp"
#include "folded_hashed.hpp"
#include "tiles.hpp"

namespace hashfold::HASHFOLD_ISA {
namespace {

// Elements between decoded rows beyond a piece: rows a power of two apart would share few cache sets.
constexpr int64_t kSkew = 16;
// Weights decoded together along a row, at least.
constexpr int64_t kPiece = 256;
// Rows of x summed in one go for the gradient of shared values.
constexpr int64_t kDepth = 256;

static_assert(kFoldedRows % kTileRows == 0 && kFoldedCols % kTileCols<float> == 0);
static_assert(kFoldedPadding >= kWidth<float>);

// C (rows x cols) += A B, where row k of B lies at b + k * b_stride. Compiled once for all that use it.
template <class T>
__attribute__((noinline)) void product(Strided<T> a, int64_t rows, const T* b, int64_t b_stride, int64_t depth,
                                       T* c, int64_t c_stride, int64_t cols, bool accumulate) {
    column_of_tiles(a, rows, [&](int64_t k) { return b + k * b_stride; }, depth, c, c_stride, cols, accumulate);
}

template <class M>
struct ReaderOf;
template <class T>
struct ReaderOf<HashedMatrix<T>> {
    using type = HashedReader<T>;
};
template <class T>
struct ReaderOf<CodebookMatrix<T>> {
    using type = CodebookReader<T>;
};
template <class M>
using Reader = typename ReaderOf<M>::type;

template <class T>
int64_t piece(const HashedMatrix<T>&, int64_t least_) {
    return (least_ + kFoldedCols - 1) / kFoldedCols * kFoldedCols;
}
template <class T>
int64_t piece(const CodebookMatrix<T>& w, int64_t least_) {
    int64_t unit = 8 * w.dim;
    while (unit % kFoldedCols) unit *= 2;
    return (least_ + unit - 1) / unit * unit;
}

template <class M>
int64_t row_stride(const M& w) {
    const int64_t whole = (w.inputs + kFoldedCols - 1) / kFoldedCols * kFoldedCols;
    return least(piece(w, kPiece), whole) + kSkew;
}

// A panel of rows, and sums of a tile of them with the rows of a batch.
template <class M>
int64_t scratch(const M& w) {
    return kFoldedRows * row_stride(w) + kFoldedRows * (kFoldedBatch + kSkew) + kFoldedCols;
}

template <class M, int N, class T = typename M::Value>
void few_of(const M& w, const T* x, int64_t stride, Matrix<T> y, int64_t n, Range outputs) {
    Reader<M> reader(w);
    for (int64_t o = outputs.begin; o < outputs.end; ++o) {
        DotSink<T, N> sink;
        for (int k = 0; k < N; ++k) sink.x[k] = x + (n + k) * stride;
        reader.open(o);
        reader.read(0, w.inputs, sink);
        for (int k = 0; k < N; ++k) y.row(n + k)[o] = sink.total(k);
    }
}

template <class M, class T = typename M::Value>
void few(const M& w, const T* x, int64_t stride, Matrix<T> y, Range outputs) {
    int64_t n = 0;
    if constexpr (sizeof(T) == sizeof(float)) {  // float64 is there to be exact, not fast
        if (n + 4 <= y.rows) few_of<M, 4>(w, x, stride, y, n, outputs), n += 4;
        if (n + 2 <= y.rows) few_of<M, 2>(w, x, stride, y, n, outputs), n += 2;
    }
    for (; n < y.rows; ++n) few_of<M, 1>(w, x, stride, y, n, outputs);
}

// Weights [from, from + count) of `outputs`, row after row.
template <class M, class T = typename M::Value>
HF_INLINE void decode(Reader<M>& reader, Range outputs, int64_t from, int64_t count, T* panel, int64_t stride) {
    for (int64_t o = outputs.begin; o < outputs.end; ++o) {
        StoreSink<T> sink{panel + (o - outputs.begin) * stride};
        reader.open(o);
        reader.read(from, count, sink);
    }
}

template <class M, class T = typename M::Value>
void forward(const M& w, FoldedPanels<T> x, Matrix<T> y, Range rows, Range outputs, T* scratch) {
    constexpr int64_t kSums = kFoldedBatch + kSkew;
    const int64_t stride = row_stride(w), step = piece(w, kPiece);
    T *panel = scratch, *sums = panel + kFoldedRows * stride;
    Reader<M> reader(w);
    for (int64_t from = 0; from < w.inputs; from += step) {
        const int64_t depth = least(step, w.inputs - from);
        decode<M>(reader, outputs, from, depth, panel, stride);
        for (int64_t n = 0; n < rows.count(); n += kTileCols<T>) {
            const int64_t column = (rows.begin + n) / kFoldedCols * kFoldedCols;
            const T* b = x.at(column, from) + (rows.begin + n - column);
            product(Strided<T>{panel, stride, 1}, outputs.count(), b, kFoldedCols, depth, sums + n, kSums,
                    kTileCols<T>, from > 0);
        }
    }
    for (int64_t n = 0; n < rows.count(); ++n)
        for (int64_t o = 0; o < outputs.count(); ++o)
            y.row(rows.begin + n)[outputs.begin + o] = sums[o * kSums + n];
}

template <class M, class T = typename M::Value>
void grad_x(const M& w, FoldedPanels<T> grad, Matrix<T> out, Range rows, Range inputs, T* scratch) {
    const int64_t stride = row_stride(w);
    Reader<M> reader(w);
    for (int64_t o = 0; o < w.outputs; o += kFoldedRows) {
        const int64_t depth = least(kFoldedRows, w.outputs - o);
        decode<M>(reader, {o, o + depth}, inputs.begin, inputs.count(), scratch, stride);
        for (int64_t n = rows.begin; n < rows.end; n += kFoldedRows)
            for (int64_t j = 0; j < inputs.count(); j += kTileCols<T>)
                product(Strided<T>{grad.at(n, o), 1, kFoldedRows}, least(kFoldedRows, rows.end - n),
                        static_cast<const T*>(scratch + j), stride, depth, out.row(n) + inputs.begin + j, out.cols,
                        least(int64_t{kTileCols<T>}, inputs.count() - j), o > 0);
    }
}

template <class M, class T = typename M::Value>
void grad_shared(const M& w, FoldedPanels<T> grad, FoldedPanels<T> x, Range outputs, FoldedSums<T> sums,
                 T* scratch) {
    const int64_t stride = row_stride(w), step = piece(w, kPiece);
    Reader<M> reader(w);
    for (int64_t o = outputs.begin; o < outputs.end;) {
        const int64_t panel = o / kFoldedRows * kFoldedRows, valid = least(panel + kFoldedRows, outputs.end) - o;
        for (int64_t from = 0; from < w.inputs; from += step) {
            const int64_t count = least(step, w.inputs - from);
            for (int64_t k = 0; k < grad.depth; k += kDepth)
                for (int64_t j = 0; j < count; j += kTileCols<T>) {
                    const int64_t column = (from + j) / kFoldedCols * kFoldedCols;
                    const T* b = x.at(column, k) + (from + j - column);
                    product(Strided<T>{grad.at(panel, k) + (o - panel), 1, kFoldedRows}, valid, b, kFoldedCols,
                            least(kDepth, grad.depth - k), scratch + j, stride, kTileCols<T>, k > 0);
                }
            for (int64_t r = 0; r < valid; ++r) {
                reader.open(o + r);
                reader.add(from, count, scratch + r * stride, sums);
            }
        }
        o += valid;
    }
}

template <class M, class T = typename M::Value>
void rows(const M& w, const int64_t* ids, Matrix<T> out, Range which, T* scratch) {
    const int64_t step = piece(w, kPiece);
    Reader<M> reader(w);
    for (int64_t i = which.begin; i < which.end; ++i) {
        reader.open(ids[i]);
        for (int64_t from = 0; from < w.inputs; from += step) {
            const int64_t count = least(step, w.inputs - from);
            StoreSink<T> sink{scratch};
            reader.read(from, count, sink);
            std::memcpy(out.row(i) + from, scratch, count * sizeof(T));
        }
    }
}

template <class M, class T = typename M::Value>
void rows_grad(const M& w, const int64_t* ids, Matrix<const T> grad, Range which, FoldedSums<T> sums) {
    Reader<M> reader(w);
    for (int64_t i = which.begin; i < which.end; ++i) {
        reader.open(ids[i]);
        reader.add(0, w.inputs, grad.row(i), sums);
    }
}

template <class M>
constexpr FoldedOf<M> functions{piece<typename M::Value>, few<M>,  forward<M>,   grad_x<M>,
                                grad_shared<M>,           rows<M>, rows_grad<M>, scratch<M>};

}  // namespace

const FoldedTable& folded_table() {
    static constexpr FoldedTable table{functions<HashedMatrix<float>>, functions<HashedMatrix<double>>,
                                       functions<CodebookMatrix<float>>, functions<CodebookMatrix<double>>};
    return table;
}

}  // namespace hashfold::HASHFOLD_ISA
