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
        if (w_.dim > 1) return read_vectors(from, count, sink);
        if (read_packed(from, count, sink)) return;
        Stage<T, Sink> stage(sink, 0);
        for_runs(from, count, [&](int64_t, int64_t n, int64_t group, const uint8_t* codes) {
            const T* book = w_.shared + group * entries_;
            T* to = stage.room(n);
            for (int64_t i = 0; i < n; ++i) to[i] = book[codes[i]];
        });
        stage.finish();
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

    // Scalars whose table fits registers, in groups of whole vectors; false, and nothing read, for any other.
    template <class Sink>
    HF_INLINE bool read_packed([[maybe_unused]] int64_t from, [[maybe_unused]] int64_t count,
                               [[maybe_unused]] Sink& sink) const {
#if !defined(__clang__) && defined(__AVX2__)
        if constexpr (sizeof(T) == sizeof(float)) {
            if (w_.bits > kMostShuffledBits || (group_codes_ < w_.inputs && group_codes_ % kWidth<T> != 0))
                return false;
            const uint8_t* end = w_.codes + w_.outputs * w_.stride;
            int64_t group = from / group_codes_;
            for (int64_t at = from; at < from + count; ++group) {
                const int64_t stop = least(from + count, (group + 1) * group_codes_);
                look_up(w_.shared + (first_group_ + group) * entries_, w_.bits, codes_ + at * w_.bits / 8, end,
                        at - from, stop - at, sink);
                at = stop;
            }
            return true;
        }
#endif
        return false;
    }

    template <class Sink>
    HF_INLINE void read_vectors(int64_t from, int64_t count, Sink& sink) const {
        switch (w_.dim) {
            case 2:
                return read_vectors_of<2>(from, count, sink);
            case 4:
                return read_vectors_of<4>(from, count, sink);
            case 8:
                return read_vectors_of<8>(from, count, sink);
            case 16:
                return read_vectors_of<16>(from, count, sink);
            default:
                return read_vectors_of<0>(from, count, sink);
        }
    }

    // Dim: the vectors' length, 0 for one that is only known at run time.
    template <int Dim, class Sink>
    HF_INLINE void read_vectors_of(int64_t from, int64_t count, Sink& sink) const {
        Stage<T, Sink> stage(sink, 0);
        for_runs(from, count, [&](int64_t, int64_t n, int64_t group, const uint8_t* codes) {
            const T* book = w_.shared + group * entries_;
            if constexpr (Dim > 0)
                for (; n >= Dim;) {
                    constexpr int64_t kMost = 512 / Dim;
                    const int64_t some = least(kMost, n / Dim);
                    T* to = stage.room(some * Dim);
                    for (int64_t c = 0; c < some; ++c)
                        std::memcpy(to + c * Dim, book + int64_t{codes[c]} * Dim, Dim * sizeof(T));
                    n -= some * Dim;
                    codes += some;
                }
            for (; n > 0; n -= w_.dim, ++codes)
                for (int64_t i = 0; i < least(n, w_.dim); i += 64) {
                    const int64_t some = least(int64_t{64}, least(n, w_.dim) - i);
                    std::memcpy(stage.room(some), book + *codes * w_.dim + i, some * sizeof(T));
                }
        });
        stage.finish();
    }

    const CodebookMatrix<T>& w_;
    int64_t group_codes_, entries_, row_groups_;
    const uint8_t* codes_ = nullptr;
    int64_t first_group_ = 0;
};

}  // namespace hashfold::HASHFOLD_ISA
