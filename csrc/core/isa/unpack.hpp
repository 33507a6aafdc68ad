// Packed codes of 1 to 8 bits, a byte each.
#pragma once

#include "../simd.hpp"

namespace hashfold::HASHFOLD_ISA {

// Bytes that may be written behind the last code.
inline constexpr int64_t kUnpackRoom = 64;

// Eight codes, side by side in the lowest bits of a word, each moved to its byte: halves are moved apart three
// times.
template <int Bits>
HF_INLINE uint64_t to_bytes(uint64_t x) {
    if constexpr (Bits < 8) {
        constexpr uint64_t half = (uint64_t{1} << (4 * Bits)) - 1;
        constexpr uint64_t quarter = ((uint64_t{1} << (2 * Bits)) - 1) * 0x0000000100000001u;
        constexpr uint64_t one = ((uint64_t{1} << Bits) - 1) * 0x0001000100010001u;
        x = (x & half) | ((x >> (4 * Bits) & half) << 32);
        x = (x & quarter) | ((x & (quarter << (2 * Bits))) << (16 - 2 * Bits));
        x = (x & one) | ((x & (one << Bits)) << (8 - Bits));
    }
    return x;
}

// What holds eight codes of so many bits.
template <int Bits>
struct EightCodes {
    using type = uint64_t;
};
template <>
struct EightCodes<1> {
    using type = uint8_t;
};
template <>
struct EightCodes<2> {
    using type = uint16_t;
};
template <>
struct EightCodes<4> {
    using type = uint32_t;
};

template <int Bits>
HF_INLINE void unpack_bits(const uint8_t* packed, int64_t count, uint8_t* codes) {
    using Eight = typename EightCodes<Bits>::type;
    constexpr int64_t kWords = 8;
    const int64_t bytes = (count * Bits + 7) / 8;
    uint64_t words[kWords];
    const auto spread = [&](uint8_t* to) {
        for (int64_t g = 0; g < kWords; ++g) words[g] = to_bytes<Bits>(words[g]);
        std::memcpy(to, words, sizeof words);
    };
    int64_t at = 0, done = 0;
    // A word is read whole: it may reach into the codes that follow, but not behind the row.
    for (; at + kWords * Bits + static_cast<int64_t>(sizeof(Eight)) - Bits <= bytes;
         at += kWords * Bits, done += 64) {
        for (int64_t g = 0; g < kWords; ++g) {
            Eight word;
            std::memcpy(&word, packed + at + g * Bits, sizeof word);
            words[g] = word;
        }
        spread(codes + done);
    }
    for (; at < bytes; at += kWords * Bits, done += 64) {
        uint8_t last[kWords * Bits + 8] = {};
        std::memcpy(last, packed + at, least(bytes - at, kWords * Bits));
        for (int64_t g = 0; g < kWords; ++g) std::memcpy(words + g, last + g * Bits, 8);
        spread(codes + done);
    }
}

// codes[0, count): from a byte on; with room for kUnpackRoom more.
inline void unpack(const uint8_t* packed, int bits, int64_t count, uint8_t* codes) {
    switch (bits) {
        case 1:
            return unpack_bits<1>(packed, count, codes);
        case 2:
            return unpack_bits<2>(packed, count, codes);
        case 3:
            return unpack_bits<3>(packed, count, codes);
        case 4:
            return unpack_bits<4>(packed, count, codes);
        case 5:
            return unpack_bits<5>(packed, count, codes);
        case 6:
            return unpack_bits<6>(packed, count, codes);
        case 7:
            return unpack_bits<7>(packed, count, codes);
        default:
            std::memcpy(codes, packed, count);
    }
}

}  // namespace hashfold::HASHFOLD_ISA
