// The labels of rows, and the votes of given rows for them.
#pragma once

#include <cstdint>
#include <shared_mutex>
#include <vector>

#include "id_lists.hpp"

namespace hashfold {

// Query i is answered by rows[indptr[i]] to rows[indptr[i + 1]].
struct Voters {
    const int64_t* indptr;
    const int32_t* rows;
    int64_t queries;
};

// Weights of the voters in several channels: voter j's in channel c at weights[j * channels + c].
struct Ballots {
    const float* weights;
    int64_t channels;
    int64_t leading;  // the channel by which voted labels are ranked
};

// Query i's labels proposed by somebody else, distinct: ids[indptr[i]] to ids[indptr[i + 1]].
struct Proposals {
    const int64_t* indptr;
    const int32_t* ids;
};

// Query i's labels go to ids from i * width on, counts[i] of them, and the sums of label j in channel c to
// votes[(i * width + j) * channels + c]. width holds the most proposals and k more. found: labels voted for.
struct Joined {
    int64_t width;
    int32_t* ids;
    float* votes;
    int64_t* counts;
    int64_t* found;
};

// Votes may be taken side by side; whoever adds rows waits until it is alone.
class LabelVotes {
  public:
    int64_t rows() const;
    int64_t bytes() const;
    void append(const int64_t* indptr, const int32_t* ids, int64_t rows);

    // Of each query the proposed labels as they come, then of the k best voted ones those not among them (sums in
    // the leading channel above 0, best first, equal: smaller id); with the sums of the weights of the voters that
    // have the label, added in the order of the voters.
    void join(const Voters& voters, const Ballots& ballots, const Proposals& proposals, int64_t k,
              const Joined& out) const;

    // Labels of all rows, behind one another; indptr (rows + 1,).
    void read(std::vector<int64_t>& indptr, std::vector<int32_t>& ids) const;

    // See IdLists.
    std::vector<uint8_t> save() const;
    bool load(const uint8_t* bytes, int64_t count, int64_t rows, int64_t num_labels);

  private:
    IdLists labels_;
    mutable std::shared_mutex mutex_;
};

}  // namespace hashfold
