// Improved consistent weighted sampling (Ioffe 2010), vectorised across the hashes.
#pragma once

#include "../hashing_table.hpp"
#include "../portable_log.hpp"
#include "../simd.hpp"

namespace hashfold::HASHFOLD_ISA {
namespace {

using Reals = Vec<double>;
using Words = Vec<uint64_t>;

HF_INLINE Words mix_words(Words x) {  // mix64 of rng.hpp
    x += 0x9E3779B97F4A7C15ull;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

// x below 2^32, to the middle of its interval of (0, 1).
HF_INLINE Reals open_unit(Words x) {
    return ((Reals)(x | 0x4330000000000000ull) - 0x1p52 + 0.5) * 0x1p-32;
}

// -log(u1 u2), the Gamma(2, 1) distribution, from the two halves of a word.
HF_INLINE Reals gamma2(Words random) {
    return -portable_log<Reals, Words>(open_unit(random >> 32) * open_unit(random & 0xFFFFFFFFull));
}

HF_INLINE Reals floor_of(Reals x) {  // |x| < 2^51
    const Reals rounded = (x + 0x1.8p52) - 0x1.8p52;
    return rounded > x ? rounded - 1.0 : rounded;
}

void consistent_samples(const uint64_t* keys, const double* logs, int64_t count, int32_t* codes, int64_t hashes) {
    constexpr int width = kWidth<double>;
    constexpr uint64_t stride = 0x9E3779B97F4A7C15ull;
    Words lane;
    for (int i = 0; i < width; ++i) lane[i] = 3 * stride * static_cast<uint64_t>(i);
    for (int64_t h = 0; h < hashes; h += width) {
        const Words offset = lane + 3 * stride * static_cast<uint64_t>(h);
        Reals least_a = splat(__builtin_inf()), winner_t{};
        Words winner{};
        for (int64_t j = 0; j < count; ++j) {
            const Words draw = offset + keys[j];
            const Reals r = gamma2(mix_words(draw)), c = gamma2(mix_words(draw + stride));
            const Words beta_bits = mix_words(draw + 2 * stride) >> 12 | 0x3FF0000000000000ull;
            const Reals beta = (Reals)beta_bits - 1.0;
            const Reals t = floor_of(logs[j] / r + beta);
            // log of c / (y e^r) with y = e^(r (t - beta))
            const Reals a = portable_log<Reals, Words>(c) - r * (t - beta + 1.0);
            const auto less = a < least_a;
            least_a = less ? a : least_a;
            winner_t = less ? t : winner_t;
            winner = less ? splat(keys[j]) : winner;
        }
        const Words code = mix_words(winner ^ (Words)winner_t) >> 33;
        for (int i = 0; i < width && h + i < hashes; ++i) codes[h + i] = static_cast<int32_t>(code[i]);
    }
}

}  // namespace
}  // namespace hashfold::HASHFOLD_ISA
