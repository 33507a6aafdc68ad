// The rows most similar to a query row, from packed inverted lists alone: their sums are the scores.
#pragma once

#include <cstdint>
#include <shared_mutex>
#include <vector>

#include "packed_lists.hpp"
#include "row_search.hpp"
#include "rowwise_linear.hpp"
#include "views.hpp"

namespace hashfold {

struct PackedQuery {
    Csr<float> x;
    const float* levels;  // what a code is worth, times the row's scale and the query's value; 2^bits of them
    int64_t k;
    const int32_t* exclude;  // for each row of x the id that is not to be found, -1 for none; or null
};

// Of each row: the codes of its columns.
struct PackedRows {
    std::vector<int64_t> starts{0};
    std::vector<int32_t> columns;
    std::vector<uint8_t> codes;
};

// Queries may run side by side; whoever adds rows waits until it is alone.
class PackedSearch {
  public:
    // block_rows: a multiple of kStripRows, at most PackedLists::kMostRows.
    PackedSearch(int64_t num_cols, int bits, int64_t block_rows)
        : num_cols_(num_cols), block_rows_(block_rows), bits_(bits) {}

    int64_t num_cols() const { return num_cols_; }
    int bits() const { return bits_; }
    int64_t rows() const;
    int64_t bytes() const;        // all that is kept
    int64_t table_bytes() const;  // of them, where lists begin

    // See PackedLists; scales: one a row, finite and at least 0.
    void append(const Csr<uint8_t>& rows, const float* scales);

    void query(const PackedQuery& query, const RowAnswer& answer) const;

    // The other way round: x has a value for each of some rows of this index, `pairs` names columns. out (pairs,):
    // the sum of value * level over the rows of each column's list, without their scales.
    void score_columns(const Csr<float>& x, const float* levels, const ActiveRows& pairs, float* out) const;

    // body(row, code) for each entry of a column's list, rows ascending.
    template <class Body>
    void each_of(int32_t column, const Body& body) const {
        for (size_t block = 0; block < blocks_.size(); ++block) {
            const int64_t first = first_row(block);
            blocks_[block].each(column, [&](int64_t row, uint32_t code) { body(first + row, code); });
        }
    }

    // Rows [first, last). Cost: all lists of their blocks are read.
    PackedRows read(int64_t first, int64_t last) const;
    std::vector<float> scales(int64_t first, int64_t last) const;

    std::vector<uint8_t> save() const;

    // Takes what `save` gave, and the scales; false, and nothing changed, if this is no state of such rows.
    bool load(const uint8_t* lists, int64_t size, const float* scales, int64_t rows);

  private:
    struct Scratch;

    void answer(const PackedQuery& query, int64_t i, Scratch& scratch, const RowAnswer& out) const;
    int64_t sweep(const PackedQuery& query, int64_t i, Scratch& scratch) const;
    int64_t first_row(size_t block) const { return static_cast<int64_t>(block) * block_rows_; }

    int64_t num_cols_, block_rows_;
    int bits_;
    std::vector<PackedLists> blocks_;  // all but the last have block_rows_ rows
    std::vector<float> scales_;
    mutable std::shared_mutex mutex_;
};

}  // namespace hashfold
