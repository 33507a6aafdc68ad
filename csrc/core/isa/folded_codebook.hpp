// Reads rows of a codebook matrix, and adds to the entries of their weights.
#pragma once

#include "../folded_table.hpp"
#include "folded_sinks.hpp"
#include "lookup.hpp"
#include "unpack.hpp"

namespace hashfold::HASHFOLD_ISA {

template <class T>
class CodebookReader {
  public:
    explicit CodebookReader(const CodebookMatrix<T>& w)
        : w_(w),
          group_codes_(w.group_cols / w.dim),
          entries_(w.dim << w.bits),
          row_groups_((w.inputs + w.group_cols - 1) / w.group_cols) {}

    HF_INLINE void open(int64_t output) {
        codes_ = w_.codes + output * w_.stride;
        first_group_ = output / w_.group_rows * row_groups_;
    }

    // Weights [from, from + count) of the row; from: a multiple of 8 * dim and 32.
    template <class Sink>
    void read(int64_t from, int64_t count, Sink& sink) const {
        if (w_.dim == 1 && (group_codes_ >= w_.inputs || group_codes_ % kWidth<T> == 0))
            read_scalars(from, count, sink);
        else if (w_.dim == 1)
            read_staged(from, count, sink, [&](T* to, const T* book, const uint8_t* codes, int64_t n) {
                for (int64_t i = 0; i < n; ++i) to[i] = book[codes[i]];
            });
        else
            read_vectors(from, count, sink);
    }

    // Adds values (count,) to the entries of the same weights, in a lane of sums by the place in the row.
    void add(int64_t from, int64_t count, const T* values, FoldedSums<T> sums) const {
        for_runs(from, count, [&](int64_t at, int64_t n, int64_t group, const uint8_t* codes) {
            T* const book = sums.data + group * entries_;
            const T* v = values + at;
            if (w_.dim == 1) {
                for (int64_t i = 0; i < n; ++i) book[(i & (sums.lanes - 1)) * sums.lane_stride + codes[i]] += v[i];
                return;
            }
            for (int64_t left = n, c = 0; left > 0; left -= w_.dim, v += w_.dim, ++c) {
                T* to = book + (c & (sums.lanes - 1)) * sums.lane_stride + codes[c] * w_.dim;
                for (int64_t i = 0; i < least(left, w_.dim); ++i) to[i] += v[i];
            }
        });
    }

  private:
    static constexpr int64_t kCodes = 512;  // unpacked together

    // body(at, n, group, codes): weights [at, at + n) of the piece lie in one group, and begin with a whole code.
    template <class Body>
    HF_INLINE void for_runs(int64_t from, int64_t count, const Body& body) const {
        uint8_t codes[kCodes + kUnpackRoom];
        const int64_t first = from / w_.dim, last = (from + count + w_.dim - 1) / w_.dim;
        int64_t group = first / group_codes_, group_end = (group + 1) * group_codes_;
        for (int64_t block = first; block < last; block += kCodes) {
            const int64_t end = least(block + kCodes, last);
            unpack(codes_ + block * w_.bits / 8, static_cast<int>(w_.bits), end - block, codes);
            for (int64_t c = block; c < end;) {
                if (c == group_end) {
                    ++group;
                    group_end += group_codes_;
                }
                const int64_t stop = least(end, group_end), at = c * w_.dim - from;
                body(at, least(stop * w_.dim - from, count) - at, first_group_ + group, codes + (c - block));
                c = stop;
            }
        }
    }

    template <class Sink>
    HF_INLINE void read_scalars(int64_t from, int64_t count, Sink& sink) const {
        for_runs(from, count, [&](int64_t at, int64_t n, int64_t group, const uint8_t* codes) {
            look_up(w_.shared + group * entries_, static_cast<int>(w_.bits), codes, at, n, sink);
        });
    }

    template <class Sink, class Fill>
    HF_INLINE void read_staged(int64_t from, int64_t count, Sink& sink, const Fill& fill) const {
        Stage<T, Sink> stage(sink, 0);
        for_runs(from, count, [&](int64_t, int64_t n, int64_t group, const uint8_t* codes) {
            fill(stage.room(n), w_.shared + group * entries_, codes, n);
        });
        stage.finish();
    }

    template <class Sink>
    HF_INLINE void read_vectors(int64_t from, int64_t count, Sink& sink) const {
        Stage<T, Sink> stage(sink, 0);
        const int64_t dim = w_.dim;
        for_runs(from, count, [&](int64_t, int64_t n, int64_t group, const uint8_t* codes) {
            const T* book = w_.shared + group * entries_;
            for (; n >= dim && dim <= 16; n -= dim, ++codes)
                copy_vector(book + *codes * dim, dim, stage.room(dim));
            for (; n > 0; n -= dim, ++codes)
                for (int64_t i = 0; i < least(n, dim); i += 64) {
                    const int64_t some = least(int64_t{64}, least(n, dim) - i);
                    std::memcpy(stage.room(some), book + *codes * dim + i, some * sizeof(T));
                }
        });
        stage.finish();
    }

    static HF_INLINE void copy_vector(const T* from, int64_t dim, T* to) {
        switch (dim) {
            case 2:
                return copy<2>(from, to);
            case 4:
                return copy<4>(from, to);
            case 8:
                return copy<8>(from, to);
            case 16:
                return copy<16>(from, to);
            default:
                for (int64_t i = 0; i < dim; ++i) to[i] = from[i];
        }
    }
    template <int N>
    static HF_INLINE void copy(const T* from, T* to) {
        std::memcpy(to, from, N * sizeof(T));
    }

    const CodebookMatrix<T>& w_;
    int64_t group_codes_, entries_, row_groups_;
    const uint8_t* codes_ = nullptr;
    int64_t first_group_ = 0;
};

}  // namespace hashfold::HASHFOLD_ISA
