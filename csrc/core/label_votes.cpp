#include "label_votes.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <mutex>

#include "id_map.hpp"
#include "parallel.hpp"

namespace hashfold {
namespace {

constexpr int32_t kFewLabels = 1 << 16;  // the sums of so many stay in the second-level cache
constexpr int64_t kUsual = 4;            // channels that are added up in one instruction
constexpr int64_t kAhead = 6;            // voters whose labels are fetched ahead

typedef float Usual __attribute__((vector_size(kUsual * sizeof(float))));

float power_of(float base, float power) {
    if (power == 1) return base;
    const float square = base * base;
    return power == 2 ? square : power == 4 ? square * square : std::pow(base, power);
}

// The labels of one query's voters with their sums in every channel. With few labels each has its own place, and
// only those of labels that were voted for are cleared; else labels get places as they come.
class Tallies {
  public:
    // For queries of these channels and labels below `labels`. What was counted before is forgotten.
    void start(const Channels& channels, int32_t labels) {
        clear();
        const int64_t places = labels <= kFewLabels ? labels : 0;
        direct_ = labels <= kFewLabels;
        channels_ = channels;
        weights_.resize(channels.count);
        ids_.resize(places + 1);
        states_.resize(places);
        sums_.resize(places * channels.count);
    }

    void count(const IdLists& labels, const Voters& voters, int64_t query) {
        clear();
        if (direct_ && channels_.count == kUsual)
            count_by<Usual>(labels, voters, query);
        else if (direct_ && channels_.count == 1)
            count_by<float>(labels, voters, query);
        else
            each_voter(labels, voters, query, weights_.data(), [&](int32_t row) {
                labels.each(row, [&](int32_t label) {
                    float* sums = sums_of(direct_ ? mark(label) : place_anew(label));
                    for (int64_t c = 0; c < channels_.count; ++c) sums[c] += weights_[c];
                });
            });
    }

