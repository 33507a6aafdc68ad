// Values of a small table picked by packed codes. A table that a few registers hold is read by shuffles, a vector
// of codes at a time and without unpacking them first; any other entry by entry.
#pragma once

#include "folded_sinks.hpp"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace hashfold::HASHFOLD_ISA {

// Bits of an index that one shuffle of a vector of floats decides; 0: no such instruction.
#if defined(__clang__) || !defined(__AVX2__)
inline constexpr int kShuffleBits = 0;
#elif HASHFOLD_VECTOR_BYTES == 64
inline constexpr int kShuffleBits = 4;
#else
inline constexpr int kShuffleBits = 3;
#endif
inline constexpr int kMostShuffledBits = kShuffleBits == 4 ? 7 : kShuffleBits == 3 ? 5 : 0;

#if !defined(__clang__) && defined(__AVX2__)
// Where a vector's codes lie in the bytes that hold them: lane l begins `shifts[l]` bits into the byte `bytes[4 *
// l]` of its register's 16, and may reach into the next.
template <int Bits>
struct PackedLanes {
    alignas(64) uint8_t bytes[HASHFOLD_VECTOR_BYTES];
    alignas(64) int32_t shifts[kWidth<int32_t>];
    constexpr PackedLanes() : bytes(), shifts() {
        for (int l = 0; l < kWidth<int32_t>; ++l) {
            for (int b = 0; b < 4; ++b) bytes[4 * l + b] = 0x80;  // a zero
            bytes[4 * l] = static_cast<uint8_t>(l * Bits / 8);
            shifts[l] = l * Bits % 8;
            if (shifts[l] + Bits > 8) bytes[4 * l + 1] = static_cast<uint8_t>(l * Bits / 8 + 1);
        }
    }
};
// Bytes that a vector of codes is read from, whatever their bits.
inline constexpr int64_t kPackedBytes = kWidth<int32_t>;

// The codes of a vector, with other bits above them. Intrinsics, because GCC moves single bytes for such shuffles.
template <int Bits>
HF_INLINE Vec<int32_t> packed_lanes(const uint8_t* from) {
    static constexpr PackedLanes<Bits> where{};
#if HASHFOLD_VECTOR_BYTES == 64
    const __m512i all =
        _mm512_maskz_broadcast_i32x4(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    const __m512i own = _mm512_shuffle_epi8(all, _mm512_load_si512(where.bytes));
    return (Vec<int32_t>)_mm512_maskz_srlv_epi32(0xffff, own, _mm512_load_si512(where.shifts));
#else
    const __m256i all = _mm256_broadcastq_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
    const __m256i own = _mm256_shuffle_epi8(all, _mm256_load_si256(reinterpret_cast<const __m256i*>(where.bytes)));
    return (Vec<int32_t>)_mm256_srlv_epi32(own, _mm256_load_si256(reinterpret_cast<const __m256i*>(where.shifts)));
#endif
}

// Higher bits of an index do not matter, but that a table of less than a vector must be repeated to fill one.
template <int Bits>
HF_INLINE Vec<float> shuffled(const Vec<float>* table, Vec<int32_t> at) {
    if constexpr (Bits <= kShuffleBits) {
        return __builtin_shuffle(table[0], at);
    } else {
        constexpr int half = 1 << (Bits - 1 - kShuffleBits);
        const Vec<float> low = shuffled<Bits - 1>(table, at), high = shuffled<Bits - 1>(table + half, at);
        return (at & (1 << (Bits - 1))) != 0 ? high : low;
    }
}

// A function of its own, so that nothing else wants its registers. Reads kPackedBytes for each vector of codes.
template <int Bits, class Sink>
__attribute__((noinline)) void feed_packed(const float* table, const uint8_t* packed, int64_t at, int64_t count,
                                           Sink& sink) {
    constexpr int W = kWidth<float>;
    constexpr int kTable = 1 << (Bits < kShuffleBits ? kShuffleBits : Bits);
    Vec<float> entries[kTable / W] = {};
    std::memcpy(entries, table, sizeof(float) << Bits);
    if constexpr (Bits < kShuffleBits) {
        Vec<int32_t> lane;
        for (int l = 0; l < W; ++l) lane[l] = l & ((1 << Bits) - 1);
        entries[0] = __builtin_shuffle(entries[0], lane);
    }
    feed<float>(sink, at, count,
                [&](int64_t i) { return shuffled<Bits>(entries, packed_lanes<Bits>(packed + i * Bits / 8)); });
}

template <int Bits, class Sink>
HF_INLINE void look_up_shuffled(const float* table, const uint8_t* packed, const uint8_t* end, int64_t at,
                                int64_t count, Sink& sink) {
    constexpr int64_t W = kWidth<float>, kStep = W * Bits / 8;
    // The last codes of all do not have as many bytes behind them as are read.
    const int64_t bytes = end - packed, safe = bytes < kPackedBytes ? 0 : (bytes - kPackedBytes) / kStep + 1;
    const int64_t most = least(count, safe * W);
    if (most) feed_packed<Bits>(table, packed, at, most, sink);
    if (most == count) return;
    uint8_t last[3 * kPackedBytes] = {};
    std::memcpy(last, packed + safe * kStep, bytes - safe * kStep);
    feed_packed<Bits>(table, last, at + most, count - most, sink);
}

// Feeds table[code] for `count` codes, packed from a byte on, as weights [at, at + count); at: a multiple of the
// vector's width; end: of the readable bytes. False, and nothing fed, if the table is too large.
template <class Sink>
HF_INLINE bool look_up(const float* table, int64_t bits, const uint8_t* packed, const uint8_t* end, int64_t at,
                       int64_t count, Sink& sink) {
    switch (bits) {
        case 1:
            return look_up_shuffled<1>(table, packed, end, at, count, sink), true;
        case 2:
            return look_up_shuffled<2>(table, packed, end, at, count, sink), true;
        case 3:
            return look_up_shuffled<3>(table, packed, end, at, count, sink), true;
        case 4:
            return look_up_shuffled<4>(table, packed, end, at, count, sink), true;
        case 5:
            return look_up_shuffled<5>(table, packed, end, at, count, sink), true;
        case 6:
            if constexpr (kMostShuffledBits < 6) return false;
            return look_up_shuffled<6>(table, packed, end, at, count, sink), true;
        case 7:
            if constexpr (kMostShuffledBits < 7) return false;
            return look_up_shuffled<7>(table, packed, end, at, count, sink), true;
        default:
            return false;
    }
}
#endif

}  // namespace hashfold::HASHFOLD_ISA
