// Values of a small table picked by bytes. A table of up to 128 floats stays in registers where the instruction
// set has a shuffle of floats by index; any other is read entry by entry.
#pragma once

#include "folded_sinks.hpp"

namespace hashfold::HASHFOLD_ISA {

// Bits of an index that one shuffle of a vector of floats decides; 0: no such instruction.
#if defined(__clang__) || !defined(__AVX2__)
inline constexpr int kShuffleBits = 0;
#elif HASHFOLD_VECTOR_BYTES == 64
inline constexpr int kShuffleBits = 4;
#else
inline constexpr int kShuffleBits = 3;
#endif
inline constexpr int kMostShuffledBits = kShuffleBits ? 3 + kShuffleBits - (kShuffleBits == 3) : 0;

// A byte for each lane of a vector of floats.
typedef uint8_t ByteLanes __attribute__((vector_size(HASHFOLD_VECTOR_BYTES / 4)));

#if !defined(__clang__) && defined(__AVX2__)
// table: 2^Bits floats, a power of two of vectors. Higher bits of an index may be set only where Bits is
// kShuffleBits.
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

template <int Bits, class Sink>
HF_INLINE void look_up_shuffled(const float* table, const uint8_t* codes, int64_t at, int64_t count, Sink& sink) {
    constexpr int W = kWidth<float>;
    constexpr int kTable = 1 << (Bits < kShuffleBits ? kShuffleBits : Bits);
    Vec<float> entries[kTable / W];
    float room[kTable];
    for (int i = 0; i < kTable; ++i) room[i] = table[i & ((1 << Bits) - 1)];
    for (int v = 0; v < kTable / W; ++v) entries[v] = load(room + v * W);
    feed<float>(sink, at, count, [&](int64_t i) {
        ByteLanes bytes;
        std::memcpy(&bytes, codes + i, sizeof bytes);
        return shuffled<Bits>(entries, __builtin_convertvector(bytes, Vec<int32_t>));
    });
}

template <class Sink>
HF_INLINE bool look_up_in_registers(const float* table, int bits, const uint8_t* codes, int64_t at, int64_t count,
                                    Sink& sink) {
    switch (bits) {
        case 1:
            return look_up_shuffled<1>(table, codes, at, count, sink), true;
        case 2:
            return look_up_shuffled<2>(table, codes, at, count, sink), true;
        case 3:
            return look_up_shuffled<3>(table, codes, at, count, sink), true;
        case 4:
            return look_up_shuffled<4>(table, codes, at, count, sink), true;
        case 5:
            return look_up_shuffled<5>(table, codes, at, count, sink), true;
        case 6:
            if constexpr (kMostShuffledBits < 6) return false;
            return look_up_shuffled<6>(table, codes, at, count, sink), true;
        case 7:
            if constexpr (kMostShuffledBits < 7) return false;
            return look_up_shuffled<7>(table, codes, at, count, sink), true;
        default:
            return false;
    }
}
#endif

// Feeds table[codes[i]] for i < count as weights [at, at + count); at: a multiple of the vector's width.
template <class T, class Sink>
HF_INLINE void look_up(const T* table, [[maybe_unused]] int bits, const uint8_t* codes, int64_t at, int64_t count,
                       Sink& sink) {
#if !defined(__clang__) && defined(__AVX2__)
    if constexpr (sizeof(T) == sizeof(float))
        if (look_up_in_registers(table, bits, codes, at, count, sink)) return;
#endif
    Stage<T, Sink> stage(sink, at);
    for (int64_t i = 0; i < count; i += 64) {
        const int64_t some = least(int64_t{64}, count - i);
        T* to = stage.room(some);
        for (int64_t l = 0; l < some; ++l) to[l] = table[codes[i + l]];
    }
    stage.finish();
}

}  // namespace hashfold::HASHFOLD_ISA
