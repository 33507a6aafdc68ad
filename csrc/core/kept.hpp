// Memory that a thread keeps from call to call: a step needs megabytes, and fresh pages cost more than
// the work on them. It is freed when the thread ends.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "huge_pages.hpp"

namespace hashfold {

class Kept {
  public:
    Kept() = default;
    Kept(const Kept&) = delete;
    Kept& operator=(const Kept&) = delete;
    ~Kept() { std::free(memory_); }

    // At least `count` elements, on a cache line; what they hold is unknown. The memory of the call before is
    // taken back.
    template <class T>
    T* get(int64_t count) {
        const auto wanted = static_cast<size_t>(std::max<int64_t>(count, 1)) * sizeof(T);
        if (wanted > bytes_) grow(wanted);
        return static_cast<T*>(memory_);
    }

  private:
    static constexpr size_t kLine = 64;

    void grow(size_t wanted) {
        std::free(memory_);
        memory_ = nullptr;
        bytes_ = 0;
        const size_t alignment = wanted >= kHugePage ? kHugePage : kLine;
        const size_t rounded = (wanted + wanted / 4 + alignment - 1) / alignment * alignment;
        memory_ = std::aligned_alloc(alignment, rounded);
        if (!memory_) throw std::bad_alloc();
        bytes_ = rounded;
        wish_huge_pages(memory_, bytes_);
    }

    void* memory_ = nullptr;
    size_t bytes_ = 0;
};

}  // namespace hashfold
