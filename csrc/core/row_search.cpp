#include "row_search.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "parallel.hpp"
#include "postings_table.hpp"

namespace hashfold {
namespace {

constexpr int64_t kSwept = 2048;  // sums swept at a time, between which the limit rises
constexpr int64_t kAhead = 8;     // rows prefetched ahead

struct Scored {
    float score;
    int32_t id;
};

bool better(const Scored& a, const Scored& b) {
    return a.score > b.score || (a.score == b.score && a.id < b.id);
}

// The `wanted` best of what is offered in ascending order of ids.
class Best {
  public:
    void start(int64_t wanted) {
        wanted_ = wanted;
        limit_ = 0;
        kept_.clear();
    }

    float limit() const { return limit_; }  // what is not above it is not among the best

    void offer(float score, int32_t id) {
        kept_.push_back({score, id});
        if (static_cast<int64_t>(kept_.size()) >= 2 * wanted_ + 64) cut();
    }

    std::vector<Scored>& finish() {
        if (static_cast<int64_t>(kept_.size()) > wanted_) cut();
        return kept_;
    }

  private:
    void cut() {
        std::nth_element(kept_.begin(), kept_.begin() + wanted_ - 1, kept_.end(), better);
        kept_.resize(wanted_);
        limit_ = kept_.back().score;
    }

    int64_t wanted_ = 0;
    float limit_ = 0;
    std::vector<Scored> kept_;
};

struct Term {
    int32_t key;
    float weight;
};

}  // namespace

struct RowSearch::Scratch {
    Scratch(int64_t num_cols, int64_t block_rows) : dense(num_cols), sums(block_rows), over(kSwept) {}

    std::vector<float> dense;  // all 0 between queries, as are sums
    std::vector<float> sums;
    std::vector<int32_t> over;
    std::vector<Term> terms;
    Best best;
};

// A worker's scratch, taken from those that earlier queries left and left for later ones.
class RowSearch::Borrowed {
  public:
    explicit Borrowed(const RowSearch& of) : of_(of) {
        const std::lock_guard hold(of_.scratches_mutex_);
        if (of_.scratches_.empty()) {
            scratch_ = std::make_unique<Scratch>(of_.num_cols_, of_.block_rows_);
        } else {
            scratch_ = std::move(of_.scratches_.back());
            of_.scratches_.pop_back();
        }
    }
    ~Borrowed() {
        const std::lock_guard hold(of_.scratches_mutex_);
        of_.scratches_.push_back(std::move(scratch_));
    }
    Scratch& operator*() { return *scratch_; }

