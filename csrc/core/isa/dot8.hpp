// Products of unsigned and signed bytes, summed by fours into 32-bit lanes. Vector extensions have no such
// operator, so this is a place for intrinsics; without them (NEON, for now) it is built from shifts.
#pragma once

#include "../simd.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace hashfold::HASHFOLD_ISA {

typedef int16_t ShortVec __attribute__((vector_size(HASHFOLD_VECTOR_BYTES)));

// Each lane: the sum of its two products of 16-bit numbers.
HF_INLINE Vec<int32_t> dot2(ShortVec a, ShortVec b) {
#if !defined(__x86_64__)
    const Vec<int32_t> x = (Vec<int32_t>)a, y = (Vec<int32_t>)b;
    return ((x << 16) >> 16) * ((y << 16) >> 16) + (x >> 16) * (y >> 16);
#elif HASHFOLD_VECTOR_BYTES == 64
    return (Vec<int32_t>)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif HASHFOLD_VECTOR_BYTES == 32
    return (Vec<int32_t>)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#else
    return (Vec<int32_t>)_mm_madd_epi16((__m128i)a, (__m128i)b);
#endif
}

// sums + the four products of each lane, a unsigned and b signed bytes. Exact while the sums fit.
HF_INLINE Vec<int32_t> dot4(Vec<int32_t> sums, Vec<int32_t> a, Vec<int32_t> b) {
#if defined(__AVX512VNNI__)
    return (Vec<int32_t>)_mm512_dpbusd_epi32((__m512i)sums, (__m512i)a, (__m512i)b);
#else
    const ShortVec even = (ShortVec)(a & 0x00ff00ff), odd = (ShortVec)((a >> 8) & 0x00ff00ff);
    return sums + dot2(even, ((ShortVec)b << 8) >> 8) + dot2(odd, (ShortVec)b >> 8);
#endif
}

HF_INLINE int32_t lane_sum(Vec<int32_t> v) {
    typedef int32_t Quarter __attribute__((vector_size(16)));
    Quarter parts[HASHFOLD_VECTOR_BYTES / 16], total{};
    std::memcpy(parts, &v, sizeof v);
    for (Quarter part : parts) total += part;
    return (total[0] + total[1]) + (total[2] + total[3]);
}

}  // namespace hashfold::HASHFOLD_ISA
