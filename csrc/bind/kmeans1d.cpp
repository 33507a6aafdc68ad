#include "core/kmeans1d.hpp"

#include <nanobind/stl/optional.h>

#include <optional>

#include "arrays.hpp"
#include "families.hpp"

namespace hashfold {
namespace {

void groups(Array1<const float> values, std::optional<Array1<const float>> weights, Array1<const int64_t> starts,
            double tolerance, Array2<float> means, Array1<double> costs, Array1<double> bounds) {
    const int64_t count = length(starts) - 1;
    require(count >= 0 && static_cast<int64_t>(means.shape(0)) == count && means.shape(1) >= 1, "shape of means");
    require(starts.data()[count] <= length(values), "starts point behind the values");
    require(!weights || length(*weights) == length(values), "length of weights");
    require(length(costs) == count && length(bounds) == count, "length of costs and bounds");
    kmeans1d_groups(values.data(), weights ? weights->data() : nullptr, starts.data(), tolerance, matrix(means),
                    costs.data(), bounds.data());
}

}  // namespace

void bind_kmeans1d(nb::module_& m) {
    m.def("kmeans1d", &groups, "values"_a.noconvert(), "weights"_a.noconvert().none(), "starts"_a.noconvert(),
          "tolerance"_a, "means"_a.noconvert(), "costs"_a.noconvert(), "bounds"_a.noconvert(), GilRelease());
}

}  // namespace hashfold
