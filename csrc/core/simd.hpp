// Vectors for the kernels in isa/: the same source at every width, through the compilers' vector
// extensions. Only sources compiled with HASHFOLD_ISA and HASHFOLD_VECTOR_BYTES may include this.
//
// Nothing here, and nothing in isa/, may instantiate a template of the standard library: the linker
// keeps one copy of such a function, and it could be the one compiled for a newer machine.
#pragma once

#include <cstdint>
#include <cstring>

#if !defined(HASHFOLD_ISA) || !defined(HASHFOLD_VECTOR_BYTES)
#error "simd.hpp is for the sources in isa/, compiled per instruction set"
#endif

#define HF_INLINE inline __attribute__((always_inline))

namespace hashfold::HASHFOLD_ISA {

template <class T>
struct VectorOf {
    typedef T type __attribute__((vector_size(HASHFOLD_VECTOR_BYTES)));
    static constexpr int width = HASHFOLD_VECTOR_BYTES / sizeof(T);
};
template <class T>
using Vec = typename VectorOf<T>::type;
template <class T>
inline constexpr int kWidth = VectorOf<T>::width;

template <class T>
HF_INLINE Vec<T> load(const T* from) {
    Vec<T> v;
    std::memcpy(&v, from, sizeof v);
    return v;
}
template <class T>
HF_INLINE void store(T* to, Vec<T> v) {
    std::memcpy(to, &v, sizeof v);
}
template <class T>
HF_INLINE Vec<T> splat(T x) {
    return Vec<T>{} + x;
}
template <class T>
HF_INLINE T sum(Vec<T> v) {
    T total = 0;
    for (int i = 0; i < kWidth<T>; ++i) total += v[i];
    return total;
}
template <class T>
HF_INLINE T least(T a, T b) {
    return b < a ? b : a;
}
template <class T>
HF_INLINE T most(T a, T b) {
    return a < b ? b : a;
}

// y[0..n) += a * x[0..n)
template <class T>
HF_INLINE void axpy(T a, const T* x, T* y, int64_t n) {
    int64_t i = 0;
    for (; i + kWidth<T> <= n; i += kWidth<T>) store(y + i, load(y + i) + load(x + i) * a);
    for (; i < n; ++i) y[i] += a * x[i];
}

template <class T>
HF_INLINE T dot(const T* a, const T* b, int64_t n) {
    Vec<T> s0{}, s1{};
    int64_t i = 0;
    for (; i + 2 * kWidth<T> <= n; i += 2 * kWidth<T>) {
        s0 += load(a + i) * load(b + i);
        s1 += load(a + i + kWidth<T>) * load(b + i + kWidth<T>);
    }
    for (; i + kWidth<T> <= n; i += kWidth<T>) s0 += load(a + i) * load(b + i);
    T total = sum<T>(s0 + s1);
    for (; i < n; ++i) total += a[i] * b[i];
    return total;
}

HF_INLINE void prefetch_bytes(const void* from, int64_t bytes) {
    const char* at = static_cast<const char*>(from);
    for (int64_t k = 0; k < bytes; k += 64) __builtin_prefetch(at + k);
}

// Into the second-level cache only.
HF_INLINE void prefetch_early(const void* from, int64_t bytes) {
    const char* at = static_cast<const char*>(from);
    for (int64_t k = 0; k < bytes; k += 64) __builtin_prefetch(at + k, 0, 2);
}

}  // namespace hashfold::HASHFOLD_ISA
