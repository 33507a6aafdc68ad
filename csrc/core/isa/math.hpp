// Exponential and logarithm on vectors. float: range reduction and the polynomials of Cephes
// (Moshier), relative error below 2e-7; double: the C library, element by element.
#pragma once

#include "../simd.hpp"

namespace hashfold::HASHFOLD_ISA {

typedef int32_t IntVec __attribute__((vector_size(HASHFOLD_VECTOR_BYTES)));

HF_INLINE Vec<float> bits_to_float(IntVec v) {
    Vec<float> f;
    std::memcpy(&f, &v, sizeof f);
    return f;
}
HF_INLINE IntVec float_to_bits(Vec<float> f) {
    IntVec v;
    std::memcpy(&v, &f, sizeof v);
    return v;
}

// e^x / 2^whole, where whole is x / log 2 rounded to the nearest.
HF_INLINE Vec<float> mantissa_of_exponential(Vec<float> x, Vec<float> whole) {
    const Vec<float> r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    Vec<float> p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 0.5f;
    return p * r * r + r + 1.0f;
}

// e^x for x up to 88; 0 below -87. NaN stays NaN.
HF_INLINE Vec<float> exponential(Vec<float> x) {
    const Vec<float> low = splat(-87.0f), high = splat(88.0f);
    const Vec<float> clamped = x < low ? low : (x > high ? high : x);
    const Vec<float> scaled = clamped * 1.44269504f;
    const IntVec n = __builtin_convertvector(scaled + (scaled < 0.0f ? splat(-0.5f) : splat(0.5f)), IntVec);
    const Vec<float> whole = __builtin_convertvector(n, Vec<float>);
    const Vec<float> result = mantissa_of_exponential(clamped, whole) * bits_to_float((n + 127) << 23);
    return x != x ? x : (x < low ? Vec<float>{} : result);
}

// e^x for x up to 0, where nothing needs to be told apart below -87: there it is 1e-38. NaN stays NaN.
HF_INLINE Vec<float> exponential_below_zero(Vec<float> x) {
    const Vec<float> low = splat(-87.0f), clamped = x < low ? low : x;
    // Adding 1.5 x 2^23 rounds to the nearest whole number, which the lowest bits then hold.
    const Vec<float> magic = splat(12582912.0f), shifted = clamped * 1.44269504f + magic;
    const Vec<float> whole = shifted - magic;
    return mantissa_of_exponential(clamped, whole) * bits_to_float((float_to_bits(shifted) + 127) << 23);
}

// log(1 + e) for e in [0, 1].
HF_INLINE Vec<float> log_one_plus(Vec<float> e) {
    const Vec<float> one_plus = e + 1.0f;  // in [1, 2]
    const auto large = one_plus > 1.41421356f;
    const Vec<float> m = large ? e * 0.5f - 0.5f : e;  // (1 + e) / 2 - 1, or e
    const Vec<float> shift = large ? splat(0.693147181f) : Vec<float>{};
    Vec<float> p = splat(7.0376836292e-2f);
    p = p * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    return p * m * m * m - m * m * 0.5f + m + shift;
}

// log(v) for normal v of at least 1, such as a product of (1 + e)'s.
HF_INLINE Vec<float> logarithm(Vec<float> v) {
    const IntVec bits = float_to_bits(v);
    const Vec<float> exponent = __builtin_convertvector((bits >> 23) - 127, Vec<float>);
    const Vec<float> mantissa = bits_to_float((bits & 0x007FFFFF) | 0x3F800000);  // in [1, 2)
    return v == v ? exponent * 0.693147181f + log_one_plus(mantissa - 1.0f) : v;
}

HF_INLINE Vec<double> exponential(Vec<double> x) {
    for (int i = 0; i < kWidth<double>; ++i) x[i] = __builtin_exp(x[i]);
    return x;
}
HF_INLINE Vec<double> log_one_plus(Vec<double> e) {
    for (int i = 0; i < kWidth<double>; ++i) e[i] = __builtin_log1p(e[i]);
    return e;
}

}  // namespace hashfold::HASHFOLD_ISA
