#include "cell_search.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include "cells_table.hpp"
#include "parallel.hpp"
#include "quantized_table.hpp"
#include "selection.hpp"
#include "topk_table.hpp"

namespace hashfold {
namespace {

constexpr int64_t kFirstBlocks = 2;        // scanned before there is a threshold
constexpr int64_t kRunBlocks = 16;         // scanned before it is looked at again
constexpr int64_t kFew = 8;                // branches that are chosen one by one
constexpr int64_t kLeastLimit = 32;        // hits collected before the worst are dropped
constexpr int64_t kTogether = 512;         // queries that visit cells together, at most
constexpr float kDeviations = 5.0f;        // of rounding that an item is given the benefit of
constexpr int64_t kPrefetched = 32 << 10;  // bytes of the next cell
constexpr float kLowest = -std::numeric_limits<float>::infinity();

// The hits that may be among the k best of a stream.
class Pool {
  public:
    void start(int64_t k) {
        k_ = k;
        size_ = 0;
        limit_ = std::max<int64_t>(2 * k, kLeastLimit);
        threshold_ = kLowest;
    }

    float threshold() const { return threshold_; }

    void scan(CellQuery query, const CellRows& rows, int64_t cell) {
        const CellShape shape = rows.shape();
        const CellRun run = rows.run(cell);
        for (int64_t at = 0, step; at < run.count; at += step) {
            step = threshold_ == kLowest ? kFirstBlocks : kRunBlocks;
            const CellRun part = run.part(shape, at, step);
            const int64_t room = size_ + part.count * kCellBlock;
            if (static_cast<int64_t>(hits_.size()) < room) hits_.resize(2 * room);
            query.threshold = threshold_;
            size_ += cells_table().scan(query, shape, part, hits_.data() + size_);
            if (size_ >= limit_) shrink();
        }
    }

    // All that can be among the best, in no order.
    std::span<const CellHit> rest() {
        shrink();
        return {hits_.data(), static_cast<size_t>(size_)};
    }

    // The ids of the k best, best first.
    void sorted(std::vector<int32_t>& ids) {
        shrink();
        std::sort(hits_.begin(), hits_.begin() + size_, [](const CellHit& a, const CellHit& b) {
            return a.score != b.score ? a.score > b.score : a.id < b.id;
        });
        ids.resize(std::min(size_, k_));
        for (size_t j = 0; j < ids.size(); ++j) ids[j] = hits_[j].id;
    }

  private:
    // Drops those that k others beat, whatever rounding did.
    void shrink() {
        if (size_ > k_) {
            least_.resize(size_);
            for (int64_t j = 0; j < size_; ++j) {
                const float least = hits_[j].score - hits_[j].slack;
                least_[j] = least == least ? least : kLowest;
            }
            std::nth_element(least_.begin(), least_.begin() + (k_ - 1), least_.end(), std::greater<>());
            threshold_ = least_[k_ - 1];
            int64_t kept = 0;
            for (int64_t j = 0; j < size_; ++j)
                if (hits_[j].score + hits_[j].slack >= threshold_) hits_[kept++] = hits_[j];
            size_ = kept;
        }
        limit_ = std::max<int64_t>(2 * size_, kLeastLimit);
    }

    int64_t k_ = 1, size_ = 0, limit_ = kLeastLimit;
    float threshold_ = kLowest;
    std::vector<CellHit> hits_;
    std::vector<float> least_;
};

// One query in 8 bits.
class Coded {
  public:
    void make(const float* x, int64_t cols) {
        codes_.assign((cols + 3) / 4 * 4, 0);
        quantized_table().quantize_query(x, cols, codes_.data(), &scale_, &zero_);
    }

    CellQuery query(const float* weights) const { return {codes_.data(), scale_, zero_, 0.0f, weights, kLowest}; }
    CellQuery for_routing() const { return query(kRoute); }

    CellQuery for_items() const {
        CellQuery made = query(&bias_weight_);
        made.slack = slack_;
        return made;
    }

