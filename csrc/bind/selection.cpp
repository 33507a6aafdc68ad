#include "core/selection.hpp"

#include <nanobind/stl/tuple.h>

#include <algorithm>
#include <tuple>

#include "arrays.hpp"
#include "families.hpp"

namespace hashfold {
namespace {

using Indptr = Array1<const int64_t>;
using Ids = Array1<const int32_t>;

Ragged ragged(const Indptr& indptr, const Ids& ids) {
    require(length(indptr) >= 1 && indptr.data()[length(indptr) - 1] == length(ids), "indptr and ids disagree");
    return {indptr.data(), ids.data(), length(indptr) - 1};
}

std::tuple<int64_t, int64_t, int64_t> shared(Indptr label_indptr, Ids labels, Indptr candidate_indptr,
                                             Ids candidates, int64_t num_items, int64_t uniform, uint64_t seed,
                                             Array1<int32_t> ids, Array1<float> weights,
                                             Array1<int64_t> label_positions) {
    require(length(label_indptr) == length(candidate_indptr), "labels and candidates differ in rows");
    require(length(label_positions) == length(labels), "length of label_positions");
    const int64_t room = std::min(num_items, length(labels) + length(candidates) + uniform);
    require(length(ids) >= room && length(weights) >= room, "room for the ids");
    const SharedSelection s =
        select_shared(ragged(label_indptr, labels), ragged(candidate_indptr, candidates), num_items, uniform, seed,
                      ids.data(), weights.data(), label_positions.data());
    return {s.count, s.certain, s.labels_missed};
}

std::tuple<int64_t, int64_t, int64_t, int64_t> rows(Indptr label_indptr, Ids labels, Indptr candidate_indptr,
                                                    Ids candidates, int64_t num_items, int64_t budget,
                                                    int64_t minimum, uint64_t seed, Array1<int64_t> indptr,
                                                    Array1<int32_t> ids, Array1<float> weights) {
    require(length(label_indptr) == length(candidate_indptr) && length(indptr) == length(label_indptr),
            "labels, candidates and indptr differ in rows");
    require(indptr.data()[length(indptr) - 1] == length(ids) && length(ids) == length(weights),
            "room for the ids");
    const RowsSelection s =
        select_rows(ragged(label_indptr, labels), ragged(candidate_indptr, candidates),
                    {num_items, budget, minimum, seed}, indptr.data(), ids.data(), weights.data());
    return {s.filled, s.rows_filled, s.labels_missed, s.truncated};
}

}  // namespace

void bind_selection(nb::module_& m) {
    m.def("select_shared", &shared, "label_indptr"_a.noconvert(), "labels"_a.noconvert(),
          "candidate_indptr"_a.noconvert(), "candidates"_a.noconvert(), "num_items"_a, "uniform"_a, "seed"_a,
          "ids"_a.noconvert(), "weights"_a.noconvert(), "label_positions"_a.noconvert(), GilRelease());
    m.def("select_rows", &rows, "label_indptr"_a.noconvert(), "labels"_a.noconvert(),
          "candidate_indptr"_a.noconvert(), "candidates"_a.noconvert(), "num_items"_a, "budget"_a, "minimum"_a,
          "seed"_a, "indptr"_a.noconvert(), "ids"_a.noconvert(), "weights"_a.noconvert(), GilRelease());
}

}  // namespace hashfold
