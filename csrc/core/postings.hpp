// An inverted index: for every key the rows that have it, with an 8-bit value.
//
// Keys are the columns of sparse rows, or the buckets of hash tables. Rows lie in blocks, so that the sums
// of a block stay in the second-level cache and a row takes 16 bits in a list; adding rows rewrites the
// last block alone. A key that many rows of a block have is a byte for each row instead of a list: adding
// it up takes a few per cent of the time.
#pragma once

#include <cstdint>
#include <vector>

#include "postings_table.hpp"

namespace hashfold {

struct Term {
    int32_t key;
    float weight;
};

class Postings {
  public:
    static constexpr int64_t kLargestBlock = 1 << 16;

    // weighted: postings carry a byte; otherwise each counts 1.
    Postings(int64_t num_keys, int64_t block_rows, bool weighted);

    int64_t num_keys() const { return static_cast<int64_t>(lengths_.size()); }
    bool weighted() const { return weighted_; }
    int64_t rows() const { return blocks_.empty() ? 0 : blocks_.back().first + blocks_.back().rows; }
    int64_t bytes() const;

    // Rows that have `key`, and what adding it up costs, in entries of a list.
    int64_t length(int32_t key) const { return lengths_[key]; }
    int64_t cost(int32_t key) const;

    // Row i has keys[starts[i]] to keys[starts[i + 1]], distinct and in range; bytes like keys, above 0, if
    // weighted.
    void append(const int64_t* starts, const int32_t* keys, const uint8_t* bytes, int64_t rows);

    int64_t blocks() const { return static_cast<int64_t>(blocks_.size()); }
    int64_t first_row(int64_t block) const { return blocks_[block].first; }

    // Sums of all blocks behind one another: each has a place for all rows of its strips.
    int64_t first_place(int64_t block) const { return blocks_[block].place; }
    int64_t places() const {
        return blocks_.empty() ? 0 : blocks_.back().place + blocks_.back().strips() * kStripRows;
    }
    int64_t block_size(int64_t block) const { return blocks_[block].rows; }

    // sums[r] = sum of weight * byte over the terms that row r of the block has. `columns` is scratch; sums
    // are the block's places.
    void add_up(int64_t block, const std::vector<Term>& terms, std::vector<WeightedBytes>& columns,
                float* sums) const;

  private:
    struct Block {
        int64_t first = 0;  // its rows are first to first + rows
        int64_t place = 0;
        int64_t rows = 0;
        int64_t entries = 0;
        std::vector<uint32_t> starts;  // of each key's list, num_keys + 1
        std::vector<uint16_t> members;
        std::vector<uint8_t> bytes;         // like members; empty where all are 1
        std::vector<int32_t> full_keys;     // ascending; their lists are empty
        std::vector<uint32_t> full_counts;  // rows that have them
        std::vector<uint8_t> full_bytes;    // stride() of each of them, 0 where a row lacks it
        int64_t strips() const { return (rows + kStripRows - 1) / kStripRows; }
        // An odd number of strips: at a power of two all keys would compete for the same few cache lines.
        int64_t stride() const { return (strips() | 1) * kStripRows; }
    };

    struct Layout;  // of a block that is being written

    template <class Body>
    static void each(const Block& block, int32_t key, const Body& body);
    static const uint8_t* full(const Block& block, int32_t key);
    void extend(Block& block, const int64_t* starts, const int32_t* keys, const uint8_t* bytes, int64_t rows);
    void add_list(const Block& block, const Term& term, float* sums) const;

    int64_t block_rows_;
    bool weighted_;
    std::vector<uint32_t> lengths_;  // over all blocks
    std::vector<Block> blocks_;
};

}  // namespace hashfold