    void measure(const float* x, int64_t cols, bool with_bias) {
        bias_weight_ = with_bias ? 1.0f : 0.0f;
        double square = 0.0;
        for (int64_t k = 0; k < cols; ++k) square += double{x[k]} * x[k];
        const auto length = static_cast<float>(std::sqrt(square));
        // Rounding a number to steps of s is off by s / sqrt(12). Of an item with scale 1, whose largest code is
        // 127 and whose length is taken to be that of a row with half of it throughout:
        const float step = scale_ * 127.0f * 0.5f * std::sqrt(static_cast<float>(cols));
        slack_ = kDeviations * std::sqrt((step * step + length * length) / 12.0f);
    }

  private:
    static constexpr float kRoute[kRouteOffsets] = {1.0f, 0.0f, 0.0f};
    std::vector<uint8_t> codes_;
    float scale_ = 0.0f, slack_ = 0.0f, bias_weight_ = 0.0f;
    int32_t zero_ = 0;
};

struct Visit {
    int32_t cell;
    int32_t query;
};

// What a thread keeps from call to call.
struct Scratch {
    Pool route;
    std::vector<Coded> coded;
    std::vector<Pool> pools;
    std::vector<std::vector<int32_t>> cells;  // of each query, best first
    std::vector<int32_t> followed;            // branches
    std::vector<float> all, sorted;
    std::vector<Visit> visits;
    std::vector<int32_t> ids;
    std::vector<float> scores;
    std::vector<int64_t> order;

