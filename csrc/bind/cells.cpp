#include "core/cells.hpp"

#include <nanobind/stl/optional.h>

#include <algorithm>
#include <optional>

#include "arrays.hpp"
#include "core/cell_search.hpp"
#include "families.hpp"

namespace hashfold {
namespace {

using Rows = Array2<const float>;
using Ids = Array1<const int32_t>;

bool all_below(const Ids& ids, int64_t bound) {
    return std::all_of(ids.data(), ids.data() + length(ids), [&](int32_t id) { return id >= 0 && id < bound; });
}

// Rows for a store, with their offsets (or weights of these), and as many cells.
void check_rows(const CellRows& store, const Rows& x, const Rows& offsets, const Ids& cells) {
    require(matrix(x).cols == store.shape().cols, "columns of the rows");
    require(matrix(offsets).rows == matrix(x).rows && matrix(offsets).cols == store.num_offsets(), "offsets");
    require(length(cells) == matrix(x).rows && all_below(cells, store.num_cells()), "cells of the rows");
}

void build(CellRows& store, Rows vectors, Rows offsets, Ids cells) {
    check_rows(store, vectors, offsets, cells);
    require(matrix(vectors).rows == store.num_items(), "number of rows");
    store.build(matrix(vectors), offsets.data(), cells.data());
}

void update(CellRows& store, Rows vectors, Rows offsets, Ids ids, Ids cells) {
    check_rows(store, vectors, offsets, cells);
    require(length(ids) == length(cells) && all_below(ids, store.num_items()), "ids of the rows");
    store.update(matrix(vectors), offsets.data(), ids.data(), cells.data());
}

// What save and load have in common; returns whether the shapes fit.
template <class Cells, class Codes, class Scales, class Offsets>
bool of_all(const CellRows& store, const Cells& cells, const Codes& codes, const Scales& scales,
            const Offsets& offsets) {
    const int64_t items = store.num_items();
    return length(cells) == items && length(scales) == items && matrix(codes).rows == items &&
           matrix(codes).cols == store.shape().cols && matrix(offsets).rows == items &&
           matrix(offsets).cols == store.num_offsets();
}

void save(const CellRows& store, Array1<int32_t> cells, Array2<int8_t> codes, Array1<float> scales,
          Array2<float> offsets) {
    require(of_all(store, cells, codes, scales, offsets), "shapes of the state");
    store.save(cells.data(), matrix(codes), scales.data(), offsets.data());
}

void load(CellRows& store, Ids cells, Array2<const int8_t> codes, Array1<const float> scales, Rows offsets) {
    require(of_all(store, cells, codes, scales, offsets) && all_below(cells, store.num_cells()), "the state");
    store.load(cells.data(), matrix(codes), scales.data(), offsets.data());
}

void sizes(const CellRows& store, Array1<int32_t> counts) {
    require(length(counts) == store.num_cells(), "length of the sizes");
    store.sizes(counts.data());
}

CellTree tree_of(const CellRows& branches, const CellRows& centroids) {
    require(branches.num_cells() == 1 && branches.num_items() == centroids.num_cells(), "branches and centroids");
    require(branches.num_offsets() == kRouteOffsets && centroids.num_offsets() == kRouteOffsets &&
                branches.shape().cols == centroids.shape().cols,
            "columns of branches and centroids");
    return {branches, centroids};
}

void search(const CellRows& branches, const CellRows& centroids, const CellRows& items, Rows x, Rows vectors,
            std::optional<Array1<const float>> bias, int64_t num_branches, int64_t probes, int64_t budget,
            Array1<int64_t> indptr, Array1<int32_t> ids, Array1<float> scores, Array1<int64_t> found) {
    const int64_t rows = matrix(x).rows, cols = matrix(x).cols;
    const CellTree tree = tree_of(branches, centroids);
    require(centroids.num_items() == items.num_cells() && items.num_offsets() == 1, "a tree over the items");
    require(branches.shape().cols == cols && items.shape().cols == cols, "columns of the queries");
    require(matrix(vectors).rows == items.num_items() && matrix(vectors).cols == cols, "shape of the weights");
    require(!bias || length(*bias) == items.num_items(), "length of the bias");
    require(num_branches >= 1 && probes >= 1 && budget >= 1, "branches, probes and budget");
    require(length(indptr) == rows + 1 && length(found) == rows && indptr.data()[rows] == length(ids) &&
                length(ids) == length(scores),
            "room for the ids");
    search_cells(tree, items, {matrix(x), num_branches, probes, budget}, matrix(vectors),
                 bias ? bias->data() : nullptr, indptr.data(), ids.data(), scores.data(), found.data());
}

void in_cells(const CellRows& store, Rows x, Rows weights, Ids cells, Array1<int32_t> chosen) {
    check_rows(store, x, weights, cells);
    require(length(chosen) == length(cells), "length of chosen");
    best_in_cells(store, {matrix(x), weights.data()}, cells.data(), chosen.data());
}

void in_tree(const CellRows& branches, const CellRows& centroids, Rows x, Rows weights, int64_t num_branches,
             Array1<int32_t> chosen) {
    const CellTree tree = tree_of(branches, centroids);
    require(matrix(x).cols == branches.shape().cols && num_branches >= 1, "columns of the rows, and branches");
    require(matrix(weights).rows == matrix(x).rows && matrix(weights).cols == kRouteOffsets, "weights");
    require(length(chosen) == matrix(x).rows, "length of chosen");
    best_in_tree(tree, {matrix(x), weights.data()}, num_branches, chosen.data());
}

void means_of(Rows x, Ids members, Array2<float> means) {
    require(length(members) == matrix(x).rows && all_below(members, matrix(means).rows), "members");
    require(matrix(x).cols == matrix(means).cols, "columns of the means");
    mean_rows(matrix(x), members.data(), matrix(means));
}

}  // namespace

void bind_cells(nb::module_& m) {
    nb::class_<CellRows>(m, "CellRows")
        .def(nb::init<int64_t, int64_t, int64_t, int>(), "num_items"_a, "num_cells"_a, "cols"_a, "num_offsets"_a)
        .def("bytes", &CellRows::bytes)
        .def("build", &build, "vectors"_a.noconvert(), "offsets"_a.noconvert(), "cells"_a.noconvert(),
             GilRelease())
        .def("update", &update, "vectors"_a.noconvert(), "offsets"_a.noconvert(), "ids"_a.noconvert(),
             "cells"_a.noconvert(), GilRelease())
        .def("save", &save, "cells"_a.noconvert(), "codes"_a.noconvert(), "scales"_a.noconvert(),
             "offsets"_a.noconvert(), GilRelease())
        .def("load", &load, "cells"_a.noconvert(), "codes"_a.noconvert(), "scales"_a.noconvert(),
             "offsets"_a.noconvert(), GilRelease())
        .def("sizes", &sizes, "counts"_a.noconvert());
    m.attr("ROUTE_OFFSETS") = kRouteOffsets;
    m.def("search_cells", &search, "branches"_a, "centroids"_a, "items"_a, "x"_a.noconvert(),
          "vectors"_a.noconvert(), "bias"_a.noconvert().none(), "num_branches"_a, "probes"_a, "budget"_a,
          "indptr"_a.noconvert(), "ids"_a.noconvert(), "scores"_a.noconvert(), "found"_a.noconvert(),
          GilRelease());
    m.def("best_in_cells", &in_cells, "store"_a, "x"_a.noconvert(), "weights"_a.noconvert(), "cells"_a.noconvert(),
          "chosen"_a.noconvert(), GilRelease());
    m.def("best_in_tree", &in_tree, "branches"_a, "centroids"_a, "x"_a.noconvert(), "weights"_a.noconvert(),
          "num_branches"_a, "chosen"_a.noconvert(), GilRelease());
    m.def("mean_rows", &means_of, "x"_a.noconvert(), "members"_a.noconvert(), "means"_a.noconvert(), GilRelease());
}

}  // namespace hashfold
