// Large tables on huge pages, where the system grants them: a row picked at random then costs no page walk.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace hashfold {

inline constexpr size_t kHugePage = size_t{2} << 20;

// A wish, for memory that has not been touched yet; whole huge pages within [from, from + bytes).
inline void wish_huge_pages([[maybe_unused]] void* from, [[maybe_unused]] size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    const auto begin = (reinterpret_cast<uintptr_t>(from) + kHugePage - 1) / kHugePage * kHugePage;
    const auto end = (reinterpret_cast<uintptr_t>(from) + bytes) / kHugePage * kHugePage;
    if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

}  // namespace hashfold