    void resize(int64_t queries) {
        if (static_cast<int64_t>(coded.size()) >= queries) return;
        coded.resize(queries);
        pools.resize(queries);
        cells.resize(queries);
    }
};

void prefetch_cell(const CellRows& rows, int64_t cell) {
    const CellRun run = rows.run(cell);
    const int64_t bytes = std::min(kPrefetched, run.count * rows.shape().block_bytes());
    for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(run.blocks + at, 0, 2);
}

// The `count` best of the scores; of equal ones those that come first. Best first where there are few.
void choose_few(std::span<const float> scores, int64_t count, std::vector<int32_t>& chosen) {
    float best[kFew];
    int64_t kept = 0;
    chosen.resize(count);
    for (size_t j = 0; j < scores.size(); ++j) {
        if (kept == count && !(scores[j] > best[kept - 1])) continue;
        int64_t at = kept < count ? kept++ : kept - 1;
        for (; at > 0 && scores[j] > best[at - 1]; --at) {
            best[at] = best[at - 1];
            chosen[at] = chosen[at - 1];
        }
        best[at] = scores[j];
        chosen[at] = static_cast<int32_t>(j);
    }
}

void choose_many(std::span<const float> scores, int64_t count, std::vector<float>& sorted,
                 std::vector<int32_t>& chosen) {
    sorted.assign(scores.begin(), scores.end());
    std::nth_element(sorted.begin(), sorted.begin() + (count - 1), sorted.end(), std::greater<>());
    const float least = sorted[count - 1];
    int64_t equal =
        count - std::count_if(scores.begin(), scores.end(), [&](float score) { return score > least; });
    chosen.clear();
    for (size_t j = 0; j < scores.size(); ++j)
        if (scores[j] > least || (scores[j] == least && equal-- > 0)) chosen.push_back(static_cast<int32_t>(j));
}

// The `count` best items of the only cell: they lie in the order of their ids, for none has moved.
void choose(const CellQuery& query, const CellRows& rows, int64_t count, Scratch& scratch) {
    const CellRun run = rows.run(0);
    scratch.all.resize(run.count * kCellBlock);
    cells_table().scores(query, rows.shape(), run, scratch.all.data());
    const std::span<float> scores(scratch.all.data(), rows.size(0));
    for (float& score : scores) score = score == score ? score : kLowest;
    count = std::min(count, rows.size(0));
    if (count <= kFew)
        choose_few(scores, count, scratch.followed);
    else
        choose_many(scores, count, scratch.sorted, scratch.followed);
}

// The cells that a query visits, best first: of the centroids in the best branches, the best.
void choose_cells(const CellTree& tree, const CellQueries& queries, const Coded& coded, Scratch& scratch,
                  std::vector<int32_t>& cells) {
    const CellQuery query = coded.for_routing();
    choose(query, tree.branches, queries.branches, scratch);
    scratch.route.start(queries.probes);
    for (int32_t branch : scratch.followed) scratch.route.scan(query, tree.centroids, branch);
    scratch.route.sorted(cells);
}

void visit(const CellRows& items, const Coded& coded, const std::vector<int32_t>& cells, Pool& pool) {
    for (size_t j = 0; j < cells.size(); ++j) {
        if (j + 1 < cells.size()) prefetch_cell(items, cells[j + 1]);
        pool.scan(coded.for_items(), items, cells[j]);
    }
}

// Queries [0, count) of the scratch cell by cell, so that a cell's rows are fetched once for all that visit it;
// each query's best cell comes first, for a threshold.
void visit_by_cell(const CellRows& items, int64_t count, Scratch& scratch) {
    scratch.visits.clear();
    for (int64_t q = 0; q < count; ++q) {
        const std::vector<int32_t>& cells = scratch.cells[q];
        if (cells.empty()) continue;
        scratch.pools[q].scan(scratch.coded[q].for_items(), items, cells[0]);
        for (size_t j = 1; j < cells.size(); ++j) scratch.visits.push_back({cells[j], static_cast<int32_t>(q)});
    }
    std::sort(scratch.visits.begin(), scratch.visits.end(), [](const Visit& a, const Visit& b) {
        return a.cell != b.cell ? a.cell < b.cell : a.query < b.query;
    });
    for (const Visit& v : scratch.visits)
        scratch.pools[v.query].scan(scratch.coded[v.query].for_items(), items, v.cell);
}

// Ranks what is left in the pool by the weights; the number written.
int64_t rank(const float* x, const Items& items, int64_t room, Scratch& scratch, Pool& pool, int32_t* ids,
             float* scores) {
    const std::span<const CellHit> hits = pool.rest();
    const int64_t count = static_cast<int64_t>(hits.size()), kept = std::min(room, count);
    scratch.ids.resize(count);
    scratch.scores.resize(count);
    scratch.order.resize(count);
    for (int64_t j = 0; j < count; ++j) {
        scratch.ids[j] = hits[j].id;
        scratch.order[j] = j;
        const char* row = reinterpret_cast<const char*>(items.vectors.row(hits[j].id));
        for (int64_t at = 0; at < static_cast<int64_t>(items.vectors.cols * sizeof(float)); at += 64)
            __builtin_prefetch(row + at);
    }
    topk_table().scores(x, items, scratch.ids.data(), 0, count, scratch.scores.data());
    for (float& score : scratch.scores) score = score == score ? score : kLowest;  // NaN has no place in an order
    const auto better = [&](int64_t a, int64_t b) {
        const float left = scratch.scores[a], right = scratch.scores[b];
        return left != right ? left > right : scratch.ids[a] < scratch.ids[b];
    };
    std::partial_sort(scratch.order.begin(), scratch.order.begin() + kept, scratch.order.end(), better);
    for (int64_t j = 0; j < kept; ++j) {
        ids[j] = scratch.ids[scratch.order[j]];
        scores[j] = scratch.scores[scratch.order[j]];
    }
    return kept;
}

}  // namespace

void search_cells(const CellTree& tree, const CellRows& items, const CellQueries& queries,
                  Matrix<const float> vectors, const float* bias, int64_t* indptr, int32_t* ids, float* scores,
                  int64_t* found) {
    const auto of_branches = tree.branches.lock_for_reading(), of_centroids = tree.centroids.lock_for_reading(),
               of_items = items.lock_for_reading();
    const int64_t rows = queries.x.rows;
    std::vector<int64_t> counts(rows);
    const bool by_cell = rows * queries.probes >= 4 * items.num_cells();
    const auto answer = [&](int64_t begin, int64_t end) {
        static thread_local Scratch scratch;
        scratch.resize(end - begin);
        for (int64_t i = begin; i < end; ++i) {
            const int64_t q = i - begin;
            scratch.coded[q].make(queries.x.row(i), queries.x.cols);
            scratch.coded[q].measure(queries.x.row(i), queries.x.cols, bias != nullptr);
            choose_cells(tree, queries, scratch.coded[q], scratch, scratch.cells[q]);
            found[i] = 0;
            for (int32_t cell : scratch.cells[q]) found[i] += items.size(cell);
            scratch.pools[q].start(std::max<int64_t>(1, std::min(queries.budget, found[i])));
            if (!by_cell) visit(items, scratch.coded[q], scratch.cells[q], scratch.pools[q]);
        }
        if (by_cell) visit_by_cell(items, end - begin, scratch);
        for (int64_t i = begin; i < end; ++i)
            counts[i] = rank(queries.x.row(i), {vectors, bias}, indptr[i + 1] - indptr[i], scratch,
                             scratch.pools[i - begin], ids + indptr[i], scores + indptr[i]);
    };
    const int64_t share = (rows + num_threads() - 1) / num_threads();
    if (rows == 1)
        answer(0, 1);
    else
        parallel_chunks(rows, by_cell ? std::min(share, kTogether) : 1,
                        [&](int64_t begin, int64_t end, int) { answer(begin, end); });
    pack_rows(indptr, counts.data(), rows, ids, scores);
}

void best_in_cells(const CellRows& store, const WeighedRows& rows, const int32_t* cells, int32_t* chosen) {
    const auto lock = store.lock_for_reading();
    parallel_chunks(rows.x.rows, 1024, [&](int64_t begin, int64_t end, int) {
        Coded coded;
        for (int64_t i = begin; i < end; ++i) {
            coded.make(rows.x.row(i), rows.x.cols);
            const CellQuery query = coded.query(rows.weights + i * store.num_offsets());
            chosen[i] = cells_table().best(query, store.shape(), store.run(cells[i])).id;
        }
    });
}

void best_in_tree(const CellTree& tree, const WeighedRows& rows, int64_t branches, int32_t* chosen) {
    const auto of_branches = tree.branches.lock_for_reading(), of_centroids = tree.centroids.lock_for_reading();
    const CellShape shape = tree.branches.shape();
    parallel_chunks(rows.x.rows, 1024, [&](int64_t begin, int64_t end, int) {
        Coded coded;
        Scratch scratch;
        for (int64_t i = begin; i < end; ++i) {
            coded.make(rows.x.row(i), rows.x.cols);
            const CellQuery query = coded.query(rows.weights + i * kRouteOffsets);
            choose(query, tree.branches, branches, scratch);
            CellHit best{-1, 0.0f, 0.0f};
            for (int32_t branch : scratch.followed) {
                const CellHit hit = cells_table().best(query, shape, tree.centroids.run(branch));
                if (hit.id >= 0 &&
                    (best.id < 0 || hit.score > best.score || (hit.score == best.score && hit.id < best.id)))
                    best = hit;
            }
            chosen[i] = best.id;
        }
    });
}

void mean_rows(Matrix<const float> x, const int32_t* members, Matrix<float> means) {
    std::vector<int64_t> starts(means.rows + 1), order(x.rows);
    for (int64_t i = 0; i < x.rows; ++i) ++starts[members[i] + 1];
    std::partial_sum(starts.begin(), starts.end(), starts.begin());
    std::vector<int64_t> next(starts.begin(), starts.end() - 1);
    for (int64_t i = 0; i < x.rows; ++i) order[next[members[i]]++] = i;
    parallel_chunks(means.rows, 16, [&](int64_t begin, int64_t end, int) {
        for (int64_t m = begin; m < end; ++m) {
            const int64_t count = starts[m + 1] - starts[m];
            if (count == 0) continue;
            float* mean = means.row(m);
            std::fill_n(mean, means.cols, 0.0f);
            for (int64_t j = starts[m]; j < starts[m + 1]; ++j) {
                const float* row = x.row(order[j]);
                for (int64_t k = 0; k < means.cols; ++k) mean[k] += row[k];
            }
            for (int64_t k = 0; k < means.cols; ++k) mean[k] /= static_cast<float>(count);
        }
    });
}

}  // namespace hashfold
