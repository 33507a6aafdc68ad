// The best of many rows by their sums, without looking at most of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

#include "postings_table.hpp"

namespace hashfold {

struct Scored {
    float score;
    int32_t id;
};

inline constexpr auto better = [](const Scored& a, const Scored& b) {  // not a function: sorts take it inline
    return a.score > b.score || (a.score == b.score && a.id < b.id);
};

// The `wanted` best of what is offered in ascending order of ids, and all that come within `slack`, a share,
// of the last of them.
class Best {
  public:
    void start(int64_t wanted, float slack) {
        wanted_ = full_ = wanted;
        slack_ = slack;
        limit_ = 0;
        kept_.clear();
    }

    float limit() const { return limit_; }  // what is not above it is not among the best

    // Whether so many strips would say too little of how good a row must be: their lanes are told instead.
    bool wants_lanes(int64_t strips) const { return strips < kTellingStrips * (wanted_ + 1); }

    // Told the largest score of each strip: as many strips as wanted, and one more whose best may be excluded,
    // hold as many rows at least as good as the last of them. So do groups of strips, which are fewer to rank.
    void expect(const std::vector<float>& strips, std::vector<float>& ranked) {
        const auto count = static_cast<int64_t>(strips.size());
        if (count <= wanted_) return;
        const int64_t size = std::max<int64_t>(1, count / (kGroups * (wanted_ + 1)));
        const int64_t groups = count / size;
        ranked.assign(strips.begin(), strips.begin() + groups);
        for (int64_t from = groups; from + groups <= count; from += groups)
            for (int64_t i = 0; i < groups; ++i) ranked[i] = std::max(ranked[i], strips[from + i]);
        std::nth_element(ranked.begin(), ranked.begin() + wanted_, ranked.end(), std::greater<>());
        limit_ = std::max(limit_, std::nextafter(ranked[wanted_] * (1 - slack_), 0.0f));
    }

    void offer(float score, int32_t id) {
        kept_.push_back({score, id});
        if (static_cast<int64_t>(kept_.size()) >= 2 * full_ + 64) cut();
    }

    std::vector<Scored>& finish() {
        if (static_cast<int64_t>(kept_.size()) > wanted_) cut();
        return kept_;
    }

  private:
    static constexpr int64_t kGroups = 4;         // times as many groups of strips as rows are wanted, at least
    static constexpr int64_t kTellingStrips = 2;  // times as many strips: fewer let too many rows pass

    void cut() {
        std::nth_element(kept_.begin(), kept_.begin() + wanted_ - 1, kept_.end(), better);
        const float last = kept_[wanted_ - 1].score;
        limit_ = last * (1 - slack_);
        const auto within = [&](const Scored& s) { return slack_ > 0 && s.score > limit_; };
        kept_.erase(std::partition(kept_.begin() + wanted_, kept_.end(), within), kept_.end());
        full_ = static_cast<int64_t>(kept_.size());
    }

    int64_t wanted_ = 0, full_ = 0;  // kept at least, and after the last cut
    float slack_ = 0, limit_ = 0;
    std::vector<Scored> kept_;
};

// The rows whose sums, times scales, are among the best. strips: the best of each strip, see `best_of_strips`.
inline void offer_strips(const Sums& of, int64_t first_row, const float* strips, int32_t excluded, Best& best) {
    int32_t places[kStripRows];
    for (int64_t row = 0; row < of.rows; row += kStripRows, ++strips) {
        if (!(*strips > best.limit())) continue;
        const int64_t count = postings_table().above_in_strip(of, row, best.limit(), places);
        for (int64_t j = 0; j < count; ++j) {
            const float score = of.scales ? of.sums[places[j]] * of.scales[places[j]] : of.sums[places[j]];
            const auto id = static_cast<int32_t>(first_row + places[j]);
            if (score > best.limit() && id != excluded) best.offer(score, id);
        }
    }
}

}  // namespace hashfold
