#include "tables.hpp"

#include <algorithm>
#include <atomic>
#include <stdexcept>

#include "parallel.hpp"
#include "rng.hpp"
#include "selection.hpp"

namespace hashfold {
namespace {

// Orders items by their random tag, so that the root of a heap is the first to give way.
struct ByTag {
    uint64_t seed;
    bool operator()(int32_t a, int32_t b) const {
        const uint64_t x = mix64(seed, a), y = mix64(seed, b);
        return x != y ? x < y : a < b;
    }
};

struct Ranked {
    uint64_t key;  // fewest first: collisions short of all, then the tie-break
    int32_t id;
    bool operator<(const Ranked& other) const { return key != other.key ? key < other.key : id < other.id; }
};

// The smallest number of collisions that can still be among the `budget` best.
uint32_t least_collisions(const CollisionCounter& counter, int64_t num_tables, int64_t budget) {
    std::vector<int64_t> with(num_tables + 1);
    for (const int32_t item : counter.met()) ++with[counter.count(item)];
    int64_t better = 0;
    for (int64_t count = num_tables; count > 1; --count) {
        better += with[count];
        if (better >= budget) return static_cast<uint32_t>(count);
    }
    return 1;
}

// The items met, best first; returns how many were written.
int64_t rank(const CollisionCounter& counter, int64_t num_tables, int64_t budget, uint64_t tie_seed,
             std::vector<Ranked>& scratch, int32_t* ids, float* scores) {
    const uint32_t least = least_collisions(counter, num_tables, budget);
    scratch.clear();
    for (const int32_t item : counter.met()) {
        const uint64_t count = counter.count(item);
        if (count >= least)
            scratch.push_back({((num_tables - count) << 48) | (mix64(tie_seed, item) >> 16), item});
    }
    const int64_t kept = std::min<int64_t>(budget, scratch.size());
    if (kept < static_cast<int64_t>(scratch.size()))
        std::nth_element(scratch.begin(), scratch.begin() + kept, scratch.end());
    std::sort(scratch.begin(), scratch.begin() + kept);
    for (int64_t j = 0; j < kept; ++j) {
        ids[j] = scratch[j].id;
        scores[j] = static_cast<float>(counter.count(scratch[j].id));
    }
    return kept;
}

// Depends on the row's buckets alone, so that a row's answer does not depend on its batch.
uint64_t tie_seed(uint64_t seed, const int32_t* row, int64_t count) {
    for (int64_t t = 0; t < count; ++t) seed = mix64(seed, static_cast<uint64_t>(row[t]));
    return seed;
}

}  // namespace

void CollisionCounter::start() {
    met_.clear();
    constexpr uint32_t step = 1u << kCountBits;
    if (epoch_ > UINT32_MAX - 2 * step) {
        std::fill(marks_.begin(), marks_.end(), 0);
        epoch_ = 0;
    }
    epoch_ += step;
}

HashTables::HashTables(const TableRules& rules) : rules_(rules), tables_(rules.num_tables) {
    if (rules.num_tables < 1 || rules.num_tables >= (1 << CollisionCounter::kCountBits))
        throw std::logic_error("hashfold internal error: number of tables");
    for (int64_t t = 0; t < rules.num_tables; ++t) tables_[t].seed = mix64(rules.seed, t);
}

void HashTables::check(Matrix<const int32_t> buckets) const {
    if (buckets.cols != rules_.num_tables) throw std::logic_error("hashfold internal error: buckets per item");
    const uint32_t bound = static_cast<uint32_t>(rules_.num_buckets);
    std::atomic<bool> outside{false};
    parallel_chunks(buckets.rows, 1024, [&](int64_t begin, int64_t end, int) {
        const int32_t* last = buckets.data + end * buckets.cols;
        if (std::any_of(buckets.data + begin * buckets.cols, last,
                        [=](int32_t b) { return static_cast<uint32_t>(b) >= bound; }))
            outside = true;
    });
    if (outside) throw std::logic_error("hashfold internal error: a bucket id is out of range");
}

void HashTables::build(Matrix<const int32_t> buckets) {
    check(buckets);
    if (buckets.rows != rules_.num_items) throw std::logic_error("hashfold internal error: rows of buckets");
    const std::unique_lock lock(mutex_);
    for (Table& table : tables_) table.bucket_of.resize(rules_.num_items);
    parallel_chunks(buckets.rows, 4096, [&](int64_t begin, int64_t end, int) {
        for (int64_t t = 0; t < rules_.num_tables; ++t)
            for (int64_t i = begin; i < end; ++i) tables_[t].bucket_of[i] = buckets.row(i)[t];
    });
    parallel_chunks(rules_.num_tables, 1, [&](int64_t begin, int64_t end, int) {
        for (int64_t t = begin; t < end; ++t) build(tables_[t]);
    });
}

// A counting sort: how many fall into each bucket, where each starts, then one item after the other.
void HashTables::build(Table& table) const {
    table.buckets.assign(rules_.num_buckets, Bucket{});
    table.holes = 0;
    for (const int32_t b : table.bucket_of) ++table.buckets[b].room;
    int64_t start = 0;
    for (Bucket& bucket : table.buckets) {
        if (rules_.capacity > 0)
            bucket.room = static_cast<int32_t>(std::min<int64_t>(bucket.room, rules_.capacity));
        bucket.start = static_cast<uint32_t>(start);
        start += bucket.room;
    }
    table.slots.resize(start);
    for (int64_t i = 0; i < rules_.num_items; ++i) insert(table, table.bucket_of[i], static_cast<int32_t>(i));
}

void HashTables::insert(Table& table, int32_t at, int32_t item) const {
    Bucket& bucket = table.buckets[at];
    ++bucket.fallen;
    const ByTag by_tag{table.seed};
    if (rules_.capacity == 0 || bucket.size < rules_.capacity) {
        if (bucket.size == bucket.room) make_room(table, bucket);
        int32_t* first = table.slots.data() + bucket.start;
        first[bucket.size++] = item;
        if (heaped()) std::push_heap(first, first + bucket.size, by_tag);
        return;
    }
    int32_t* first = table.slots.data() + bucket.start;
    int32_t* last = first + bucket.size;
    if (rules_.policy == Policy::fifo) {
        std::copy(first + 1, last, first);
        last[-1] = item;
    } else if (by_tag(item, first[0])) {
        std::pop_heap(first, last, by_tag);
        last[-1] = item;
        std::push_heap(first, last, by_tag);
    }
}

void HashTables::remove(Table& table, int32_t at, int32_t item) const {
    Bucket& bucket = table.buckets[at];
    --bucket.fallen;
    int32_t* first = table.slots.data() + bucket.start;
    int32_t* last = first + bucket.size;
    int32_t* place = std::find(first, last, item);
    if (place == last) return;  // the capacity had kept it out
    std::copy(place + 1, last, place);
    --bucket.size;
    if (heaped()) std::make_heap(first, last - 1, ByTag{table.seed});
}

void HashTables::make_room(Table& table, Bucket& bucket) const {
    const int64_t wanted = bucket.size + bucket.size / 2 + 4;
    const int64_t room = rules_.capacity > 0 ? std::min(wanted, rules_.capacity) : wanted;
    table.holes += bucket.room;
    const int64_t start = static_cast<int64_t>(table.slots.size());
    table.slots.resize(start + room);
    std::copy_n(table.slots.begin() + bucket.start, bucket.size, table.slots.begin() + start);
    bucket.start = static_cast<uint32_t>(start);
    bucket.room = static_cast<int32_t>(room);
    if (3 * table.holes < static_cast<int64_t>(table.slots.size())) return;
    std::vector<int32_t> tidy;
    tidy.reserve(table.slots.size() - table.holes);
    for (Bucket& b : table.buckets) {
        const auto from = table.slots.begin() + b.start;
        b.start = static_cast<uint32_t>(tidy.size());
        tidy.insert(tidy.end(), from, from + b.room);
    }
    table.slots.swap(tidy);
    table.holes = 0;
}

void HashTables::update(const int32_t* ids, Matrix<const int32_t> buckets) {
    check(buckets);
    const std::unique_lock lock(mutex_);
    parallel_chunks(rules_.num_tables, 1, [&](int64_t begin, int64_t end, int) {
        for (int64_t t = begin; t < end; ++t)
            for (int64_t i = 0; i < buckets.rows; ++i) {
                int32_t& at = tables_[t].bucket_of[ids[i]];
                const int32_t to = buckets.row(i)[t];
                if (at == to) continue;
                remove(tables_[t], at, ids[i]);
                insert(tables_[t], to, ids[i]);
                at = to;
            }
    });
}

BucketView HashTables::bucket(int64_t table, int64_t bucket) const {
    const Bucket& b = tables_[table].buckets[bucket];
    return {tables_[table].slots.data() + b.start, b.size};
}

void HashTables::entries(Matrix<const int32_t> buckets, int64_t* counts) const {
    check(buckets);
    const auto lock = lock_for_reading();
    for (int64_t i = 0; i < buckets.rows; ++i) {
        counts[i] = 0;
        for (int64_t t = 0; t < rules_.num_tables; ++t) counts[i] += bucket(t, buckets.row(i)[t]).size;
    }
}

void HashTables::meet_all(const int32_t* row, CollisionCounter& counter) const {
    constexpr int64_t ahead = 12;
    for (int64_t t = 0; t < rules_.num_tables; ++t) {
        if (t + 2 < rules_.num_tables) __builtin_prefetch(&tables_[t + 2].buckets[row[t + 2]]);
        if (t + 1 < rules_.num_tables) __builtin_prefetch(bucket(t + 1, row[t + 1]).items);
        const BucketView b = bucket(t, row[t]);
        for (int64_t j = 0; j < b.size; ++j) {
            if (j + ahead < b.size) counter.prefetch(b.items[j + ahead]);
            counter.meet(b.items[j]);
        }
    }
}

void HashTables::query(Matrix<const int32_t> buckets, int64_t budget, int64_t* indptr, int32_t* ids, float* scores,
                       int64_t* found) const {
    const auto lock = lock_for_reading();
    std::vector<int64_t> counts(buckets.rows);
    parallel_chunks(buckets.rows, 8, [&](int64_t begin, int64_t end, int) {
        std::unique_ptr<CollisionCounter> counter = borrow_counter();
        std::vector<Ranked> scratch;
        for (int64_t i = begin; i < end; ++i) {
            counter->start();
            meet_all(buckets.row(i), *counter);
            found[i] = static_cast<int64_t>(counter->met().size());
            counts[i] = rank(*counter, rules_.num_tables, std::min(budget, indptr[i + 1] - indptr[i]),
                             tie_seed(rules_.seed, buckets.row(i), rules_.num_tables), scratch, ids + indptr[i],
                             scores + indptr[i]);
        }
        give_back(std::move(counter));
    });
    pack_rows(indptr, counts.data(), buckets.rows, ids, scores);
}

std::unique_ptr<CollisionCounter> HashTables::borrow_counter() const {
    {
        const std::lock_guard hold(counters_mutex_);
        if (!counters_.empty()) {
            std::unique_ptr<CollisionCounter> counter = std::move(counters_.back());
            counters_.pop_back();
            return counter;
        }
    }
    return std::make_unique<CollisionCounter>(rules_.num_items);
}

void HashTables::give_back(std::unique_ptr<CollisionCounter> counter) const {
    const std::lock_guard hold(counters_mutex_);
    counters_.push_back(std::move(counter));
}

void HashTables::occupancy(int32_t* sizes, int32_t* fallen) const {
    const auto lock = lock_for_reading();
    for (const Table& table : tables_)
        for (const Bucket& bucket : table.buckets) {
            *sizes++ = bucket.size;
            *fallen++ = bucket.fallen;
        }
}

std::vector<int32_t> HashTables::items(int64_t table, int64_t at) const {
    const auto lock = lock_for_reading();
    const BucketView b = bucket(table, at);
    return {b.items, b.items + b.size};
}

int64_t HashTables::held() const {
    const auto lock = lock_for_reading();
    int64_t sum = 0;
    for (const Table& table : tables_)
        for (const Bucket& bucket : table.buckets) sum += bucket.size;
    return sum;
}

void HashTables::save(int32_t* bucket_of, int32_t* items) const {
    const auto lock = lock_for_reading();
    for (const Table& table : tables_) {
        bucket_of = std::copy(table.bucket_of.begin(), table.bucket_of.end(), bucket_of);
        for (const Bucket& bucket : table.buckets)
            items = std::copy_n(table.slots.begin() + bucket.start, bucket.size, items);
    }
}

bool HashTables::load(const int32_t* bucket_of, const int32_t* items, const int64_t* counts) {
    std::vector<const int32_t*> first(rules_.num_tables, items);
    for (int64_t t = 1; t < rules_.num_tables; ++t) first[t] = first[t - 1] + counts[t - 1];
    std::vector<Table> fresh(rules_.num_tables);
    std::atomic<bool> sound{true};
    parallel_chunks(rules_.num_tables, 1, [&](int64_t begin, int64_t end, int) {
        for (int64_t t = begin; t < end; ++t) {
            const int32_t* own = bucket_of + t * rules_.num_items;
            fresh[t].seed = tables_[t].seed;
            fresh[t].bucket_of.assign(own, own + rules_.num_items);
            if (!load(fresh[t], first[t], counts[t])) sound = false;
        }
    });
    if (!sound) return false;
    const std::unique_lock lock(mutex_);
    tables_.swap(fresh);
    return true;
}

// The items come bucket by bucket, and bucket_of knows each one's: sizes need not be given.
bool HashTables::load(Table& table, const int32_t* items, int64_t count) const {
    table.buckets.assign(rules_.num_buckets, Bucket{});
    for (const int32_t b : table.bucket_of) {
        if (b < 0 || b >= rules_.num_buckets) return false;
        ++table.buckets[b].fallen;
    }
    std::vector<bool> held(rules_.num_items);
    for (int64_t j = 0, last = 0; j < count; ++j) {
        if (items[j] < 0 || items[j] >= rules_.num_items || held[items[j]]) return false;
        const int32_t b = table.bucket_of[items[j]];
        if (b < last) return false;
        held[items[j]] = true;
        ++table.buckets[b].size;
        last = b;
    }
    table.slots.assign(items, items + count);
    uint32_t start = 0;
    for (Bucket& bucket : table.buckets) {
        bucket.start = start;
        bucket.room = bucket.size;
        start += static_cast<uint32_t>(bucket.size);
        if (!well_kept(table, bucket)) return false;
    }
    return true;
}

// What the capacity promises of a bucket.
bool HashTables::well_kept(const Table& table, const Bucket& bucket) const {
    if (rules_.capacity == 0) return bucket.size == bucket.fallen;
    const auto first = table.slots.begin() + bucket.start;
    return bucket.size <= rules_.capacity &&
           (!heaped() || std::is_heap(first, first + bucket.size, ByTag{table.seed}));
}

}  // namespace hashfold