  private:
    const RowSearch& of_;
    std::unique_ptr<Scratch> scratch_;
};

RowSearch::RowSearch(int64_t num_cols, int64_t num_keys, int64_t block_rows)
    : num_cols_(num_cols),
      num_keys_(num_keys),
      block_rows_(block_rows),
      store_(num_cols),
      postings_(empty_postings()) {}

RowSearch::~RowSearch() = default;

Postings RowSearch::empty_postings() const {
    return Postings(num_keys(), block_rows_, num_keys_ == 0);
}

int64_t RowSearch::rows() const {
    const std::shared_lock hold(mutex_);
    return store_.rows();
}

int64_t RowSearch::store_bytes() const {
    const std::shared_lock hold(mutex_);
    return store_.bytes();
}

int64_t RowSearch::postings_bytes() const {
    const std::shared_lock hold(mutex_);
    return postings_.bytes();
}

void RowSearch::append(const Csr<float>& rows) {
    const std::unique_lock hold(mutex_);
    store_.append(rows);
}

void RowSearch::list_columns() {
    const std::unique_lock hold(mutex_);
    while (postings_.rows() < store_.rows()) {  // a block at a time: what is read takes twice its room
        const int64_t first = postings_.rows(), last = std::min(store_.rows(), first + block_rows_);
        const ByteRows rows = store_.read(first, last);
        postings_.append(rows.starts.data(), rows.columns.data(), rows.bytes.data(), rows.rows());
    }
}

void RowSearch::list_keys(Matrix<const int32_t> keys) {
    const std::unique_lock hold(mutex_);
    std::vector<int64_t> starts(keys.rows + 1);
    for (int64_t i = 0; i <= keys.rows; ++i) starts[i] = i * keys.cols;
    postings_.append(starts.data(), keys.data, nullptr, keys.rows);
}

ByteRows RowSearch::read(int64_t first, int64_t last) const {
    const std::shared_lock hold(mutex_);
    return store_.read(first, last);
}

std::vector<float> RowSearch::scales(int64_t first, int64_t last) const {
    const std::shared_lock hold(mutex_);
    return {store_.scales() + first, store_.scales() + last};
}

void RowSearch::save(std::vector<uint8_t>& columns, std::vector<uint8_t>& bytes) const {
    const std::shared_lock hold(mutex_);
    store_.save(columns, bytes);
}

bool RowSearch::load(const uint8_t* columns, int64_t columns_size, const uint8_t* bytes, int64_t count,
                     const float* scales, int64_t rows) {
    const std::unique_lock hold(mutex_);
    if (!store_.load(columns, columns_size, bytes, count, scales, rows)) return false;
    postings_ = empty_postings();
    return true;
}

void RowSearch::query(const RowQuery& query, const RowAnswer& out) const {
    const std::shared_lock hold(mutex_);
    parallel_chunks(query.x.rows, 16, [&](int64_t begin, int64_t end, int) {
        Borrowed scratch(*this);
        for (int64_t i = begin; i < end; ++i) answer(query, i, *scratch, out);
    });
}

void RowSearch::answer(const RowQuery& query, int64_t i, Scratch& scratch, const RowAnswer& out) const {
    choose_keys(query, i, scratch);
    out.found[i] = 0;
    scratch.best.start(query.pool > 0 ? query.pool : query.k);
    collect(query, i, scratch, out.found[i]);
    if (query.pool > 0) rescore(query, i, scratch);
    std::vector<Scored>& best = scratch.best.finish();
    const int64_t count = std::min<int64_t>(query.k, static_cast<int64_t>(best.size()));
    std::partial_sort(best.begin(), best.begin() + count, best.end(), better);
    for (int64_t j = 0; j < count; ++j) {
        out.ids[i * query.k + j] = best[j].id;
        out.scores[i * query.k + j] = best[j].score;
    }
    out.counts[i] = count;
}

// The heaviest keys whose lists together are not longer than the budget, ascending: sums are then the same
// bits as RowStore::dot.
void RowSearch::choose_keys(const RowQuery& query, int64_t i, Scratch& scratch) const {
    std::vector<Term>& terms = scratch.terms;
    terms.clear();
    for (int64_t j = query.probes.indptr[i]; j < query.probes.indptr[i + 1]; ++j)
        if (postings_.length(query.probes.indices[j]) > 0)
            terms.push_back({query.probes.indices[j], query.probes.values[j]});
    if (query.budget == 0) return;
    const auto worth = [&](const Term& t) { return t.weight; };
    std::sort(terms.begin(), terms.end(), [&](const Term& a, const Term& b) {
        return worth(a) > worth(b) || (worth(a) == worth(b) && a.key < b.key);
    });
    int64_t left = query.budget;
    std::erase_if(terms, [&](const Term& t) {
        const bool fits = postings_.length(t.key) <= left;
        if (fits) left -= postings_.length(t.key);
        return !fits;
    });
    std::sort(terms.begin(), terms.end(), [](const Term& a, const Term& b) { return a.key < b.key; });
}

void RowSearch::collect(const RowQuery& query, int64_t i, Scratch& scratch, int64_t& found) const {
    const int32_t excluded = query.exclude ? query.exclude[i] : -1;
    const bool weighted = postings_.weighted();
    for (const Postings::Block& block : postings_.blocks()) {
        for (const Term& term : scratch.terms) postings_.add(block, term.key, term.weight, scratch.sums.data());
        for (int64_t at = 0; at < block.rows; at += kSwept) {
            const float* sums = scratch.sums.data() + at;
            const float* scales = weighted ? store_.scales() + block.first + at : nullptr;
            const int64_t count = postings_table().sweep({sums, scales, std::min(kSwept, block.rows - at)},
                                                         scratch.best.limit(), scratch.over.data(), &found);
            for (int64_t j = 0; j < count; ++j) {
                const int32_t row = scratch.over[j], id = static_cast<int32_t>(block.first + at + row);
                const float score = scales ? sums[row] * scales[row] : sums[row];
                if (score > scratch.best.limit() && id != excluded) scratch.best.offer(score, id);
            }
        }
        std::fill_n(scratch.sums.begin(), block.rows, 0.0f);
    }
}

void RowSearch::rescore(const RowQuery& query, int64_t i, Scratch& scratch) const {
    const int64_t begin = query.x.indptr[i], end = query.x.indptr[i + 1];
    for (int64_t j = begin; j < end; ++j) scratch.dense[query.x.indices[j]] = query.x.values[j];
    std::vector<Scored>& pool = scratch.best.finish();
    const int64_t size = static_cast<int64_t>(pool.size());
    for (int64_t j = 0; j < size; ++j) {
        if (j + kAhead < size) store_.prefetch(pool[j + kAhead].id);
        pool[j].score = store_.dot(pool[j].id, scratch.dense.data());
    }
    std::erase_if(pool, [](const Scored& s) { return !(s.score > 0); });
    for (int64_t j = begin; j < end; ++j) scratch.dense[query.x.indices[j]] = 0;
}

}  // namespace hashfold
