#include "label_votes.hpp"

#include <algorithm>
#include <mutex>

#include "id_map.hpp"
#include "parallel.hpp"

namespace hashfold {
namespace {

// The labels of one query's voters with their sums in every channel.
class Tallies {
  public:
    explicit Tallies(const Ballots& ballots) : ballots_(ballots) {}

    void count(const IdLists& labels, const Voters& voters, int64_t query) {
        places_.clear();
        ids_.clear();
        sums_.clear();
        for (int64_t j = voters.indptr[query]; j < voters.indptr[query + 1]; ++j)
            labels.each(voters.rows[j],
                        [&](int32_t label) { add(label, ballots_.weights + j * ballots_.channels); });
    }

    // Ranks the labels with sums above 0 in the leading channel, the k best of them in order; how many there are.
    int64_t rank(int64_t k) {
        order_.clear();
        for (int32_t place = 0; place < static_cast<int32_t>(ids_.size()); ++place)
            if (leading(place) > 0) order_.push_back(place);
        const auto found = static_cast<int64_t>(order_.size());
        std::partial_sort(order_.begin(), order_.begin() + std::min(k, found), order_.end(),
                          [&](int32_t a, int32_t b) {
                              return leading(a) > leading(b) || (leading(a) == leading(b) && ids_[a] < ids_[b]);
                          });
        order_.resize(std::min(k, found));
        return found;
    }

    // Places of the labels ranked.
    const std::vector<int32_t>& ranked() const { return order_; }

    int32_t id(int32_t place) const { return ids_[place]; }
    int32_t place(int32_t label) const { return places_.find(label); }

    void copy(int32_t place, float* sums) const {
        if (place < 0)
            std::fill_n(sums, ballots_.channels, 0.0f);
        else
            std::copy_n(sums_.begin() + place * ballots_.channels, ballots_.channels, sums);
    }

  private:
    void add(int32_t label, const float* weights) {
        const auto next = static_cast<int32_t>(ids_.size());
        const int32_t place = places_.insert(label, next);
        if (place == next) {
            ids_.push_back(label);
            sums_.resize(sums_.size() + ballots_.channels, 0.0f);
        }
        for (int64_t c = 0; c < ballots_.channels; ++c) sums_[place * ballots_.channels + c] += weights[c];
    }

    float leading(int32_t place) const { return sums_[place * ballots_.channels + ballots_.leading]; }

    const Ballots& ballots_;
    IdMap places_;
    std::vector<int32_t> ids_, order_;
    std::vector<float> sums_;
};

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

void LabelVotes::join(const Voters& voters, const Ballots& ballots, const Proposals& proposals, int64_t k,
                      const Joined& out) const {
    const std::shared_lock hold(mutex_);
    parallel_chunks(voters.queries, 64, [&](int64_t begin, int64_t end, int) {
        Tallies tallies(ballots);
        IdMap proposed;
        for (int64_t i = begin; i < end; ++i) {
            tallies.count(labels_, voters, i);
            int64_t at = i * out.width;
            const auto put = [&](int32_t label, int32_t place) {
                out.ids[at] = label;
                tallies.copy(place, out.votes + at * ballots.channels);
                ++at;
            };
            proposed.clear();
            for (int64_t j = proposals.indptr[i]; j < proposals.indptr[i + 1]; ++j) {
                proposed.insert(proposals.ids[j], 0);
                put(proposals.ids[j], tallies.place(proposals.ids[j]));
            }
            out.found[i] = tallies.rank(k);
            for (const int32_t place : tallies.ranked())
                if (proposed.find(tallies.id(place)) < 0) put(tallies.id(place), place);
            out.counts[i] = at - i * out.width;
        }
    });
}

void LabelVotes::read(std::vector<int64_t>& indptr, std::vector<int32_t>& ids) const {
    const std::shared_lock hold(mutex_);
    indptr.assign(labels_.lists() + 1, 0);
    ids.clear();
    labels_.each_of_all([&](int64_t row, int32_t id) {
        ids.push_back(id);
        ++indptr[row + 1];
    });
    for (int64_t row = 0; row < labels_.lists(); ++row) indptr[row + 1] += indptr[row];
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
