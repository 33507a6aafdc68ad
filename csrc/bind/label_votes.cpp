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

void join(const LabelVotes& votes, Indptr indptr, Ids rows, Array1<const float> similarities, Indptr voters,
          Array1<const float> powers, int64_t leading, Indptr proposed_indptr, Ids proposed, int64_t k,
          Array1<int64_t> out_indptr, Array1<int32_t> ids, Array2<float> sums, Array1<int64_t> found) {
    check_voters(votes, indptr, rows);
    const int64_t queries = length(indptr) - 1, channels = length(voters);
    require(length(similarities) == length(rows) && length(powers) == channels, "lengths of the votes");
    require(leading >= 0 && leading < channels, "leading is no channel");
    require(length(proposed_indptr) == queries + 1 && proposed_indptr.data()[queries] == length(proposed) &&
                proposed_indptr.data()[0] == 0,
            "proposals and queries disagree");
    require(std::is_sorted(proposed_indptr.data(), proposed_indptr.data() + queries + 1), "proposals go back");
    require(length(out_indptr) == queries + 1 && length(found) == queries, "lengths of the answer");
    require(length(ids) >= length(proposed) + k * queries && static_cast<int64_t>(sums.shape(0)) == length(ids) &&
                static_cast<int64_t>(sums.shape(1)) == channels,
            "room for the labels");
    votes.join({indptr.data(), rows.data(), similarities.data(), queries},
               {voters.data(), powers.data(), channels, leading}, {proposed_indptr.data(), proposed.data()}, k,
               {out_indptr.data(), ids.data(), sums.data(), found.data()});
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
        .def("join", &join, "indptr"_a.noconvert(), "rows"_a.noconvert(), "similarities"_a.noconvert(),
             "voters"_a.noconvert(), "powers"_a.noconvert(), "leading"_a, "proposed_indptr"_a.noconvert(),
             "proposed"_a.noconvert(), "k"_a, "out_indptr"_a.noconvert(), "ids"_a.noconvert(),
             "sums"_a.noconvert(), "found"_a.noconvert(), GilRelease())
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
