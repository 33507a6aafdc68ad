#include "core/label_votes.hpp"

#include <algorithm>

#include "families.hpp"
#include "owned.hpp"

namespace hashfold {
namespace {

using Ids = Array1<const int32_t>;
using Indptr = Array1<const int64_t>;

void append(LabelVotes& votes, Indptr indptr, Ids ids) {
    require(length(indptr) >= 1 && indptr.data()[length(indptr) - 1] == length(ids), "indptr and ids disagree");
    votes.append(indptr.data(), ids.data(), length(indptr) - 1);
}

void check_voters(const LabelVotes& votes, const Indptr& indptr, const Ids& rows) {
    const int64_t bound = votes.rows();
    require(length(indptr) >= 1 && indptr.data()[length(indptr) - 1] == length(rows), "indptr and rows disagree");
    require(
        std::all_of(rows.data(), rows.data() + length(rows), [&](int32_t row) { return row >= 0 && row < bound; }),
        "a row is out of range");
}

void join(const LabelVotes& votes, Indptr indptr, Ids rows, Array2<const float> weights, int64_t leading,
          Indptr proposed_indptr, Ids proposed, int64_t k, Array2<int32_t> ids, Array3<float> sums,
          Array1<int64_t> counts, Array1<int64_t> found) {
    check_voters(votes, indptr, rows);
    const int64_t queries = length(indptr) - 1, channels = static_cast<int64_t>(weights.shape(1));
    const int64_t width = static_cast<int64_t>(ids.shape(1));
    require(static_cast<int64_t>(weights.shape(0)) == length(rows), "rows and weights disagree");
    require(leading >= 0 && leading < channels, "leading is no channel");
    require(length(proposed_indptr) == queries + 1 && proposed_indptr.data()[queries] == length(proposed),
            "proposals and queries disagree");
    for (int64_t i = 0; i < queries; ++i)
        require(proposed_indptr.data()[i + 1] - proposed_indptr.data()[i] + k <= width, "ids are too narrow");
    require(static_cast<int64_t>(ids.shape(0)) == queries && length(counts) == queries &&
                length(found) == queries && static_cast<int64_t>(sums.shape(0)) == queries &&
                static_cast<int64_t>(sums.shape(1)) == width && static_cast<int64_t>(sums.shape(2)) == channels,
            "shapes of ids, sums and counts");
    votes.join({indptr.data(), rows.data(), queries}, {weights.data(), channels, leading},
               {proposed_indptr.data(), proposed.data()}, k,
               {width, ids.data(), sums.data(), counts.data(), found.data()});
}

bool load(LabelVotes& votes, Array1<const uint8_t> bytes, int64_t rows, int64_t num_labels) {
    return votes.load(bytes.data(), length(bytes), rows, num_labels);
}

}  // namespace

void bind_label_votes(nb::module_& m) {
    nb::class_<LabelVotes>(m, "LabelVotes")
        .def(nb::init<>())
        .def("rows", &LabelVotes::rows)
        .def("bytes", &LabelVotes::bytes)
        .def("append", &append, "indptr"_a.noconvert(), "ids"_a.noconvert(), GilRelease())
        .def("join", &join, "indptr"_a.noconvert(), "rows"_a.noconvert(), "weights"_a.noconvert(), "leading"_a,
             "proposed_indptr"_a.noconvert(), "proposed"_a.noconvert(), "k"_a, "ids"_a.noconvert(),
             "sums"_a.noconvert(), "counts"_a.noconvert(), "found"_a.noconvert(), GilRelease())
        .def("read",
             [](const LabelVotes& votes) {
                 std::vector<int64_t> indptr;
                 std::vector<int32_t> ids;
                 votes.read(indptr, ids);
                 return nb::make_tuple(owned(std::move(indptr)), owned(std::move(ids)));
             })
        .def("save", [](const LabelVotes& votes) { return owned(votes.save()); })
        .def("load", &load, "bytes"_a.noconvert(), "rows"_a, "num_labels"_a, GilRelease());
}

}  // namespace hashfold
