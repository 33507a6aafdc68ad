// Codes for empty bins, taken from full ones.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "rng.hpp"

namespace hashfold {

// The bins of one row: each keeps its best entry. The first `hashes` of them are the hashes; the others
// only lend their codes. Empty again after put(); so a row costs what it fills, however many bins there are.
template <class Key>
class FullBins {
  public:
    FullBins(int64_t bins, int64_t hashes, uint64_t seed)
        : hashes_(hashes), seed_(seed), codes_(bins, -1), keys_(bins) {}

    int64_t hashes() const { return hashes_; }

    // The largest key wins, of equal ones the first that came.
    void offer(int64_t bin, Key key, int32_t code) {
        if (codes_[bin] < 0)
            full_.push_back(static_cast<int32_t>(bin));
        else if (!(key > keys_[bin]))
            return;
        keys_[bin] = key;
        codes_[bin] = code;
    }

    // Writes the codes of the hashes and fills those of empty bins; a row without entries gets zeros.
    //
    // In round after round each full bin throws its code at a random hash; an empty one keeps the first
    // that hits it (Mai et al. 2019, "On densification for minwise hashing"). The order in which bins
    // would reach a given hash is thus random and does not depend on the row, so two rows agree there
    // where the first bin that is full in either of them agrees: the optimal densification of
    // Shrivastava (2017), in O(hashes log hashes) throws however few bins are full.
    void put(int32_t* codes) {
        std::fill_n(codes, hashes_, full_.empty() ? 0 : -1);
        std::sort(full_.begin(), full_.end());
        int64_t empty = full_.empty() ? 0 : hashes_;
        for (const int32_t bin : full_)
            if (bin < hashes_) codes[bin] = codes_[bin], --empty;
        for (uint64_t round = 0; empty > 0; ++round)
            for (const int32_t bin : full_) {
                const uint64_t position = (round << 32) + static_cast<uint64_t>(bin);
                int32_t& target = codes[below(mix64(seed_, position), static_cast<uint32_t>(hashes_))];
                if (target >= 0) continue;
                target = codes_[bin];
                --empty;
            }
        for (const int32_t bin : full_) codes_[bin] = -1;
        full_.clear();
    }

  private:
    int64_t hashes_;
    uint64_t seed_;
    std::vector<int32_t> codes_;
    std::vector<Key> keys_;
    std::vector<int32_t> full_;
};

}  // namespace hashfold
