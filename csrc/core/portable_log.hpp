// The natural logarithm from additions, multiplications and one division, so that it is the same bits
// on every machine: libm's differs in the last place where it was built with fused multiply-add.
// For double and uint64_t, or vectors of them; compile with -ffp-contract=off.
#pragma once

#include <cstdint>
#include <cstring>

namespace hashfold {

// x positive and normal; error a few units in the last place.
template <class Real, class Bits>
__attribute__((always_inline)) inline Real portable_log(Real x) {
    Bits bits;
    std::memcpy(&bits, &x, sizeof x);
    // The exponent as a double: its bits as the low end of 2^52's mantissa.
    const Bits exponent_bits = (bits >> 52) | 0x4330000000000000ull;
    const Bits mantissa_bits = (bits & 0x000FFFFFFFFFFFFFull) | 0x3FF0000000000000ull;
    Real exponent, m;
    std::memcpy(&exponent, &exponent_bits, sizeof x);
    std::memcpy(&m, &mantissa_bits, sizeof x);
    exponent = exponent - (0x1p52 + 1023.0);
    const auto large = m > 1.4142135623730951;
    m = large ? m * 0.5 : m;
    exponent = large ? exponent + 1.0 : exponent;
    // log m = 2 atanh(s), s = (m - 1) / (m + 1), |s| < .172
    const Real s = (m - 1.0) / (m + 1.0), z = s * s;
    Real series = z * (1.0 / 19) + 1.0 / 17;
    series = series * z + 1.0 / 15;
    series = series * z + 1.0 / 13;
    series = series * z + 1.0 / 11;
    series = series * z + 1.0 / 9;
    series = series * z + 1.0 / 7;
    series = series * z + 1.0 / 5;
    series = series * z + 1.0 / 3;
    series = series * z + 1.0;
    return exponent * 0.6931471805599453 + s * 2.0 * series;
}

}  // namespace hashfold
