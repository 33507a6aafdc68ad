#include "folded.hpp"

#include <algorithm>
#include <memory>
#include <type_traits>
#include <vector>

#include "folded_table.hpp"
#include "parallel.hpp"

namespace hashfold {
namespace {

// Elements of operands packed at a time: more rows of x are taken in several rounds.
constexpr int64_t kMostPacked = int64_t{1} << 22;
// Weights of a chunk of work, at least.
constexpr int64_t kGrain = int64_t{1} << 16;
// Tables of sums for gradients of shared values, at most; of so few values that each part has its own lanes.
constexpr int64_t kMostParts = 8, kSmallTable = 4096, kLanes = 4;

const auto& functions(const HashedMatrix<float>&) {
    return folded_table().hashed_f32;
}
const auto& functions(const HashedMatrix<double>&) {
    return folded_table().hashed_f64;
}
const auto& functions(const CodebookMatrix<float>&) {
    return folded_table().codebook_f32;
}
const auto& functions(const CodebookMatrix<double>&) {
    return folded_table().codebook_f64;
}

int64_t parts_of(int64_t count, int64_t size) {
    return (count + size - 1) / size;
}
int64_t rounded(int64_t count, int64_t size) {
    return parts_of(count, size) * size;
}

template <class T>
std::unique_ptr<T[]> room(int64_t count) {
    return std::unique_ptr<T[]>(new T[std::max<int64_t>(count, 1)]);
}

// A matrix with what each call computes once.
template <class T>
class Prepared {
  public:
    explicit Prepared(const HashedMatrix<T>& w) : matrix(w) {
        if (w.identity) return;
        keys_.resize(parts_of(w.inputs, w.tile) + kFoldedHashes);
        const uint32_t salt = (2 * w.seed + 1) * 0x9E3779B9u;
        for (size_t t = 0; t < keys_.size(); ++t) {
            uint32_t h = static_cast<uint32_t>(t) + salt;
            h = (h ^ (h >> 16)) * 0x85EBCA6Bu;
            h = (h ^ (h >> 13)) * 0xC2B2AE35u;
            keys_[t] = h ^ (h >> 16);
        }
        matrix.keys = keys_.data();
    }
    HashedMatrix<T> matrix;

  private:
    std::vector<uint32_t> keys_;
};

template <class T>
Prepared<T> prepared(const HashedMatrix<T>& w) {
    return Prepared<T>(w);
}
template <class T>
struct AsIs {
    CodebookMatrix<T> matrix;
};
template <class T>
AsIs<T> prepared(const CodebookMatrix<T>& w) {
    return {w};
}

// The columns of `from` in panels (depth: its rows).
template <class T>
class Packed {
  public:
    Packed(Matrix<const T> from, int64_t width)
        : memory_(room<T>(rounded(from.cols, width) * from.rows)), panels{memory_.get(), from.rows, width} {
        parallel_chunks(parts_of(from.cols, width), 1, [&](int64_t p, int64_t, int) {
            const int64_t column = p * width, valid = std::min(width, from.cols - column);
            T* to = memory_.get() + column * from.rows;
            for (int64_t k = 0; k < from.rows; ++k, to += width)
                std::fill_n(std::copy_n(from.row(k) + column, valid, to), width - valid, T(0));
        });
    }

  private:
    std::unique_ptr<T[]> memory_;

  public:
    const FoldedPanels<T> panels;
};

// The rows of `from` as columns of panels (depth: its columns).
template <class T>
class PackedRows {
  public:
    PackedRows(Matrix<const T> from, int64_t width)
        : memory_(room<T>(rounded(from.rows, width) * from.cols)), panels{memory_.get(), from.cols, width} {
        constexpr int64_t kAtOnce = 64;  // of the depth: few lines are written at a time
        const int64_t steps = parts_of(from.cols, kAtOnce);
        parallel_chunks(parts_of(from.rows, width) * steps, 16, [&](int64_t begin, int64_t end, int) {
            for (int64_t c = begin; c < end; ++c)
                pack(from, c / steps * width, c % steps * kAtOnce, std::min(from.cols, (c % steps + 1) * kAtOnce));
        });
    }

  private:
    void pack(Matrix<const T> from, int64_t first, int64_t begin, int64_t end) {
        T* to = memory_.get() + first * from.cols;
        const int64_t width = panels.width, valid = std::min(width, from.rows - first);
        for (int64_t j = 0; j < valid; ++j)
            for (int64_t k = begin; k < end; ++k) to[k * width + j] = from.row(first + j)[k];
        for (int64_t k = begin; k < end && valid < width; ++k)
            std::fill_n(to + k * width + valid, width - valid, T(0));
    }
    std::unique_ptr<T[]> memory_;

