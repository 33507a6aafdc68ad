#include "label_votes.hpp"

#include <algorithm>
#include <mutex>

#include "id_map.hpp"
#include "parallel.hpp"

namespace hashfold {
namespace {

struct Tally {
    int32_t label;
    float votes;
};

bool ahead(const Tally& a, const Tally& b) {
    return a.votes > b.votes || (a.votes == b.votes && a.label < b.label);
}

void count_votes(const IdLists& labels, const Voters& voters, int64_t query, IdMap& places,
                 std::vector<Tally>& tallies) {
    places.clear();
    tallies.clear();
    for (int64_t j = voters.indptr[query]; j < voters.indptr[query + 1]; ++j)
        labels.each(voters.rows[j], [&](int32_t label) {
            const int32_t place = places.insert(label, static_cast<int32_t>(tallies.size()));
            if (place == static_cast<int32_t>(tallies.size())) tallies.push_back({label, 0});
            tallies[place].votes += voters.weights[j];
        });
    std::erase_if(tallies, [](const Tally& t) { return !(t.votes > 0); });
}

}  // namespace

int64_t LabelVotes::rows() const {
    const std::shared_lock hold(mutex_);
    return labels_.lists();
}

int64_t LabelVotes::bytes() const {
    const std::shared_lock hold(mutex_);
    return labels_.bytes();
}

void LabelVotes::append(const int64_t* indptr, const int32_t* ids, int64_t rows) {
    const std::unique_lock hold(mutex_);
    labels_.append(indptr, ids, rows);
}

void LabelVotes::vote(const Voters& voters, const Elected& out) const {
    const std::shared_lock hold(mutex_);
    parallel_chunks(voters.queries, 64, [&](int64_t begin, int64_t end, int) {
        IdMap places;
        std::vector<Tally> tallies;
        for (int64_t i = begin; i < end; ++i) {
            count_votes(labels_, voters, i, places, tallies);
            out.found[i] = static_cast<int64_t>(tallies.size());
            out.counts[i] = std::min(out.k, out.found[i]);
            std::partial_sort(tallies.begin(), tallies.begin() + out.counts[i], tallies.end(), ahead);
            for (int64_t j = 0; j < out.counts[i]; ++j) {
                out.ids[i * out.k + j] = tallies[j].label;
                out.scores[i * out.k + j] = tallies[j].votes;
            }
        }
    });
}

std::vector<uint8_t> LabelVotes::save() const {
    const std::shared_lock hold(mutex_);
    return labels_.encoded();
}

bool LabelVotes::load(const uint8_t* bytes, int64_t count, int64_t rows, int64_t num_labels) {
    const std::unique_lock hold(mutex_);
    return labels_.load(bytes, count, rows, num_labels);
}

}  // namespace hashfold
