#include "core/packed_search.hpp"

#include <nanobind/stl/optional.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "families.hpp"
#include "owned.hpp"

namespace hashfold {
namespace {

using Bytes = Array1<const uint8_t>;
using Floats = Array1<const float>;
using Ids = Array1<const int32_t>;
using Indptr = Array1<const int64_t>;

void check_columns(const PackedSearch& search, const Ids& columns) {
    require(std::all_of(columns.data(), columns.data() + length(columns),
                        [&](int32_t id) { return id >= 0 && id < search.num_cols(); }),
            "a column is out of range");
}

void append(PackedSearch& search, Indptr indptr, Ids columns, Bytes codes, Floats scales) {
    const Csr<uint8_t> rows = csr<uint8_t>(indptr, columns, codes);
    check_columns(search, columns);
    require(length(scales) == rows.rows, "length of scales");
    require(std::all_of(codes.data(), codes.data() + length(codes),
                        [&](uint8_t code) { return code < 1 << search.bits(); }),
            "a code is out of range");
    search.append(rows, scales.data());
}

void query(const PackedSearch& search, Indptr indptr, Ids columns, Floats values, Floats levels, int64_t k,
           std::optional<Ids> exclude, Array2<int32_t> ids, Array2<float> scores, Array1<int64_t> counts,
           Array1<int64_t> found) {
    const Csr<float> x = csr<float>(indptr, columns, values);
    const auto holds = [&](auto& a) {
        return static_cast<int64_t>(a.shape(0)) == x.rows && static_cast<int64_t>(a.shape(1)) == k;
    };
    check_columns(search, columns);
    require(k >= 1 && holds(ids) && holds(scores), "k, and shape of ids and scores");
    require(length(levels) == int64_t{1} << search.bits(), "length of levels");
    require(length(counts) == x.rows && length(found) == x.rows, "length of counts and found");
    require(!exclude || length(*exclude) == x.rows, "length of exclude");
    search.query({x, levels.data(), k, exclude ? exclude->data() : nullptr},
                 {ids.data(), scores.data(), counts.data(), found.data()});
}

void score_columns(const PackedSearch& search, Indptr indptr, Ids rows, Floats values, Floats levels,
                   Indptr pair_indptr, Ids pair_columns, Array1<float> out) {
    const Csr<float> x = csr<float>(indptr, rows, values);
    check_columns(search, pair_columns);
    require(length(levels) == int64_t{1} << search.bits(), "length of levels");
    require(length(pair_indptr) == x.rows + 1 && pair_indptr.data()[x.rows] == length(pair_columns),
            "indptr of the pairs");
    require(std::all_of(rows.data(), rows.data() + length(rows),
                        [&](int32_t id) { return id >= 0 && id < search.rows(); }),
            "a row is out of range");
    require(length(out) == length(pair_columns), "length of out");
    search.score_columns(x, levels.data(), {pair_indptr.data(), pair_columns.data(), x.rows}, out.data());
}

nb::tuple column(const PackedSearch& search, int32_t id) {
    require(id >= 0 && id < search.num_cols(), "a column is out of range");
    std::vector<int32_t> rows;
    std::vector<uint8_t> codes;
    search.each_of(id, [&](int64_t row, uint32_t code) {
        rows.push_back(static_cast<int32_t>(row));
        codes.push_back(static_cast<uint8_t>(code));
    });
    return nb::make_tuple(owned(std::move(rows)), owned(std::move(codes)));
}

nb::tuple read(const PackedSearch& search, int64_t first, int64_t last) {
    require(first >= 0 && first <= last && last <= search.rows(), "rows to read");
    PackedRows rows = search.read(first, last);
    return nb::make_tuple(owned(std::move(rows.starts)), owned(std::move(rows.columns)),
                          owned(std::move(rows.codes)), owned(search.scales(first, last)));
}

}  // namespace

void bind_packed_search(nb::module_& m) {
    m.attr("PACKED_MOST_ROWS") = PackedLists::kMostRows;
    m.attr("PACKED_MOST_BITS") = PackedLists::kMostBits;
    m.attr("STRIP_ROWS") = kStripRows;
    nb::class_<PackedSearch>(m, "PackedSearch")
        .def(
            "__init__",
            [](PackedSearch* made, int64_t num_cols, int bits, int64_t block_rows) {
                require(num_cols >= 1 && bits >= 1 && bits <= PackedLists::kMostBits, "num_cols and bits");
                require(block_rows >= 1 && block_rows <= PackedLists::kMostRows && block_rows % kStripRows == 0,
                        "block_rows");
                new (made) PackedSearch(num_cols, bits, block_rows);
            },
            "num_cols"_a, "bits"_a, "block_rows"_a)
        .def("rows", &PackedSearch::rows)
        .def("bytes", &PackedSearch::bytes)
        .def("table_bytes", &PackedSearch::table_bytes)
        .def("append", &append, "indptr"_a.noconvert(), "columns"_a.noconvert(), "codes"_a.noconvert(),
             "scales"_a.noconvert(), GilRelease())
        .def("query", &query, "indptr"_a.noconvert(), "columns"_a.noconvert(), "values"_a.noconvert(),
             "levels"_a.noconvert(), "k"_a, "exclude"_a.noconvert().none(), "ids"_a.noconvert(),
             "scores"_a.noconvert(), "counts"_a.noconvert(), "found"_a.noconvert(), GilRelease())
        .def("score_columns", &score_columns, "indptr"_a.noconvert(), "rows"_a.noconvert(), "values"_a.noconvert(),
             "levels"_a.noconvert(), "pair_indptr"_a.noconvert(), "pair_columns"_a.noconvert(),
             "out"_a.noconvert(), GilRelease())
        .def("column", &column, "id"_a)
        .def("read", &read, "first"_a, "last"_a)
        .def("save",
             [](const PackedSearch& search) {
                 return nb::make_tuple(owned(search.save()), owned(search.scales(0, search.rows())));
             })
        .def(
            "load",
            [](PackedSearch& search, Bytes lists, Floats scales) {
                return search.load(lists.data(), length(lists), scales.data(), length(scales));
            },
            "lists"_a.noconvert(), "scales"_a.noconvert(), GilRelease());
}

}  // namespace hashfold