  public:
    const FoldedPanels<T> panels;
};

// body(first, rows): rounds of so many rows that their operands, `width` elements a row, are not too large.
template <class Body>
void in_rounds(int64_t rows, int64_t width, const Body& body) {
    const int64_t most =
        std::max(kFoldedBatch, kMostPacked / std::max<int64_t>(width, 1) / kFoldedBatch * kFoldedBatch);
    for (int64_t first = 0; first < rows; first += most) body(first, std::min(most, rows - first));
}

template <class T>
Matrix<T> some_rows(Matrix<T> m, int64_t first, int64_t count) {
    return {m.row(first), count, m.cols};
}

template <class M, class T>
void multiply_few(const M& w, Matrix<const T> x, Matrix<T> y) {
    const int64_t stride = rounded(x.cols, kFoldedPadding);
    const auto padded = room<T>(kFoldedFew * stride);
    for (int64_t n = 0; n < x.rows; ++n)
        std::fill_n(std::copy_n(x.row(n), x.cols, padded.get() + n * stride), stride - x.cols, T(0));
    parallel_chunks(w.outputs, std::max<int64_t>(8, kGrain / w.inputs), [&](int64_t begin, int64_t end, int) {
        functions(w).few(w, padded.get(), stride, y, {begin, end});
    });
}

// body(rows, outputs or inputs, scratch) for a batch of rows and a run of columns at a time.
template <class M, class Body>
void over_batches(const M& w, int64_t rows, int64_t columns, int64_t run, const Body& body) {
    using T = typename M::Value;
    const int64_t runs = parts_of(columns, run), batches = parts_of(rows, kFoldedBatch);
    parallel_chunks(runs * batches, 1, [&](int64_t task, int64_t, int) {
        const int64_t column = task / batches * run, row = task % batches * kFoldedBatch;
        const auto scratch = room<T>(functions(w).scratch(w));
        body(Range{row, std::min(rows, row + kFoldedBatch)}, Range{column, std::min(columns, column + run)},
             scratch.get());
    });
}

// Rows of W in parts, each summed by one worker: into the gradient itself where parts share no value, otherwise
// into tables of their own, which are added up in order.
struct Parts {
    std::vector<int64_t> starts;
    bool disjoint;
    int64_t lanes;
    int64_t count() const { return static_cast<int64_t>(starts.size()) - 1; }
};

// Runs of rows whose shared values are their own, and where run r begins.
template <class T>
int64_t runs_of(const HashedMatrix<T>& w) {
    return w.identity ? w.outputs : w.blocks;
}
template <class T>
int64_t run_start(const HashedMatrix<T>& w, int64_t run) {
    return w.identity ? run : parts_of(run * w.outputs, w.blocks);
}
template <class T>
int64_t lanes_of(const HashedMatrix<T>&) {
    return 1;
}
template <class T>
int64_t runs_of(const CodebookMatrix<T>& w) {
    return parts_of(w.outputs, w.group_rows);
}
template <class T>
int64_t run_start(const CodebookMatrix<T>& w, int64_t run) {
    return std::min(w.outputs, run * w.group_rows);
}
template <class T>
int64_t lanes_of(const CodebookMatrix<T>& w) {
    return w.num_shared <= kSmallTable ? kLanes : 1;
}

// As many tables as the work on them pays for.
template <class M>
int64_t tables_for(const M& w, int64_t rows) {
    return std::clamp<int64_t>(rows * w.inputs / (2 * std::max<int64_t>(1, w.num_shared)), 1, kMostParts);
}

template <class M>
Parts parts_of_rows(const M& w) {
    const int64_t runs = runs_of(w);
    Parts parts{{}, runs >= kMostParts && w.num_shared > kSmallTable, lanes_of(w)};
    const int64_t tiles = parts_of(w.outputs, kFoldedRows);
    const int64_t count =
        parts.disjoint ? std::min(runs, 4 * kMostParts) : std::min(tiles, tables_for(w, w.outputs));
    for (int64_t p = 0; p < count; ++p)
        parts.starts.push_back(parts.disjoint ? run_start(w, runs * p / count) : tiles * p / count * kFoldedRows);
    parts.starts.push_back(w.outputs);
    return parts;
}

template <class M>
Parts parts_of_ids(const M& w, int64_t ids) {
    Parts parts{{}, false, lanes_of(w)};
    const int64_t count = tables_for(w, ids);
    for (int64_t p = 0; p <= count; ++p) parts.starts.push_back(ids * p / count);
    return parts;
}

// Adds to grad what body(part, sums) adds to sums, for every part.
template <class T, class Body>
void summed_over_parts(const Parts& parts, int64_t size, T* grad, const Body& body) {
    const bool in_place = parts.disjoint || (parts.count() == 1 && parts.lanes == 1);
    const int64_t tables = in_place ? 0 : parts.count() * parts.lanes;
    const std::unique_ptr<T[]> sums(new T[tables * size]());
    parallel_chunks(parts.count(), 1, [&](int64_t p, int64_t, int) {
        T* own = in_place ? grad : sums.get() + p * parts.lanes * size;
        body(Range{parts.starts[p], parts.starts[p + 1]}, FoldedSums<T>{own, size, in_place ? 1 : parts.lanes});
    });
    parallel_chunks(tables ? size : 0, kGrain / kMostParts, [&](int64_t begin, int64_t end, int) {
        for (int64_t t = 0; t < tables; ++t)
            for (int64_t i = begin; i < end; ++i) grad[i] += sums[t * size + i];
    });
}

}  // namespace

template <class M, class T>
void folded_matmul(const M& given, Matrix<const T> x, Matrix<T> y) {
    const auto kept = prepared(given);
    const M& w = kept.matrix;
    if (x.rows <= kFoldedFew) return multiply_few(w, x, y);
    in_rounds(x.rows, x.cols, [&](int64_t first, int64_t count) {
        const PackedRows<T> packed(some_rows(x, first, count), kFoldedCols);
        const Matrix<T> out = some_rows(y, first, count);
        over_batches(w, count, w.outputs, kFoldedRows, [&](Range rows, Range outputs, T* scratch) {
            functions(w).forward(w, packed.panels, out, rows, outputs, scratch);
        });
    });
}

template <class M, class T>
void folded_grad_x(const M& given, Matrix<const T> grad, Matrix<T> grad_x) {
    const auto kept = prepared(given);
    const M& w = kept.matrix;
    if (!w.outputs) std::fill_n(grad_x.data, grad_x.rows * grad_x.cols, T(0));
    in_rounds(grad.rows, grad.cols, [&](int64_t first, int64_t count) {
        const PackedRows<T> packed(some_rows(grad, first, count), kFoldedRows);
        const Matrix<T> out = some_rows(grad_x, first, count);
        over_batches(w, count, w.inputs, functions(w).piece(w, 128), [&](Range rows, Range inputs, T* scratch) {
            functions(w).grad_x(w, packed.panels, out, rows, inputs, scratch);
        });
    });
}

template <class M, class T>
void folded_grad_shared(const M& given, Matrix<const T> grad, Matrix<const T> x, T* grad_shared) {
    const auto kept = prepared(given);
    const M& w = kept.matrix;
    const Parts parts = parts_of_rows(w);
    std::fill_n(grad_shared, w.num_shared, T(0));
    in_rounds(x.rows, grad.cols + x.cols, [&](int64_t first, int64_t count) {
        const Packed<T> g(some_rows(grad, first, count), kFoldedRows), in(some_rows(x, first, count), kFoldedCols);
        summed_over_parts(parts, w.num_shared, grad_shared, [&](Range outputs, FoldedSums<T> sums) {
            const auto scratch = room<T>(functions(w).scratch(w));
            functions(w).grad_shared(w, g.panels, in.panels, outputs, sums, scratch.get());
        });
    });
}

template <class M, class T>
void folded_rows(const M& given, const int64_t* ids, Matrix<T> rows) {
    const auto kept = prepared(given);
    const M& w = kept.matrix;
    parallel_chunks(rows.rows, std::max<int64_t>(1, kGrain / w.inputs), [&](int64_t begin, int64_t end, int) {
        const auto scratch = room<T>(functions(w).scratch(w));
        functions(w).rows(w, ids, rows, {begin, end}, scratch.get());
    });
}

template <class M, class T>
void folded_rows_grad(const M& given, const int64_t* ids, Matrix<const T> grad, T* grad_shared) {
    const auto kept = prepared(given);
    const M& w = kept.matrix;
    std::fill_n(grad_shared, w.num_shared, T(0));
    summed_over_parts(parts_of_ids(w, grad.rows), w.num_shared, grad_shared,
                      [&](Range which, FoldedSums<T> sums) { functions(w).rows_grad(w, ids, grad, which, sums); });
}

#define HASHFOLD_INSTANTIATE(M, T)                                                       \
    template void folded_matmul(const M<T>&, Matrix<const T>, Matrix<T>);                \
    template void folded_grad_x(const M<T>&, Matrix<const T>, Matrix<T>);                \
    template void folded_grad_shared(const M<T>&, Matrix<const T>, Matrix<const T>, T*); \
    template void folded_rows(const M<T>&, const int64_t*, Matrix<T>);                   \
    template void folded_rows_grad(const M<T>&, const int64_t*, Matrix<const T>, T*);
HASHFOLD_INSTANTIATE(HashedMatrix, float)
HASHFOLD_INSTANTIATE(HashedMatrix, double)
HASHFOLD_INSTANTIATE(CodebookMatrix, float)
HASHFOLD_INSTANTIATE(CodebookMatrix, double)

}  // namespace hashfold
