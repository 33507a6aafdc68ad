#include "core/row_search.hpp"

#include <nanobind/stl/optional.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "families.hpp"
#include "owned.hpp"

namespace hashfold {
namespace {

using Floats = Array1<const float>;
using Ids = Array1<const int32_t>;
using Indptr = Array1<const int64_t>;

bool all_below(const Csr<float>& rows, int64_t bound) {
    return std::all_of(rows.indices, rows.indices + rows.indptr[rows.rows],
                       [&](int32_t id) { return id >= 0 && id < bound; });
}

void query(const RowSearch& search, const std::pair<Csr<float>, Csr<float>>& x_and_probes, int64_t k, int64_t pool,
           int64_t budget, const std::optional<Ids>& exclude, Array2<int32_t> ids, Array2<float> scores,
           Array1<int64_t> counts, Array1<int64_t> found) {
    const auto& [x, probes] = x_and_probes;
    const auto holds = [&](auto& a) {
        return static_cast<int64_t>(a.shape(0)) == x.rows && static_cast<int64_t>(a.shape(1)) == k;
    };
    require(k >= 1 && pool >= 0 && budget >= 0 && probes.rows == x.rows, "k, pool, budget and rows of probes");
    require(holds(ids) && holds(scores), "shape of ids and scores");
    require(length(counts) == x.rows && length(found) == x.rows, "length of counts and found");
    require(!exclude || length(*exclude) == x.rows, "length of exclude");
    require(all_below(x, search.num_cols()) && all_below(probes, search.num_keys()), "a column is out of range");
    search.query({x, probes, k, pool, budget, exclude ? exclude->data() : nullptr},
                 {ids.data(), scores.data(), counts.data(), found.data()});
}

nb::tuple read(const RowSearch& search, int64_t first, int64_t last) {
    require(first >= 0 && first <= last && last <= search.rows(), "rows to read");
    ByteRows rows = search.read(first, last);
    return nb::make_tuple(owned(std::move(rows.starts)), owned(std::move(rows.columns)),
                          owned(std::move(rows.bytes)), owned(search.scales(first, last)));
}

nb::tuple save(const RowSearch& search) {
    std::vector<uint8_t> columns, bytes;
    search.save(columns, bytes);
    return nb::make_tuple(owned(std::move(columns)), owned(std::move(bytes)),
                          owned(search.scales(0, search.rows())));
}

}  // namespace

void bind_row_search(nb::module_& m) {
    nb::class_<RowSearch>(m, "RowSearch")
        .def(nb::init<int64_t, int64_t, int64_t>(), "num_cols"_a, "num_keys"_a, "block_rows"_a)
        .def("rows", &RowSearch::rows)
        .def("store_bytes", &RowSearch::store_bytes)
        .def("postings_bytes", &RowSearch::postings_bytes)
        .def(
            "append",
            [](RowSearch& search, Indptr indptr, Ids columns, Floats values) {
                search.append(csr<float>(indptr, columns, values));
            },
            "indptr"_a.noconvert(), "columns"_a.noconvert(), "values"_a.noconvert(), GilRelease())
        .def("list_columns", &RowSearch::list_columns, GilRelease())
        .def(
            "list_keys",
            [](RowSearch& search, Array2<const int32_t> keys) {
                require(std::all_of(keys.data(), keys.data() + keys.size(),
                                    [&](int32_t key) { return key >= 0 && key < search.num_keys(); }),
                        "a key is out of range");
                search.list_keys(matrix(keys));
            },
            "keys"_a.noconvert(), GilRelease())
        .def(
            "query",
            [](const RowSearch& search, Indptr indptr, Ids columns, Floats values, Indptr key_indptr, Ids keys,
               Floats weights, int64_t k, int64_t pool, int64_t budget, std::optional<Ids> exclude,
               Array2<int32_t> ids, Array2<float> scores, Array1<int64_t> counts, Array1<int64_t> found) {
                query(search, {csr<float>(indptr, columns, values), csr<float>(key_indptr, keys, weights)}, k,
                      pool, budget, exclude, ids, scores, counts, found);
            },
            "indptr"_a.noconvert(), "columns"_a.noconvert(), "values"_a.noconvert(), "key_indptr"_a.noconvert(),
            "keys"_a.noconvert(), "weights"_a.noconvert(), "k"_a, "pool"_a, "budget"_a,
            "exclude"_a.noconvert().none(), "ids"_a.noconvert(), "scores"_a.noconvert(), "counts"_a.noconvert(),
            "found"_a.noconvert(), GilRelease())
        .def("read", &read, "first"_a, "last"_a)
        .def("save", &save)
        .def(
            "load",
            [](RowSearch& search, Array1<const uint8_t> columns, Array1<const uint8_t> bytes, Floats scales) {
                return search.load(columns.data(), length(columns), bytes.data(), length(bytes), scales.data(),
                                   length(scales));
            },
            "columns"_a.noconvert(), "bytes"_a.noconvert(), "scales"_a.noconvert(), GilRelease());
}

}  // namespace hashfold
