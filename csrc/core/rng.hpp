// Counter-based randomness: a value is a pure function of (seed, position), so that it does not
// depend on threads, on order or on the instruction set.
#pragma once

#include <cstdint>

namespace hashfold {

// The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
inline uint64_t mix64(uint64_t x) {
    x += 0x9E3779B97F4A7C15ull;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

inline uint64_t mix64(uint64_t seed, uint64_t position) {
    return mix64(mix64(seed) ^ (position * 0xD1B54A32D192ED03ull));
}

// Uniform in [0, bound) without a division (Lemire 2019); bias below 2^-32 * bound.
inline uint32_t below(uint64_t random, uint32_t bound) {
    return static_cast<uint32_t>((static_cast<uint64_t>(static_cast<uint32_t>(random >> 32)) * bound) >> 32);
}

// Uniform in (0, 1].
inline double unit(uint64_t random) {
    return (static_cast<double>(random >> 11) + 1.0) * 0x1.0p-53;
}

// A short sequential stream for code that draws an unknown number of values.
class Stream {
  public:
    explicit Stream(uint64_t seed, uint64_t position = 0) : state_(mix64(seed, position)) {}
    uint64_t next() { return mix64(state_++); }
    uint32_t below(uint32_t bound) { return hashfold::below(next(), bound); }

  private:
    uint64_t state_;
};

}  // namespace hashfold
