#include "selection.hpp"

#include <algorithm>
#include <atomic>
#include <numeric>
#include <utility>
#include <vector>

#include "id_map.hpp"
#include "parallel.hpp"
#include "rng.hpp"

namespace hashfold {
namespace {

// Every id that is not in `taken`, ascending.
std::vector<int32_t> rest_of(const IdMap& taken, int64_t num_items) {
    std::vector<int32_t> rest;
    rest.reserve(num_items - taken.size());
    for (int64_t id = 0; id < num_items; ++id)
        if (taken.find(static_cast<int32_t>(id)) < 0) rest.push_back(static_cast<int32_t>(id));
    return rest;
}

// `count` distinct ids that are not in `taken`, uniformly without replacement.
void draw(IdMap& taken, int64_t num_items, int64_t count, Stream random, int32_t* out) {
    if (2 * (taken.size() + count) <= num_items) {  // at least every second draw is accepted
        for (int64_t n = 0; n < count;) {
            const int32_t id = random.below(static_cast<uint32_t>(num_items));
            const int64_t before = taken.size();
            taken.insert(id, 0);
            if (taken.size() > before) out[n++] = id;
        }
        return;
    }
    std::vector<int32_t> rest = rest_of(taken, num_items);
    for (int64_t n = 0; n < count; ++n) {  // the head of a Fisher-Yates shuffle
        std::swap(rest[n], rest[n + random.below(static_cast<uint32_t>(rest.size() - n))]);
        out[n] = rest[n];
    }
}

void weigh(float* weights, int64_t certain, int64_t count, int64_t num_items) {
    std::fill_n(weights, certain, 1.0f);
    if (count > certain)
        std::fill_n(weights + certain, count - certain,
                    static_cast<float>(static_cast<double>(num_items - certain) / (count - certain)));
}

// How many of row i's labels are not among its candidates. `set` is scratch.
int64_t missed(const Ragged& labels, const Ragged& candidates, int64_t i, IdMap& set) {
    set.clear();
    for (const int32_t* id = labels.begin(i); id != labels.end(i); ++id) set.insert(*id, 0);
    return labels.count(i) -
           std::count_if(candidates.begin(i), candidates.end(i), [&](int32_t id) { return set.find(id) >= 0; });
}

int64_t missed(const Ragged& labels, const Ragged& candidates) {
    if (candidates.total() == 0) return labels.total();  // and the team is left to whoever computes meanwhile
    std::atomic<int64_t> total{0};
    parallel_chunks(labels.rows, 64, [&](int64_t begin, int64_t end, int) {
        IdMap set;
        int64_t sum = 0;
        for (int64_t i = begin; i < end; ++i) sum += missed(labels, candidates, i, set);
        total += sum;
    });
    return total;
}

// One row: labels, candidates, fill. Returns the number of ids.
int64_t select_row(const Ragged& labels, const Ragged& candidates, const RowRules& rules, int64_t i, IdMap& set,
                   int32_t* ids, float* weights, RowsSelection& tally) {
    set.clear();
    int64_t n = 0, hits = 0;
    for (const int32_t* id = labels.begin(i); id != labels.end(i); ++id) {
        set.insert(*id, 0);
        ids[n++] = *id;
    }
    for (const int32_t* id = candidates.begin(i); id != candidates.end(i); ++id) {
        if (set.find(*id) >= 0) {
            ++hits;
        } else if (n < rules.budget) {
            set.insert(*id, 0);
            ids[n++] = *id;
        } else {
            ++tally.truncated;
        }
    }
    tally.labels_missed += labels.count(i) - hits;
    const int64_t certain = n, wanted = std::min(rules.minimum, rules.num_items);
    if (n < wanted) {
        draw(set, rules.num_items, wanted - n, Stream(rules.seed, i), ids + n);
        tally.filled += wanted - n;
        tally.rows_filled += 1;
        n = wanted;
    }
    weigh(weights, certain, n, rules.num_items);
    return n;
}

}  // namespace

SharedSelection select_shared(const Ragged& labels, const Ragged& candidates, int64_t num_items, int64_t uniform,
                              uint64_t seed, int32_t* ids, float* weights, int64_t* label_positions) {
    IdMap set(std::min(num_items, labels.total() + uniform));
    int64_t n = 0;
    const auto position_of = [&](int32_t id) {
        const int32_t at = set.insert(id, static_cast<int32_t>(n));
        if (at == n) ids[n++] = id;
        return at;
    };
    for (int64_t j = 0; j < labels.total(); ++j) label_positions[j] = position_of(labels.ids[j]);
    for (int64_t j = 0; j < candidates.total(); ++j) position_of(candidates.ids[j]);
    const int64_t certain = n, drawn = std::min(uniform, num_items - certain);
    draw(set, num_items, drawn, Stream(seed), ids + certain);
    weigh(weights, certain, certain + drawn, num_items);
    return {certain + drawn, certain, missed(labels, candidates)};
}

RowsSelection select_rows(const Ragged& labels, const Ragged& candidates, const RowRules& rules, int64_t* indptr,
                          int32_t* ids, float* weights) {
    constexpr int64_t grain = 16;
    std::vector<int64_t> counts(labels.rows);
    std::vector<RowsSelection> tallies((labels.rows + grain - 1) / grain);
    parallel_chunks(labels.rows, grain, [&](int64_t begin, int64_t end, int) {
        IdMap set;
        for (int64_t i = begin; i < end; ++i)
            counts[i] = select_row(labels, candidates, rules, i, set, ids + indptr[i], weights + indptr[i],
                                   tallies[begin / grain]);
    });
    pack_rows(indptr, counts.data(), labels.rows, ids, weights);
    return std::accumulate(tallies.begin(), tallies.end(), RowsSelection{},
                           [](const RowsSelection& a, const RowsSelection& b) {
                               return RowsSelection{a.filled + b.filled, a.rows_filled + b.rows_filled,
                                                    a.labels_missed + b.labels_missed, a.truncated + b.truncated};
                           });
}

void pack_rows(int64_t* indptr, const int64_t* counts, int64_t rows, int32_t* ids, float* values) {
    int64_t to = 0;
    for (int64_t i = 0; i < rows; ++i) {
        const int64_t from = indptr[i];
        if (from != to) {
            std::copy_n(ids + from, counts[i], ids + to);
            std::copy_n(values + from, counts[i], values + to);
        }
        indptr[i] = to;
        to += counts[i];
    }
    indptr[rows] = to;
}

}  // namespace hashfold
