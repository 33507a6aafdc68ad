#include "label_votes.hpp"

#include <algorithm>
#include <mutex>

#include "id_map.hpp"
#include "parallel.hpp"

namespace hashfold {
namespace {

constexpr int32_t kFewLabels = 1 << 16;  // a place for each of so many stays in the second-level cache

// Where each label of one query is. With few labels that is a table, of which only what was put is cleared.
class Places {
  public:
    explicit Places(int32_t labels) : table_(labels <= kFewLabels ? labels : 0, -1) {}

    // `next`, unless the label was put before: then its place.
    int32_t put(int32_t label, int32_t next) {
        if (table_.empty()) return map_.insert(label, next);
        int32_t& place = table_[label];
        return place < 0 ? place = next : place;
    }

    int32_t of(int32_t label) const {
        if (table_.empty()) return map_.find(label);
        return static_cast<uint32_t>(label) < table_.size() ? table_[label] : -1;
    }

    void clear(const std::vector<int32_t>& put) {
        if (table_.empty())
            map_.clear();
        else
            for (const int32_t label : put) table_[label] = -1;
    }

  private:
    std::vector<int32_t> table_;  // -1: not put
    IdMap map_;
};

// The labels of one query's voters with their sums in every channel.
class Tallies {
  public:
    Tallies(const Ballots& ballots, int32_t labels) : ballots_(ballots), places_(labels) {}

    void count(const IdLists& labels, const Voters& voters, int64_t query) {
        places_.clear(ids_);
        ids_.clear();
        sums_.clear();
        for (int64_t j = voters.indptr[query]; j < voters.indptr[query + 1]; ++j)
            labels.each(voters.rows[j],
                        [&](int32_t label) { add(label, ballots_.weights + j * ballots_.channels); });
        taken_.assign(ids_.size(), false);
    }

    // Ranks the labels with sums above 0 in the leading channel, the k best of them in order; how many there are.
    int64_t rank(int64_t k) {
        order_.clear();
        for (int32_t place = 0; place < static_cast<int32_t>(ids_.size()); ++place)
            if (const float sum = leading(place); sum > 0) order_.push_back({sum, ids_[place], place});
        const auto found = static_cast<int64_t>(order_.size()), kept = std::min(k, found);
        if (kept < found) std::nth_element(order_.begin(), order_.begin() + kept, order_.end());
        std::sort(order_.begin(), order_.begin() + kept);
        order_.resize(kept);
        return found;
    }

    struct Ranked {
        float sum;
        int32_t label, place;
        bool operator<(const Ranked& other) const {
            return sum > other.sum || (sum == other.sum && label < other.label);
        }
    };

    const std::vector<Ranked>& ranked() const { return order_; }

    int32_t place(int32_t label) const { return places_.of(label); }

    bool taken(int32_t place) const { return taken_[place]; }

    // Writes the sums of the label there (-1: nobody voted for it), and remembers it.
    void take(int32_t place, float* sums) {
        if (place < 0) {
            std::fill_n(sums, ballots_.channels, 0.0f);
            return;
        }
        taken_[place] = true;
        std::copy_n(sums_.begin() + place * ballots_.channels, ballots_.channels, sums);
    }

  private:
    void add(int32_t label, const float* weights) {
        const auto next = static_cast<int32_t>(ids_.size());
        const int32_t place = places_.put(label, next);
        if (place == next) {
            ids_.push_back(label);
            sums_.insert(sums_.end(), weights, weights + ballots_.channels);
            return;
        }
        float* sums = sums_.data() + place * ballots_.channels;
        for (int64_t c = 0; c < ballots_.channels; ++c) sums[c] += weights[c];
    }

    float leading(int32_t place) const { return sums_[place * ballots_.channels + ballots_.leading]; }

    const Ballots& ballots_;
    Places places_;
    std::vector<int32_t> ids_;
    std::vector<Ranked> order_;
    std::vector<float> sums_;
    std::vector<uint8_t> taken_;
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
        Tallies tallies(ballots, labels_.bound());
        for (int64_t i = begin; i < end; ++i) {
            tallies.count(labels_, voters, i);
            int64_t at = i * out.width;
            const auto put = [&](int32_t label, int32_t place) {
                out.ids[at] = label;
                tallies.take(place, out.votes + at * ballots.channels);
                ++at;
            };
            for (int64_t j = proposals.indptr[i]; j < proposals.indptr[i + 1]; ++j)
                put(proposals.ids[j], tallies.place(proposals.ids[j]));
            out.found[i] = tallies.rank(k);
            for (const auto& ranked : tallies.ranked())
                if (!tallies.taken(ranked.place)) put(ranked.label, ranked.place);
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
