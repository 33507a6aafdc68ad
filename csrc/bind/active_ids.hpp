// The ids of an active set, as Python passes them.
#pragma once

#include <nanobind/stl/optional.h>

#include <optional>

#include "arrays.hpp"
#include "core/active_linear.hpp"

namespace hashfold {

using OptionalIds = std::optional<Array1<const int32_t>>;
template <class T>
using OptionalVector = std::optional<Array1<T>>;

inline ActiveIds active_ids(const OptionalIds& ids, int64_t all) {
    return ids ? ActiveIds{ids->data(), length(*ids)} : ActiveIds{nullptr, all};
}

}  // namespace hashfold
