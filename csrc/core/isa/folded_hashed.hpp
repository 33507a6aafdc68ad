// Reads rows of a hashed matrix, and adds to the buckets of their weights.
#pragma once

#include "../folded_table.hpp"
#include "folded_sinks.hpp"

#if defined(__AVX512DQ__)
#include <immintrin.h>
#endif

namespace hashfold::HASHFOLD_ISA {

// The lanes of a vector and integers of their size.
template <class T, int N>
struct Lanes {
    typedef T Values __attribute__((vector_size(N * sizeof(T))));
    typedef decltype(Values{} < Values{}) Bits;
};

// The values whose bit in `signs` is set, negated.
template <class T, int N>
HF_INLINE typename Lanes<T, N>::Values with_signs(typename Lanes<T, N>::Values v, uint32_t signs) {
#if defined(__AVX512DQ__)
    if constexpr (sizeof(v) == 64 && sizeof(T) == sizeof(float))
        return (typename Lanes<T, N>::Values)_mm512_mask_xor_ps((__m512)v, static_cast<__mmask16>(signs),
                                                                (__m512)v, _mm512_set1_ps(-0.0f));
#endif
    using Bits = typename Lanes<T, N>::Bits;
    using Word = decltype(Bits{}[0] + 0);
    Bits lane;
    for (int l = 0; l < N; ++l) lane[l] = Word(1) << l;
    const Bits sign_bit = Bits{} + (Word(1) << (8 * sizeof(T) - 1));
    const Bits set = ((Bits{} + Word(signs)) & lane) != 0;
    return (typename Lanes<T, N>::Values)((Bits)v ^ (set & sign_bit));
}

template <class T>
class HashedReader {
  public:
    explicit HashedReader(const HashedMatrix<T>& w)
        : w_(w),
          block_(w.num_shared / w.blocks),
          tiles_(static_cast<uint32_t>(block_ / w.tile)),
          far_(block_ * static_cast<int64_t>(sizeof(T)) > kNear) {}

    HF_INLINE void open(int64_t output) {
        start_ = w_.identity ? output * w_.inputs : output * w_.blocks / w_.outputs * block_;
        key_ = static_cast<uint32_t>(output) + (2 * w_.seed + 2) * 0x9E3779B9u;
        key_ = (key_ ^ (key_ >> 16)) * 0x85EBCA6Bu;
        key_ = (key_ ^ (key_ >> 13)) * 0xC2B2AE35u;
        key_ ^= key_ >> 16;
    }

    // Weights [from, from + count) of the row; from: a multiple of 32.
    template <class Sink>
    void read(int64_t from, int64_t count, Sink& sink) const {
        if (w_.identity) {
            const T* row = w_.shared + start_ + from;
            return feed<T>(sink, 0, count, [&](int64_t at) { return load_first(row + at, count - at); });
        }
        switch (w_.tile) {
            case 1:
                return read_single(from, count, sink);
            case 4:
                return read_tiles<4>(from, count, sink);
            case 8:
                return read_tiles<8>(from, count, sink);
            case 16:
                return read_tiles<16>(from, count, sink);
            default:
                return read_tiles<32>(from, count, sink);
        }
    }

    // Adds values (count,) to the buckets of the same weights.
    void add(int64_t from, int64_t count, const T* values, FoldedSums<T> sums) const {
        T* block = sums.data + start_;
        if (w_.identity) {
            for (int64_t i = 0; i < count; ++i) block[from + i] += values[i];
            return;
        }
        switch (w_.tile) {
            case 1:
                return add_tiles<1>(from, count, values, block);
            case 4:
                return add_tiles<4>(from, count, values, block);
            case 8:
                return add_tiles<8>(from, count, values, block);
            case 16:
                return add_tiles<16>(from, count, values, block);
            default:
                return add_tiles<32>(from, count, values, block);
        }
    }

  private:
    // So many tiles are hashed together; keys have room for them behind the last.
    static constexpr int64_t kGroup = kFoldedHashes;
    static constexpr int64_t kNear = int64_t{1} << 18;

    // Where the tiles begin in their block, and the signs of their weights.
    struct Found {
        uint32_t places[kGroup];
        uint32_t signs[kGroup];
    };

    template <int Tile>
    HF_INLINE void find(int64_t first, Found& found) const {
        const uint32_t* keys = w_.keys + first;
        const uint64_t tiles = tiles_;
        for (int64_t t = 0; t < kGroup; ++t)
            found.places[t] = static_cast<uint32_t>((hash(keys[t]) * tiles) >> 32) * Tile;
        if (!w_.sign)
            for (int64_t t = 0; t < kGroup; ++t) found.signs[t] = 0;
        else
            for (int64_t t = 0; t < kGroup; ++t) found.signs[t] = signs_of<Tile>(hash(keys[t]));
    }
    HF_INLINE uint32_t hash(uint32_t key) const { return (key ^ key_) * 0x9E3779B1u; }

    template <int Tile>
    static HF_INLINE uint32_t signs_of(uint32_t h) {
        if constexpr (Tile == 1) return ((h >> 15) ^ h) & 1;
        h = (h ^ (h >> 15)) * 0x85EBCA6Bu;
        return h ^ (h >> 13);
    }

    static HF_INLINE Vec<T> load_first(const T* from, int64_t count) {
        if (count >= kWidth<T>) return load(from);
        T part[kWidth<T>] = {};
        for (int64_t l = 0; l < count; ++l) part[l] = from[l];
        return load(part);
    }

