// The rows most similar to a query row: candidates from an inverted index, scored by compact rows.
//
// The keys of the inverted index are the columns themselves, or buckets of hash tables: then a row is found
// by the buckets that it shares with the query, a rare one counting more. Scores are the same bits whichever way a
// row was found, and whatever the number of threads.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <vector>

#include "postings.hpp"
#include "row_store.hpp"
#include "views.hpp"

namespace hashfold {

struct RowQuery {
    Csr<float> x;       // what rows are scored against
    Csr<float> probes;  // keys and their weights; x itself where keys are columns
    int64_t k;
    int64_t pool;            // rows scored: those with the largest sums of weights; 0: all that may be among the k
    int64_t budget;          // of the keys' costs, the heaviest first; 0: all keys
    const int32_t* exclude;  // for each row of x the id that is not to be found, -1 for none; or null
};

// Where query i's answer goes: ids and scores at i * k, counts[i] of them; found: rows met before the cut.
struct RowAnswer {
    int32_t* ids;
    float* scores;
    int64_t* counts;
    int64_t* found;
};

// Queries may run side by side; whoever adds rows waits until it is alone.
class RowSearch {
  public:
    // num_keys 0: keys are the columns.
    RowSearch(int64_t num_cols, int64_t num_keys, int64_t block_rows);
    ~RowSearch();

    int64_t num_cols() const { return num_cols_; }
    int64_t num_keys() const { return num_keys_ > 0 ? num_keys_ : num_cols_; }
    int64_t rows() const;
    int64_t store_bytes() const;
    int64_t postings_bytes() const;

    // Keeps rows; they are found once they are listed.
    void append(const Csr<float>& rows);

    // Lists the rows not listed yet by their columns.
    void list_columns();

    // Lists the next rows by `keys`, one row of keys each.
    void list_keys(Matrix<const int32_t> keys);

    void query(const RowQuery& query, const RowAnswer& answer) const;

    // Rows as the store holds them: starts, columns, values.
    ByteRows read(int64_t first, int64_t last) const;
    std::vector<float> scales(int64_t first, int64_t last) const;

    // See RowStore.
    void save(std::vector<uint8_t>& columns, std::vector<uint8_t>& bytes) const;
    bool load(const uint8_t* columns, int64_t columns_size, const uint8_t* bytes, int64_t count,
              const float* scales, int64_t rows);

  private:
    struct Scratch;
    class Borrowed;

    void answer(const RowQuery& query, int64_t i, Scratch& scratch, const RowAnswer& out) const;
    bool choose_keys(const RowQuery& query, int64_t i, Scratch& scratch) const;
    void collect(const RowQuery& query, int64_t i, Scratch& scratch, int64_t& found) const;
    void rescore(const RowQuery& query, int64_t i, Scratch& scratch) const;
    Postings empty_postings() const;

    int64_t num_cols_, num_keys_, block_rows_;
    RowStore store_;
    Postings postings_;
    mutable std::shared_mutex mutex_;
    mutable std::mutex scratches_mutex_;
    mutable std::vector<std::unique_ptr<Scratch>> scratches_;
};

}  // namespace hashfold
