#include "topk.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "parallel.hpp"
#include "selection.hpp"
#include "topk_queries.hpp"

namespace hashfold {
namespace {

constexpr int64_t kItemBlock = 96;    // items scored before thresholds are looked at again; 48 KiB at 128 columns
constexpr int64_t kQueryBlock = 128;  // queries that share a pass over the items
constexpr float kNoThreshold = std::numeric_limits<float>::quiet_NaN();

// An item and its score in one number that is the larger, the better: ranking then takes one comparison each, and
// of equal scores the smaller id is the better.
class Entry {
  public:
    Entry() = default;
    Entry(float score, int32_t id)
        : key_(uint64_t{ordered(std::bit_cast<uint32_t>(score + 0.0f))} << 32 |
               (kIds - static_cast<uint32_t>(id))) {}

    float score() const {
        const auto high = static_cast<uint32_t>(key_ >> 32);
        return std::bit_cast<float>(high & kSign ? high ^ kSign : ~high);
    }
    int32_t id() const { return static_cast<int32_t>(kIds - static_cast<uint32_t>(key_)); }
    bool operator<(const Entry& other) const { return key_ > other.key_; }  // the better first

  private:
    static constexpr uint32_t kSign = 1u << 31, kIds = 0xFFFFFFFF;

    // Bits of floats as numbers in the floats' order; -0 was made 0 before.
    static uint32_t ordered(uint32_t bits) { return bits & kSign ? ~bits : bits | kSign; }

    uint64_t key_ = 0;
};

// The k best of a stream: collects 2k, then drops the worse half.
class Best {
  public:
    explicit Best(int64_t k) : k_(k) {}

    float threshold() const { return threshold_; }  // what cannot be among the best lies below it
    float limit() const { return limit_; }          // the float just below: an equal score may win by a smaller id

    void push(const Entry& entry) {
        if (entries_.empty()) entries_.reserve(std::min<int64_t>(2 * k_, 64));
        entries_.push_back(entry);
        if (static_cast<int64_t>(entries_.size()) >= 2 * std::max<int64_t>(k_, 16)) shrink();
    }

    std::vector<Entry>& sorted() {
        shrink();
        std::sort(entries_.begin(), entries_.end());
        return entries_;
    }

  private:
    void shrink() {
        if (static_cast<int64_t>(entries_.size()) <= k_) return;
        std::nth_element(entries_.begin(), entries_.begin() + (k_ - 1), entries_.end());
        entries_.resize(k_);
        threshold_ = entries_[k_ - 1].score();
        limit_ = std::nextafter(threshold_, -std::numeric_limits<float>::infinity());
    }