    template <class Sink>
    HF_INLINE void read_single(int64_t from, int64_t count, Sink& sink) const {
        const T* block = w_.shared + start_;
        Found found;
        Stage<T, Sink> stage(sink, 0);
        for (int64_t done = 0; done < count; done += kGroup) {
            find<1>(from + done, found);
            const int64_t here = least(kGroup, count - done);
            T* to = stage.room(here);
            for (int64_t t = 0; t < here; ++t) to[t] = block[found.places[t]];
            if (w_.sign)
                for (int64_t t = 0; t < here; ++t)
                    to[t] *= T(1) - T(2) * static_cast<T>(static_cast<int32_t>(found.signs[t]));
        }
        stage.finish();
    }

    template <int Tile, class Sink>
    HF_INLINE void read_tiles(int64_t from, int64_t count, Sink& sink) const {
        if (far_)
            read_far<Tile>(from, count, sink);
        else
            read_near<Tile>(from, count, sink);
    }

    // Functions of their own, so that nothing else wants their registers.
    template <int Tile, class Sink>
    __attribute__((noinline)) void read_near(int64_t from, int64_t count, Sink& sink) const {
        Found found;
        for (int64_t done = 0; done < count; done += kGroup * Tile) {
            find<Tile>((from + done) / Tile, found);
            feed_tiles<Tile>(found, done, least(kGroup * Tile, count - done), sink);
        }
    }

    // The tiles of a group are asked for while those of the group before are read.
    template <int Tile, class Sink>
    __attribute__((noinline)) void read_far(int64_t from, int64_t count, Sink& sink) const {
        Found both[2];
        Found *now = both, *next = both + 1;
        find<Tile>(from / Tile, *now);
        for (int64_t done = 0; done < count; done += kGroup * Tile) {
            if (done + kGroup * Tile < count) {
                find<Tile>((from + done) / Tile + kGroup, *next);
                for (int64_t t = 0; t < kGroup; ++t) __builtin_prefetch(w_.shared + start_ + next->places[t]);
            }
            feed_tiles<Tile>(*now, done, least(kGroup * Tile, count - done), sink);
            Found* const used = now;
            now = next;
            next = used;
        }
    }

    template <int Tile, class Sink>
    HF_INLINE void feed_tiles(const Found& found, int64_t at, int64_t count, Sink& sink) const {
        const T* block = w_.shared + start_;
        feed<T>(sink, at, count, [&](int64_t i) { return vector_at<Tile>(block, found, i); });
    }

    // The vector from weight `at` on: a part of a tile, or several tiles.
    template <int Tile>
    static HF_INLINE Vec<T> vector_at(const T* block, const Found& found, int64_t at) {
        constexpr int W = kWidth<T>;
        const auto t = static_cast<uint64_t>(at) / Tile;
        if constexpr (Tile >= W) {
            const auto within = static_cast<uint64_t>(at) % Tile;
            return with_signs<T, W>(load(block + found.places[t] + within), found.signs[t] >> within);
        } else {
            uint32_t signs = 0;
            for (int k = 0; k < W / Tile; ++k) signs |= (found.signs[t + k] & ((1u << Tile) - 1)) << (k * Tile);
            return with_signs<T, W>(side_by_side<Tile, W>(block, found.places + t), signs);
        }
    }

    // N / Tile tiles as one vector.
    template <int Tile, int N>
    static HF_INLINE typename Lanes<T, N>::Values side_by_side(const T* block, const uint32_t* places) {
        typename Lanes<T, N>::Values all;
        if constexpr (N == Tile) {
            std::memcpy(&all, block + places[0], sizeof all);
        } else {
            const auto low = side_by_side<Tile, N / 2>(block, places);
            const auto high = side_by_side<Tile, N / 2>(block, places + N / 2 / Tile);
            if constexpr (N == 4)
                all = __builtin_shufflevector(low, high, 0, 1, 2, 3);
            else if constexpr (N == 8)
                all = __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7);
            else
                all = __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        }
        return all;
    }

    template <int Tile>
    HF_INLINE void add_tiles(int64_t from, int64_t count, const T* values, T* block) const {
        Found found;
        for (int64_t done = 0; done < count; done += kGroup * Tile) {
            find<Tile>((from + done) / Tile, found);
            const int64_t here = least(kGroup * Tile, count - done);
            for (int64_t t = 0; t * Tile < here; ++t)
                add_tile<Tile>(values + done + t * Tile, here - t * Tile, found.signs[t], block + found.places[t]);
        }
    }

    template <int Tile>
    static HF_INLINE void add_tile(const T* values, int64_t count, uint32_t signs, T* to) {
        constexpr int N = Tile < kWidth<T> ? Tile : kWidth<T>;
        using Values = typename Lanes<T, N>::Values;
        if (count < Tile || Tile == 1) {
            for (int64_t l = 0; l < least(count, int64_t{Tile}); ++l)
                to[l] += signs >> l & 1 ? -values[l] : values[l];
            return;
        }
        for (int part = 0; part < Tile; part += N) {
            Values v, sum;
            std::memcpy(&v, values + part, sizeof v);
            std::memcpy(&sum, to + part, sizeof sum);
            sum += with_signs<T, N>(v, signs >> part);
            std::memcpy(to + part, &sum, sizeof sum);
        }
    }

    const HashedMatrix<T>& w_;
    int64_t block_;
    uint32_t tiles_;
    bool far_;  // a block does not stay in the second-level cache: its tiles are asked for ahead
    uint32_t key_ = 0;
    int64_t start_ = 0;
};

}  // namespace hashfold::HASHFOLD_ISA
