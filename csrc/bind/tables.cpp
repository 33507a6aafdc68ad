#include "core/tables.hpp"

#include <nanobind/stl/vector.h>

#include "arrays.hpp"
#include "families.hpp"

namespace hashfold {
namespace {

using Buckets = Array2<const int32_t>;

void update(HashTables& tables, Array1<const int32_t> ids, Buckets buckets) {
    require(length(ids) == static_cast<int64_t>(buckets.shape(0)), "ids and buckets differ in length");
    for (int64_t i = 0; i < length(ids); ++i)
        require(ids.data()[i] >= 0 && ids.data()[i] < tables.rules().num_items, "an item id is out of range");
    tables.update(ids.data(), matrix(buckets));
}

void entries(const HashTables& tables, Buckets buckets, Array1<int64_t> counts) {
    require(length(counts) == static_cast<int64_t>(buckets.shape(0)), "length of counts");
    tables.entries(matrix(buckets), counts.data());
}

void query(const HashTables& tables, Buckets buckets, int64_t budget, Array1<int64_t> indptr, Array1<int32_t> ids,
           Array1<float> scores, Array1<int64_t> found) {
    const int64_t rows = static_cast<int64_t>(buckets.shape(0));
    require(length(indptr) == rows + 1 && length(found) == rows, "rows of indptr and found");
    require(indptr.data()[rows] == length(ids) && length(ids) == length(scores), "room for the ids");
    tables.query(matrix(buckets), budget, indptr.data(), ids.data(), scores.data(), found.data());
}

void occupancy(const HashTables& tables, Array2<int32_t> sizes, Array2<int32_t> fallen) {
    for (const auto& a : {sizes, fallen})
        require(static_cast<int64_t>(a.shape(0)) == tables.rules().num_tables &&
                    static_cast<int64_t>(a.shape(1)) == tables.rules().num_buckets,
                "shape of the occupancy");
    tables.occupancy(sizes.data(), fallen.data());
}

std::vector<int32_t> items(const HashTables& tables, int64_t table, int64_t bucket) {
    require(table >= 0 && table < tables.rules().num_tables && bucket >= 0 && bucket < tables.rules().num_buckets,
            "table or bucket out of range");
    return tables.items(table, bucket);
}

void require_state_shape(const HashTables& tables, size_t num_tables, size_t num_items) {
    require(static_cast<int64_t>(num_tables) == tables.rules().num_tables &&
                static_cast<int64_t>(num_items) == tables.rules().num_items,
            "shape of the state");
}

void save(const HashTables& tables, Array2<int32_t> bucket_of, Array1<int32_t> items) {
    require_state_shape(tables, bucket_of.shape(0), bucket_of.shape(1));
    require(tables.held() == length(items), "room for the items");
    tables.save(bucket_of.data(), items.data());
}

bool load(HashTables& tables, Array2<const int32_t> bucket_of, Array1<const int32_t> items,
          Array1<const int64_t> counts) {
    require_state_shape(tables, bucket_of.shape(0), bucket_of.shape(1));
    require(length(counts) == tables.rules().num_tables, "length of counts");
    int64_t held = 0;
    for (int64_t t = 0; t < length(counts); ++t) {
        if (counts.data()[t] < 0 || counts.data()[t] > tables.rules().num_items) return false;
        held += counts.data()[t];
    }
    return held == length(items) && tables.load(bucket_of.data(), items.data(), counts.data());
}

}  // namespace

void bind_tables(nb::module_& m) {
    nb::class_<HashTables>(m, "HashTables")
        .def(
            "__init__",
            [](HashTables* self, int64_t num_items, int64_t num_tables, int64_t num_buckets, int64_t capacity,
               int policy, uint64_t seed) {
                new (self)
                    HashTables({num_items, num_tables, num_buckets, capacity, static_cast<Policy>(policy), seed});
            },
            "num_items"_a, "num_tables"_a, "num_buckets"_a, "capacity"_a, "policy"_a, "seed"_a)
        .def(
            "build", [](HashTables& tables, Buckets buckets) { tables.build(matrix(buckets)); },
            "buckets"_a.noconvert(), GilRelease())
        .def("update", &update, "ids"_a.noconvert(), "buckets"_a.noconvert(), GilRelease())
        .def("entries", &entries, "buckets"_a.noconvert(), "counts"_a.noconvert(), GilRelease())
        .def("query", &query, "buckets"_a.noconvert(), "budget"_a, "indptr"_a.noconvert(), "ids"_a.noconvert(),
             "scores"_a.noconvert(), "found"_a.noconvert(), GilRelease())
        .def("occupancy", &occupancy, "sizes"_a.noconvert(), "fallen"_a.noconvert(), GilRelease())
        .def("save", &save, "bucket_of"_a.noconvert(), "items"_a.noconvert(), GilRelease())
        .def("load", &load, "bucket_of"_a.noconvert(), "items"_a.noconvert(), "counts"_a.noconvert(), GilRelease())
        .def("items", &items, "table"_a, "bucket"_a);
}

}  // namespace hashfold
