#include "core/topk.hpp"

#include <nanobind/stl/optional.h>

#include <algorithm>
#include <optional>

#include "arrays.hpp"
#include "families.hpp"
#include "quantized.hpp"

namespace hashfold {
namespace {

using Queries = Array2<const float>;
using Vectors = Array2<const float>;
using Bias = std::optional<Array1<const float>>;
using Codes = Array2<const int8_t>;
using Scales = Array1<const float>;
using Sums = Array1<const int32_t>;

Items items_of(const Queries& x, const Vectors& vectors, const Bias& bias) {
    require(x.shape(1) == vectors.shape(1), "queries and vectors differ in columns");
    require(!bias || bias->shape(0) == vectors.shape(0), "vectors and bias differ in length");
    return {matrix(vectors), bias ? bias->data() : nullptr};
}

// Items in 8 bits: codes (items, columns), and of each item its scale and the sum of its codes.
QuantizedItems quantized_items_of(const Queries& x, const Codes& codes, const Scales& scales, const Sums& sums,
                                  const Bias& bias) {
    const QuantizedRows rows = quantized_rows(codes, scales, sums);
    require(x.shape(1) == codes.shape(1), "queries and codes differ in columns");
    require(!bias || bias->shape(0) == codes.shape(0), "codes and bias differ in length");
    return {rows, bias ? bias->data() : nullptr};
}

void check_rows(int64_t rows, const Array1<int64_t>& indptr, const Array1<int32_t>& ids,
                const Array1<float>& scores) {
    require(length(indptr) == rows + 1, "rows of indptr");
    require(indptr.data()[rows] == length(ids) && length(ids) == length(scores), "room for the ids");
}

template <class ItemsOf>
void best_of(const Queries& x, const ItemsOf& items, const Array2<int32_t>& ids, const Array2<float>& scores,
             const Array1<int64_t>& counts) {
    const int64_t rows = static_cast<int64_t>(x.shape(0)), k = static_cast<int64_t>(ids.shape(1));
    require(k >= 1 && k <= count_of(items), "k must be between 1 and the number of items");
    require(static_cast<int64_t>(ids.shape(0)) == rows && ids.shape(0) == scores.shape(0) &&
                ids.shape(1) == scores.shape(1) && length(counts) == rows,
            "shapes of ids, scores and counts");
    top_k(matrix(x), items, k, ids.data(), scores.data(), counts.data());
}

void best(Queries x, Vectors vectors, Bias bias, Array2<int32_t> ids, Array2<float> scores,
          Array1<int64_t> counts) {
    best_of(x, items_of(x, vectors, bias), ids, scores, counts);
}

void best_quantized(Queries x, Codes codes, Scales scales, Sums sums, Bias bias, Array2<int32_t> ids,
                    Array2<float> scores, Array1<int64_t> counts) {
    best_of(x, quantized_items_of(x, codes, scales, sums, bias), ids, scores, counts);
}

template <class ItemsOf>
void score_of(const Queries& x, const ItemsOf& items, const Array1<int64_t>& indptr, const Array1<int32_t>& ids,
              const Array1<float>& out) {
    check_rows(static_cast<int64_t>(x.shape(0)), indptr, ids, out);
    require(std::all_of(ids.data(), ids.data() + length(ids),
                        [&](int32_t id) { return id >= 0 && id < count_of(items); }),
            "an id is out of range");
    score_rows(matrix(x), items, indptr.data(), ids.data(), out.data());
}

void score(Queries x, Vectors vectors, Bias bias, Array1<int64_t> indptr, Array1<int32_t> ids,
           Array1<float> scores) {
    score_of(x, items_of(x, vectors, bias), indptr, ids, scores);
}

void score_quantized(Queries x, Codes codes, Scales scales, Sums sums, Bias bias, Array1<int64_t> indptr,
                     Array1<int32_t> ids, Array1<float> out) {
    score_of(x, quantized_items_of(x, codes, scales, sums, bias), indptr, ids, out);
}

void ranked(int64_t budget, Array1<int64_t> indptr, Array1<int32_t> ids, Array1<float> scores) {
    require(budget >= 1, "budget");
    check_rows(length(indptr) - 1, indptr, ids, scores);
    rank_rows(length(indptr) - 1, budget, indptr.data(), ids.data(), scores.data());
}

void check_probes(const HashTables& lists, const Array2<const int32_t>& probes, const Array1<int64_t>& found) {
    require(lists.rules().num_tables == 1, "lists must be one table");
    require(length(found) == static_cast<int64_t>(probes.shape(0)), "rows of probes");
    require(std::all_of(probes.data(), probes.data() + probes.size(),
                        [&](int32_t c) { return c >= 0 && c < lists.rules().num_buckets; }),
            "a probe is out of range");
}

void listed(const HashTables& lists, Array2<const int32_t> probes, Array2<const float> list_scores, int64_t budget,
            Array1<int64_t> indptr, Array1<int32_t> ids, Array1<float> scores, Array1<int64_t> found) {
    check_probes(lists, probes, found);
    require(list_scores.shape(0) == probes.shape(0) && list_scores.shape(1) == probes.shape(1) && budget >= 1,
            "shape of the list scores");
    check_rows(length(found), indptr, ids, scores);
    list_probes(lists, matrix(probes), matrix(list_scores), budget, indptr.data(), ids.data(), scores.data(),
                found.data());
}

template <class ItemsOf>
void probed_of(const HashTables& lists, const Array2<const int32_t>& probes, const Queries& x,
               const ItemsOf& items, int64_t budget, const Array1<int64_t>& indptr, const Array1<int32_t>& ids,
               const Array1<float>& scores, const Array1<int64_t>& found) {
    const int64_t rows = static_cast<int64_t>(x.shape(0));
    check_probes(lists, probes, found);
    require(lists.rules().num_items == count_of(items) && length(found) == rows && budget >= 1,
            "lists of other items");
    check_rows(rows, indptr, ids, scores);
    probe_lists(lists, matrix(probes), matrix(x), items, budget, indptr.data(), ids.data(), scores.data(),
                found.data());
}

void probed(const HashTables& lists, Array2<const int32_t> probes, Queries x, Vectors vectors, Bias bias,
            int64_t budget, Array1<int64_t> indptr, Array1<int32_t> ids, Array1<float> scores,
            Array1<int64_t> found) {
    probed_of(lists, probes, x, items_of(x, vectors, bias), budget, indptr, ids, scores, found);
}

void probed_quantized(const HashTables& lists, Array2<const int32_t> probes, Queries x, Codes codes, Scales scales,
                      Sums sums, Bias bias, int64_t budget, Array1<int64_t> indptr, Array1<int32_t> ids,
                      Array1<float> out, Array1<int64_t> found) {
    probed_of(lists, probes, x, quantized_items_of(x, codes, scales, sums, bias), budget, indptr, ids, out, found);
}

}  // namespace

void bind_topk(nb::module_& m) {
    m.def("top_k", &best, "x"_a.noconvert(), "vectors"_a.noconvert(), "bias"_a.noconvert().none(),
          "ids"_a.noconvert(), "scores"_a.noconvert(), "counts"_a.noconvert(), GilRelease());
    m.def("score_rows", &score, "x"_a.noconvert(), "vectors"_a.noconvert(), "bias"_a.noconvert().none(),
          "indptr"_a.noconvert(), "ids"_a.noconvert(), "scores"_a.noconvert(), GilRelease());
    m.def("rank_rows", &ranked, "budget"_a, "indptr"_a.noconvert(), "ids"_a.noconvert(), "scores"_a.noconvert(),
          GilRelease());
    m.def("list_probes", &listed, "lists"_a, "probes"_a.noconvert(), "list_scores"_a.noconvert(), "budget"_a,
          "indptr"_a.noconvert(), "ids"_a.noconvert(), "scores"_a.noconvert(), "found"_a.noconvert(),
          GilRelease());
    m.def("probe_lists", &probed, "lists"_a, "probes"_a.noconvert(), "x"_a.noconvert(), "vectors"_a.noconvert(),
          "bias"_a.noconvert().none(), "budget"_a, "indptr"_a.noconvert(), "ids"_a.noconvert(),
          "scores"_a.noconvert(), "found"_a.noconvert(), GilRelease());
    m.def("top_k_quantized", &best_quantized, "x"_a.noconvert(), "codes"_a.noconvert(), "scales"_a.noconvert(),
          "sums"_a.noconvert(), "bias"_a.noconvert().none(), "ids"_a.noconvert(), "scores"_a.noconvert(),
          "counts"_a.noconvert(), GilRelease());
    m.def("score_rows_quantized", &score_quantized, "x"_a.noconvert(), "codes"_a.noconvert(),
          "scales"_a.noconvert(), "sums"_a.noconvert(), "bias"_a.noconvert().none(), "indptr"_a.noconvert(),
          "ids"_a.noconvert(), "scores"_a.noconvert(), GilRelease());
    m.def("probe_lists_quantized", &probed_quantized, "lists"_a, "probes"_a.noconvert(), "x"_a.noconvert(),
          "codes"_a.noconvert(), "scales"_a.noconvert(), "sums"_a.noconvert(), "bias"_a.noconvert().none(),
          "budget"_a, "indptr"_a.noconvert(), "ids"_a.noconvert(), "scores"_a.noconvert(), "found"_a.noconvert(),
          GilRelease());
}

}  // namespace hashfold