    int64_t k_;
    std::vector<Entry> entries_;
    float threshold_ = kNoThreshold;
    float limit_ = kNoThreshold;
};

int64_t write(const std::vector<Entry>& entries, int64_t most, int32_t* ids, float* scores) {
    const int64_t count = std::min<int64_t>(most, entries.size());
    for (int64_t j = 0; j < count; ++j) {
        ids[j] = entries[j].id();
        scores[j] = entries[j].score();
    }
    return count;
}

// The tile kernel pads queries to a vector: not worth it for fewer than an eighth of one.
bool few(int64_t queries) {
    return 8 * queries <= 2 * topk_table().width;
}

// Offers a run of items to the queries of a panel; best[q] belongs to query rows[q].
template <class Panel, class ItemsOf>
void offer(Panel& panel, const ItemsOf& items, const ItemRun& run, const int32_t* rows, int64_t count,
           std::vector<Best>& best, std::vector<Hit>& hits) {
    hits.resize(kItemBlock * panel.thresholds.size());
    for (int64_t at = 0; at < run.count; at += kItemBlock) {
        for (int64_t q = 0; q < count; ++q) panel.thresholds[q] = best[rows[q]].limit();
        const int64_t n = panel.tile(items, run.part(at, kItemBlock), hits.data());
        for (int64_t h = 0; h < n; ++h) best[rows[hits[h].query]].push({hits[h].score, hits[h].item});
    }
}

template <class Queries, class ItemsOf>
void offer_one(const Queries& queries, int64_t query, const ItemsOf& items, const ItemRun& run, Best& best,
               std::vector<float>& scores) {
    scores.resize(kItemBlock);
    for (int64_t at = 0; at < run.count; at += kItemBlock) {
        const ItemRun part = run.part(at, kItemBlock);
        queries.scores(query, items, part, scores.data());
        for (int64_t j = 0; j < part.count; ++j)
            if (!(scores[j] < best.threshold()) && scores[j] == scores[j])
                best.push({scores[j], static_cast<int32_t>(part.ids ? part.ids[j] : part.first + j)});
    }
}

// The best of one span of items for queries [begin, end).
template <class Queries, class ItemsOf>
std::vector<Best> scan(const Queries& queries, const ItemsOf& items, int64_t k, int64_t begin, int64_t end,
                       const ItemRun& span) {
    const int64_t count = end - begin;
    std::vector<Best> best(count, Best(k));
    if (few(queries.rows())) {
        std::vector<float> scores;
        for (int64_t q = 0; q < count; ++q) offer_one(queries, begin + q, items, span, best[q], scores);
        return best;
    }
    const int64_t lanes = 2 * topk_table().width;
    std::vector<int32_t> rows(count);
    for (int64_t q = 0; q < count; ++q) rows[q] = static_cast<int32_t>(q);
    std::vector<typename Queries::Panel> panels((count + lanes - 1) / lanes);
    for (size_t p = 0; p < panels.size(); ++p)
        panels[p].pack(queries, begin, &rows[p * lanes], std::min<int64_t>(lanes, count - p * lanes));
    std::vector<Hit> hits;
    for (int64_t at = 0; at < span.count; at += kItemBlock)  // the block stays in cache for all panels
        for (size_t p = 0; p < panels.size(); ++p)
            offer(panels[p], items, span.part(at, kItemBlock), &rows[p * lanes],
                  std::min<int64_t>(lanes, count - p * lanes), best, hits);
    return best;
}

template <class Queries, class ItemsOf>
void top_k_of(const Queries& queries, const ItemsOf& items, int64_t k, int32_t* ids, float* scores,
              int64_t* counts) {
    const int64_t rows = queries.rows(), num_items = count_of(items);
    if (rows == 0) return;
    const int64_t blocks = (rows + kQueryBlock - 1) / kQueryBlock;
    const int64_t wanted = blocks >= num_threads() ? 1 : (num_threads() + blocks - 1) / blocks;
    const int64_t span = std::max<int64_t>(kItemBlock, (num_items + wanted - 1) / wanted);
    const int64_t spans = (num_items + span - 1) / span;
    std::vector<std::vector<Best>> parts(blocks * spans);
    parallel_chunks(blocks * spans, 1, [&](int64_t task, int64_t, int) {
        const int64_t block = task / spans, first = task % spans * span;
        const int64_t begin = block * kQueryBlock, end = std::min(rows, begin + kQueryBlock);
        parts[task] = scan(queries, items, k, begin, end, {nullptr, first, std::min(span, num_items - first)});
    });
    parallel_chunks(rows, 16, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
            std::vector<Best>* of_block = &parts[i / kQueryBlock * spans];
            Best& all = of_block[0][i % kQueryBlock];
            for (int64_t s = 1; s < spans; ++s)
                for (const Entry& entry : of_block[s][i % kQueryBlock].sorted()) all.push(entry);
            counts[i] = write(all.sorted(), k, ids + i * k, scores + i * k);
        }
    });
}

template <class Queries, class ItemsOf>
void score_rows_of(const Queries& queries, const ItemsOf& items, const int64_t* indptr, const int32_t* ids,
                   float* scores) {
    parallel_chunks(queries.rows(), 4, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i)
            queries.scores(i, items, {ids + indptr[i], 0, indptr[i + 1] - indptr[i]}, scores + indptr[i]);
    });
}

}  // namespace

void top_k(Matrix<const float> x, const Items& items, int64_t k, int32_t* ids, float* scores, int64_t* counts) {
    top_k_of(FloatQueries(x), items, k, ids, scores, counts);
}

void top_k(Matrix<const float> x, const QuantizedItems& items, int64_t k, int32_t* ids, float* scores,
           int64_t* counts) {
    top_k_of(QuantizedQueries(x), items, k, ids, scores, counts);
}

void score_rows(Matrix<const float> x, const Items& items, const int64_t* indptr, const int32_t* ids,
                float* scores) {
    score_rows_of(FloatQueries(x), items, indptr, ids, scores);
}

void score_rows(Matrix<const float> x, const QuantizedItems& items, const int64_t* indptr, const int32_t* ids,
                float* scores) {
    score_rows_of(QuantizedQueries(x), items, indptr, ids, scores);
}

void rank_rows(int64_t rows, int64_t budget, int64_t* indptr, int32_t* ids, float* scores) {
    std::vector<int64_t> counts(rows);
    parallel_chunks(rows, 16, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
            Best best(budget);
            for (int64_t j = indptr[i]; j < indptr[i + 1]; ++j) best.push({scores[j], ids[j]});
            counts[i] = write(best.sorted(), budget, ids + indptr[i], scores + indptr[i]);
        }
    });
    pack_rows(indptr, counts.data(), rows, ids, scores);
}

