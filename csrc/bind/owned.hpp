// Arrays whose length only the kernel knows: NumPy takes over the memory of a vector.
#pragma once

#include <utility>
#include <vector>

#include "arrays.hpp"

namespace hashfold {

template <class T>
nb::ndarray<nb::numpy, T, nb::ndim<1>> owned(std::vector<T> values) {
    auto* kept = new std::vector<T>(std::move(values));
    nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
    return {kept->data(), {kept->size()}, owner};
}

}  // namespace hashfold