    // Ranks the labels with sums above 0 in the leading channel, the k best of them in order; how many there are.
    int64_t rank(int64_t k) {
        order_.resize(voted_);
        const float* leading = sums_.data() + channels_.leading;
        const int32_t* ids = ids_.data();
        int64_t found = 0;
        for (int32_t i = 0; i < voted_; ++i) {
            const int32_t place = direct_ ? ids[i] : i;
            const float sum = leading[place * channels_.count];
            order_[found] = {sum, ids[i], place};
            found += sum > 0;
        }
        const int64_t kept = std::min(k, found);
        const auto first = order_.begin();
        if (kept < found) std::nth_element(first, first + kept, first + found);
        std::sort(first, first + kept);
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

    // Of a label; -1: nobody voted for it.
    int32_t place(int32_t label) const {
        if (!direct_) return map_.find(label);
        return static_cast<size_t>(label) < states_.size() && states_[label] != kNone ? label : -1;
    }

    bool taken(int32_t place) const { return states_[place] == kTaken; }

    // Writes the sums of the label there, and remembers it.
    void take(int32_t place, float* sums) {
        if (place < 0) {
            std::fill_n(sums, channels_.count, 0.0f);
            return;
        }
        states_[place] = kTaken;
        std::copy_n(sums_.begin() + place * channels_.count, channels_.count, sums);
    }

  private:
    enum State : uint8_t { kNone, kVoted, kTaken };

    void clear() {
        if (direct_) {
            for (int32_t i = 0; i < voted_; ++i) {
                states_[ids_[i]] = kNone;
                std::fill_n(sums_.begin() + ids_[i] * channels_.count, channels_.count, 0.0f);
            }
        } else {
            map_.clear();
            states_.clear();
            sums_.clear();
        }
        voted_ = 0;
    }

    // body(row) for each voter, its weights being set.
    template <class Body>
    void each_voter(const IdLists& labels, const Voters& voters, int64_t query, float* weights, const Body& body) {
        const int64_t begin = voters.indptr[query], end = voters.indptr[query + 1];
        for (int64_t j = begin; j < end; ++j) {
            for (int64_t c = 0; c < channels_.count; ++c)
                weights[c] =
                    j - begin < channels_.voters[c] ? power_of(voters.similarities[j], channels_.powers[c]) : 0.0f;
            if (j + 2 * kAhead < end) labels.prefetch_start(voters.rows[j + 2 * kAhead]);
            if (j + kAhead < end) labels.prefetch(voters.rows[j + kAhead]);
            body(voters.rows[j]);
        }
    }

    // As `count`, with as many channels as Sums holds, by local variables, which the compiler knows that nothing
    // else points at. No branch: whether a label was voted for before cannot be foreseen.
    template <class Sums>
    void count_by(const IdLists& labels, const Voters& voters, int64_t query) {
        constexpr int64_t channels = sizeof(Sums) / sizeof(float);
        float weights[channels], *all = sums_.data();
        int32_t *ids = ids_.data(), voted = 0;
        uint8_t* states = states_.data();
        each_voter(labels, voters, query, weights, [&](int32_t row) {
            Sums own, sums;
            std::memcpy(&own, weights, sizeof own);
            labels.each(row, [&](int32_t label) {
                ids[voted] = label;
                voted += states[label] == kNone;
                states[label] = kVoted;
                std::memcpy(&sums, all + label * channels, sizeof sums);
                sums += own;
                std::memcpy(all + label * channels, &sums, sizeof sums);
            });
        });
        voted_ = voted;
    }

    int32_t mark(int32_t label) {
        ids_[voted_] = label;
        voted_ += states_[label] == kNone;
        states_[label] = kVoted;
        return label;
    }

    int32_t place_anew(int32_t label) {
        const int32_t place = map_.insert(label, voted_);
        if (place == voted_) {
            ids_.resize(++voted_);
            ids_[place] = label;
            states_.push_back(kVoted);
            sums_.resize(sums_.size() + channels_.count);
        }
        return place;
    }

    float* sums_of(int32_t place) { return sums_.data() + place * channels_.count; }

    Channels channels_{};
    bool direct_ = true;          // a label's place is the label
    std::vector<float> weights_;  // of a voter
    std::vector<int32_t> ids_;    // voted_ labels
    int32_t voted_ = 0;
    std::vector<uint8_t> states_;  // of places
    std::vector<float> sums_;      // of places
    std::vector<Ranked> order_;
    IdMap map_;
};

// Moves what queries wrote, each at its room, together.
void pack(const Voters& voters, const Channels& channels, const std::vector<int64_t>& room, const Joined& out) {
    int64_t to = 0;
    for (int64_t i = 0; i < voters.queries; ++i) {
        const int64_t count = out.indptr[i + 1], from = room[i];
        std::copy_n(out.ids + from, count, out.ids + to);
        std::copy_n(out.votes + from * channels.count, count * channels.count, out.votes + to * channels.count);
        out.indptr[i] = to;
        to += count;
    }
    out.indptr[voters.queries] = to;
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

void LabelVotes::join(const Voters& voters, const Channels& channels, const Proposals& proposals, int64_t k,
                      const Joined& out) const {
    const std::shared_lock hold(mutex_);
    std::vector<int64_t> room(voters.queries);
    for (int64_t i = 0; i < voters.queries; ++i) room[i] = proposals.indptr[i] - proposals.indptr[0] + i * k;
    parallel_chunks(voters.queries, 64, [&](int64_t begin, int64_t end, int) {
        thread_local Tallies kept;  // as the places of all labels take longer to make than some votes to count
        Tallies& tallies = kept;
        tallies.start(channels, labels_.bound());
        for (int64_t i = begin; i < end; ++i) {
            tallies.count(labels_, voters, i);
            int64_t at = room[i];
            const auto put = [&](int32_t label, int32_t place) {
                out.ids[at] = label;
                tallies.take(place, out.votes + at * channels.count);
                ++at;
            };
            for (int64_t j = proposals.indptr[i]; j < proposals.indptr[i + 1]; ++j)
                put(proposals.ids[j], tallies.place(proposals.ids[j]));
            out.found[i] = tallies.rank(k);
            for (const auto& ranked : tallies.ranked())
                if (!tallies.taken(ranked.place)) put(ranked.label, ranked.place);
            out.indptr[i + 1] = at - room[i];
        }
    });
    pack(voters, channels, room, out);
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
