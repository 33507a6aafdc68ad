// Numbers kept in bfloat16, the upper half of a float, and computed with as floats.
#pragma once

#include "words.hpp"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace hashfold::HASHFOLD_ISA {

typedef uint16_t HalfWords __attribute__((vector_size(kLanes * sizeof(uint16_t))));

HF_INLINE Vec<float> load_floats(const float* from) {
    return load(from);
}
HF_INLINE Vec<float> load_floats(const uint16_t* from) {
    HalfWords v;
    std::memcpy(&v, from, sizeof v);
#if defined(__AVX512F__)  // the compiler would convert two halves of the vector
    return as_floats((Words)_mm512_maskz_cvtepu16_epi32(0xFFFF, (__m256i)v) << 16);
#else
    return as_floats(__builtin_convertvector(v, Words) << 16);
#endif
}

HF_INLINE void store_floats(float* to, Vec<float> v) {
    store(to, v);
}
// To the nearest bfloat16, ties to even.
HF_INLINE void store_floats(uint16_t* to, Vec<float> v) {
#if defined(__AVX512BF16__)
    const auto half = _mm512_cvtneps_pbh((__m512)v);
#else
    const HalfWords half = __builtin_convertvector(RoundedFp32::round(v) >> 16, HalfWords);
#endif
    std::memcpy(to, &half, sizeof half);
}

HF_INLINE float as_float(float v) {
    return v;
}
HF_INLINE float as_float(uint16_t bits) {
    const uint32_t word = static_cast<uint32_t>(bits) << 16;
    float v;
    std::memcpy(&v, &word, sizeof v);
    return v;
}

template <class M>
HF_INLINE M rounded_to(float v) {
    if constexpr (sizeof(M) == sizeof(float))
        return v;
    else
        return static_cast<M>(RoundedFp32::round(splat(v))[0] >> 16);
}

}  // namespace hashfold::HASHFOLD_ISA