namespace {

struct Visit {
    int32_t list;
    int32_t query;
};

// Queries [begin, end) list by list, so that a list's rows are fetched once for all that visit it.
template <class Queries, class ItemsOf>
void probe_by_list(const HashTables& lists, Matrix<const int32_t> probes, const Queries& queries,
                   const ItemsOf& items, int64_t begin, int64_t end, std::vector<Best>& best) {
    std::vector<Visit> visits;
    for (int64_t i = begin; i < end; ++i)
        for (int64_t p = 0; p < probes.cols; ++p)
            visits.push_back({probes.row(i)[p], static_cast<int32_t>(i - begin)});
    std::stable_sort(visits.begin(), visits.end(), [](const Visit& a, const Visit& b) { return a.list < b.list; });
    const size_t lanes = 2 * topk_table().width;
    typename Queries::Panel panel;
    std::vector<Hit> hits;
    std::vector<int32_t> rows;
    for (size_t v = 0; v < visits.size();) {
        const int32_t list = visits[v].list;
        rows.clear();
        for (; v < visits.size() && visits[v].list == list && rows.size() < lanes; ++v)
            rows.push_back(visits[v].query);
        const BucketView bucket = lists.bucket(0, list);
        if (bucket.size == 0) continue;
        panel.pack(queries, begin, rows.data(), static_cast<int64_t>(rows.size()));
        offer(panel, items, {bucket.items, 0, bucket.size}, rows.data(), static_cast<int64_t>(rows.size()), best,
              hits);
    }
}

template <class Queries, class ItemsOf>
void probe_lists_of(const HashTables& lists, Matrix<const int32_t> probes, const Queries& queries,
                    const ItemsOf& items, int64_t budget, int64_t* indptr, int32_t* ids, float* scores,
                    int64_t* found) {
    const auto lock = lists.lock_for_reading();
    // A panel pays when lists are shared by several queries.
    const bool by_list = !few(queries.rows()) && queries.rows() * probes.cols >= 2 * lists.rules().num_buckets;
    std::vector<int64_t> counts(queries.rows());
    const int64_t grain = by_list ? 64 : 1;
    parallel_spans(queries.rows(), grain, [&](int64_t begin, int64_t end, int) {
        std::vector<Best> best(end - begin, Best(budget));
        std::vector<float> scratch;
        if (by_list) probe_by_list(lists, probes, queries, items, begin, end, best);
        for (int64_t i = begin; i < end; ++i) {
            found[i] = 0;
            for (int64_t p = 0; p < probes.cols; ++p) {
                const BucketView list = lists.bucket(0, probes.row(i)[p]);
                found[i] += list.size;
                if (!by_list) offer_one(queries, i, items, {list.items, 0, list.size}, best[i - begin], scratch);
            }
            counts[i] =
                write(best[i - begin].sorted(), indptr[i + 1] - indptr[i], ids + indptr[i], scores + indptr[i]);
        }
    });
    pack_rows(indptr, counts.data(), queries.rows(), ids, scores);
}

}  // namespace

void probe_lists(const HashTables& lists, Matrix<const int32_t> probes, Matrix<const float> x, const Items& items,
                 int64_t budget, int64_t* indptr, int32_t* ids, float* scores, int64_t* found) {
    probe_lists_of(lists, probes, FloatQueries(x), items, budget, indptr, ids, scores, found);
}

void probe_lists(const HashTables& lists, Matrix<const int32_t> probes, Matrix<const float> x,
                 const QuantizedItems& items, int64_t budget, int64_t* indptr, int32_t* ids, float* scores,
                 int64_t* found) {
    probe_lists_of(lists, probes, QuantizedQueries(x), items, budget, indptr, ids, scores, found);
}

void list_probes(const HashTables& lists, Matrix<const int32_t> probes, Matrix<const float> list_scores,
                 int64_t budget, int64_t* indptr, int32_t* ids, float* scores, int64_t* found) {
    const auto lock = lists.lock_for_reading();
    std::vector<int64_t> counts(probes.rows);
    parallel_chunks(probes.rows, 8, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
            const int64_t room = std::min(budget, indptr[i + 1] - indptr[i]);
            found[i] = 0;
            for (int64_t p = 0; p < probes.cols; ++p) {
                const BucketView list = lists.bucket(0, probes.row(i)[p]);
                const int64_t taken = std::min(list.size, room - counts[i]);
                std::copy_n(list.items, taken, ids + indptr[i] + counts[i]);
                std::fill_n(scores + indptr[i] + counts[i], taken, list_scores.row(i)[p]);
                counts[i] += taken;
                found[i] += list.size;
            }
        }
    });
    pack_rows(indptr, counts.data(), probes.rows, ids, scores);
}

}  // namespace hashfold
