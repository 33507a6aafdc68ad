// The labels of rows, and the votes of given rows for them.
#pragma once

#include <cstdint>
#include <shared_mutex>
#include <vector>

#include "id_lists.hpp"

namespace hashfold {

// Query i is answered by rows[indptr[i]] to rows[indptr[i + 1]], the most similar first; similarities at least 0.
struct Voters {
    const int64_t* indptr;
    const int32_t* rows;
    const float* similarities;
    int64_t queries;
};

// In channel c the first voters[c] of a query vote, each by its similarity to the power powers[c].
struct Channels {
    const int64_t* voters;
    const float* powers;
    int64_t count;
    int64_t leading;  // the channel by which voted labels are ranked
};

// Query i's labels proposed by somebody else, distinct: ids[indptr[i]] to ids[indptr[i + 1]].
struct Proposals {
    const int64_t* indptr;
    const int32_t* ids;
};

// Query i's labels are ids[indptr[i]] to ids[indptr[i + 1]], and the sums of label j in channel c
// votes[j * channels + c]. There is room for the proposals of each query and k more. found: labels voted for.
struct Joined {
    int64_t* indptr;
    int32_t* ids;
    float* votes;
    int64_t* found;
};

// Votes may be taken side by side; whoever adds rows waits until it is alone.
class LabelVotes {
  public:
    int64_t rows() const;
    int64_t bytes() const;
    void append(const int64_t* indptr, const int32_t* ids, int64_t rows);

    // Of each query the proposed labels as they come, then of the k best voted ones those not among them (sums in
    // the leading channel above 0, best first, equal: smaller id); with the sums over the voters that have the
    // label, added in the order of the voters.
    void join(const Voters& voters, const Channels& channels, const Proposals& proposals, int64_t k,
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
