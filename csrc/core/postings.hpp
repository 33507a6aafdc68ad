// An inverted index: for every key the rows that have it, with an 8-bit value.
//
// Keys are the columns of sparse rows, or the buckets of hash tables. Rows lie in blocks, so that the sums
// of a block stay in the second-level cache and a row takes 16 bits in a list; adding rows rewrites the
// last block alone.
#pragma once

#include <cstdint>
#include <vector>

namespace hashfold {

class Postings {
  public:
    struct Block {
        int64_t first = 0;  // its rows are first to first + rows
        int64_t rows = 0;
        std::vector<uint32_t> starts;  // of each key's list, num_keys + 1
        std::vector<uint16_t> members;
        std::vector<uint8_t> bytes;  // like members; empty where all are 1
    };

    static constexpr int64_t kLargestBlock = 1 << 16;

    // weighted: postings carry a byte; otherwise each counts 1.
    Postings(int64_t num_keys, int64_t block_rows, bool weighted);

    int64_t num_keys() const { return static_cast<int64_t>(lengths_.size()); }
    int64_t block_rows() const { return block_rows_; }
    bool weighted() const { return weighted_; }
    int64_t rows() const { return blocks_.empty() ? 0 : blocks_.back().first + blocks_.back().rows; }
    int64_t bytes() const;
    uint32_t length(int32_t key) const { return lengths_[key]; }
    const std::vector<Block>& blocks() const { return blocks_; }

    // Row i has keys[starts[i]] to keys[starts[i + 1]], distinct and in range; bytes like keys if weighted.
    void append(const int64_t* starts, const int32_t* keys, const uint8_t* bytes, int64_t rows);

    // sums[r] += weight * byte over the list of `key` in `block`; r counts from the block's first row.
    void add(const Block& block, int32_t key, float weight, float* sums) const;

  private:
    void extend(Block& block, const int64_t* starts, const int32_t* keys, const uint8_t* bytes, int64_t rows);

    int64_t block_rows_;
    bool weighted_;
    std::vector<uint32_t> lengths_;  // over all blocks
    std::vector<Block> blocks_;
};

}  // namespace hashfold
