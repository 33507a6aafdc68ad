// Unsigned numbers in groups of 7 bits, the lowest first; the top bit of a byte says that more follow (LEB128).
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <vector>

namespace hashfold {

inline void put_varint(std::vector<uint8_t>& out, uint32_t value) {
    for (; value >= 128; value >>= 7) out.push_back(static_cast<uint8_t>(value | 128));
    out.push_back(static_cast<uint8_t>(value));
}

// From bytes that put_varint wrote.
inline uint32_t get_varint(const uint8_t*& at) {
    uint32_t value = *at & 127;
    for (int shift = 7; *at++ & 128; shift += 7) value |= static_cast<uint32_t>(*at & 127) << shift;
    return value;
}

// Past `count` of them, eight bytes at a time while there are as many before `end`.
inline void skip_varints(const uint8_t*& at, uint32_t count, const uint8_t* end) {
    for (uint64_t bytes; count >= 8 && end - at >= 8; at += 8) {
        std::memcpy(&bytes, at, 8);
        count -= static_cast<uint32_t>(std::popcount(~bytes & 0x8080808080808080u));
    }
    for (; count > 0; --count) get_varint(at);
}

// From bytes that anyone may have written: false where they end within a number, or it is above `largest`.
inline bool get_varint_checked(const uint8_t*& at, const uint8_t* end, uint32_t largest, uint32_t& value) {
    uint64_t read = 0;
    for (int shift = 0; shift < 35 && at != end; shift += 7) {
        read |= static_cast<uint64_t>(*at & 127) << shift;
        if (!(*at++ & 128)) {
            value = static_cast<uint32_t>(read);
            return read <= largest;
        }
    }
    return false;
}

}  // namespace hashfold
