// Hash tables over the items of a layer: which items fell into which bucket.
//
// A table's buckets lie one behind the other in one array, each with the room it needs; a bucket that
// outgrows its room moves to the end, and the array is tidied when a third of it is holes. The bucket of
// every item is kept too, so that an item can be taken out again.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <vector>

#include "views.hpp"

namespace hashfold {

// Which items a full bucket keeps.
enum class Policy : int {
    reservoir = 0,  // a uniform sample: those with the smallest random tags (Fan, Muller, Rezucha 1962),
                    // so that neither the order of insertion nor the threads matter
    fifo = 1,       // those inserted last
};

struct TableRules {
    int64_t num_items;
    int64_t num_tables;
    int64_t num_buckets;  // per table
    int64_t capacity;     // items a bucket holds; 0: any number
    Policy policy;
    uint64_t seed;
};

struct BucketView {
    const int32_t* items;
    int64_t size;
};

// Counts how often an item is met, one query after the other without clearing in between.
class CollisionCounter {
  public:
    static constexpr int kCountBits = 12;

    explicit CollisionCounter(int64_t num_items) : marks_(num_items) {}
    void start();
    void meet(int32_t item) {
        uint32_t& mark = marks_[item];
        if (mark <= epoch_) {
            mark = epoch_;
            met_.push_back(item);
        }
        ++mark;
    }
    void prefetch(int32_t item) const { __builtin_prefetch(&marks_[item], 1); }
    const std::vector<int32_t>& met() const { return met_; }
    uint32_t count(int32_t item) const { return marks_[item] - epoch_; }

  private:
    std::vector<uint32_t> marks_;  // epoch_ + count; smaller: not met in this query
    std::vector<int32_t> met_;
    uint32_t epoch_ = 0;
};

// Queries may run side by side; build and update wait until they have the tables to themselves.
class HashTables {
  public:
    explicit HashTables(const TableRules& rules);

    const TableRules& rules() const { return rules_; }

    // buckets (num_items, num_tables), each in [0, num_buckets); throws std::logic_error otherwise.
    void build(Matrix<const int32_t> buckets);

    // Item ids[i] moves to buckets row i; ids are distinct.
    void update(const int32_t* ids, Matrix<const int32_t> buckets);

    // The most items that each query row can meet: the sizes of its buckets, summed.
    void entries(Matrix<const int32_t> buckets, int64_t* counts) const;

    // For each row of `buckets` (rows, num_tables): the items met, by number of collisions, ties by a
    // hash of the item and of the row's buckets; at most `budget`. On entry indptr bounds the room of
    // each row in ids and scores (the collisions); on return the rows are packed. found: distinct items.
    void query(Matrix<const int32_t> buckets, int64_t budget, int64_t* indptr, int32_t* ids, float* scores,
               int64_t* found) const;

    // sizes and fallen (num_tables, num_buckets): items a bucket holds, and that fell into it.
    void occupancy(int32_t* sizes, int32_t* fallen) const;

    std::vector<int32_t> items(int64_t table, int64_t bucket) const;

    // Items that the buckets hold, over all tables.
    int64_t held() const;

    // All that a query or an update depends on: bucket_of (num_tables, num_items), and the items that the
    // buckets hold, one behind the other in their order, table after table.
    void save(int32_t* bucket_of, int32_t* items) const;

    // Puts the tables where `save` found others of these rules; counts (num_tables): items of each table.
    // False, and nothing changed, if no tables of these rules could be in that state.
    bool load(const int32_t* bucket_of, const int32_t* items, const int64_t* counts);

    // For readers that hold lock_for_reading() meanwhile.
    BucketView bucket(int64_t table, int64_t bucket) const;
    std::shared_lock<std::shared_mutex> lock_for_reading() const { return std::shared_lock(mutex_); }

  private:
    struct Bucket {  // 16 bytes: there can be as many buckets as items, in every table
        uint32_t start = 0;
        int32_t size = 0;
        int32_t room = 0;
        int32_t fallen = 0;  // size, and what the capacity kept out
    };

    struct Table {
        uint64_t seed = 0;
        std::vector<Bucket> buckets;
        std::vector<int32_t> slots;
        std::vector<int32_t> bucket_of;  // of each item
        int64_t holes = 0;
    };

    void build(Table& table) const;
    bool load(Table& table, const int32_t* items, int64_t count) const;
    bool well_kept(const Table& table, const Bucket& bucket) const;
    void insert(Table& table, int32_t bucket, int32_t item) const;
    void remove(Table& table, int32_t bucket, int32_t item) const;
    void make_room(Table& table, Bucket& bucket) const;
    bool heaped() const { return rules_.capacity > 0 && rules_.policy == Policy::reservoir; }
    void meet_all(const int32_t* row, CollisionCounter& counter) const;
    void check(Matrix<const int32_t> buckets) const;
    std::unique_ptr<CollisionCounter> borrow_counter() const;
    void give_back(std::unique_ptr<CollisionCounter> counter) const;

    TableRules rules_;
    std::vector<Table> tables_;
    mutable std::shared_mutex mutex_;
    mutable std::mutex counters_mutex_;
    mutable std::vector<std::unique_ptr<CollisionCounter>> counters_;
};

}  // namespace hashfold
