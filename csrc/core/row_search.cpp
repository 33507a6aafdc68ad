#include "row_search.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "best_rows.hpp"
#include "parallel.hpp"

namespace hashfold {
namespace {

constexpr float kRounding = 0x1p-22f;  // of a sum's terms together, twice over
constexpr int64_t kAhead = 8;          // rows prefetched ahead

// What it says of two rows that they share a key: the logarithm of how surprising it is.
float rarity(int64_t having, int64_t rows) {
    return std::log2(1 + static_cast<float>(rows) / static_cast<float>(having));
}

}  // namespace

struct RowSearch::Scratch {
    explicit Scratch(int64_t num_cols) : dense(num_cols) {}

    std::vector<float> dense;  // all 0 between queries
    std::vector<float> sums;
    std::vector<WeightedBytes> columns;
    std::vector<float> strips, lanes, ranked;  // the best score of each strip, and of its lanes
    std::vector<Term> terms;
    Best best;
};

// A worker's scratch, taken from those that earlier queries left and left for later ones.
class RowSearch::Borrowed {
  public:
    explicit Borrowed(const RowSearch& of) : of_(of) {
        const std::lock_guard hold(of_.scratches_mutex_);
        if (of_.scratches_.empty()) {
            scratch_ = std::make_unique<Scratch>(of_.num_cols_);
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
    const bool all = choose_keys(query, i, scratch);
    const bool approximate = query.pool > 0 && !(all && postings_.weighted());
    out.found[i] = 0;
    if (approximate)
        scratch.best.start(query.pool, 0);
    else  // all that the rounding of sums could have put in the wrong order
        scratch.best.start(query.k, kRounding * static_cast<float>(scratch.terms.size() + 2));
    collect(query, i, scratch, out.found[i]);
    rescore(query, i, scratch);
    std::vector<Scored>& best = scratch.best.finish();
    const int64_t count = std::min<int64_t>(query.k, static_cast<int64_t>(best.size()));
    if (count < static_cast<int64_t>(best.size()))
        std::nth_element(best.begin(), best.begin() + count, best.end(), better);
    std::sort(best.begin(), best.begin() + count, better);
    for (int64_t j = 0; j < count; ++j) {
        out.ids[i * query.k + j] = best[j].id;
        out.scores[i * query.k + j] = best[j].score;
    }
    out.counts[i] = count;
}

// The heaviest keys that together do not cost more than the budget; whether these are all.
bool RowSearch::choose_keys(const RowQuery& query, int64_t i, Scratch& scratch) const {
    std::vector<Term>& terms = scratch.terms;
    terms.clear();
    for (int64_t j = query.probes.indptr[i]; j < query.probes.indptr[i + 1]; ++j)
        if (postings_.length(query.probes.indices[j]) > 0)
            terms.push_back({query.probes.indices[j], query.probes.values[j]});
    if (!postings_.weighted())
        for (Term& term : terms) term.weight *= rarity(postings_.length(term.key), postings_.rows());
    const auto plus = [&](int64_t sum, const Term& term) { return sum + postings_.cost(term.key); };
    if (query.budget == 0 || std::accumulate(terms.begin(), terms.end(), int64_t{0}, plus) <= query.budget)
        return true;
    std::sort(terms.begin(), terms.end(), [](const Term& a, const Term& b) {
        return a.weight > b.weight || (a.weight == b.weight && a.key < b.key);
    });
    int64_t left = query.budget;
    const auto dropped = std::erase_if(terms, [&](const Term& t) {
        const int64_t cost = postings_.cost(t.key);
        if (cost > left) return true;
        left -= cost;
        return false;
    });
    return dropped == 0;
}

// First the sums of all rows and the best of each strip, which say how good a row must be; then the few strips
// that have such rows.
void RowSearch::collect(const RowQuery& query, int64_t i, Scratch& scratch, int64_t& found) const {
    scratch.sums.resize(postings_.places());
    const int64_t strips = postings_.places() / kStripRows;
    scratch.strips.resize(strips);
    const bool fine = scratch.best.wants_lanes(strips);
    if (fine) scratch.lanes.resize(strips * kStripLanes);
    const auto sums_of = [&](int64_t block) {
        const float* scales = postings_.weighted() ? store_.scales() + postings_.first_row(block) : nullptr;
        return Sums{scratch.sums.data() + postings_.first_place(block), scales, postings_.block_size(block)};
    };
    for (int64_t block = 0; block < postings_.blocks(); ++block) {
        const int64_t first = postings_.first_place(block), strip = first / kStripRows;
        postings_.add_up(block, scratch.terms, scratch.columns, scratch.sums.data() + first);
        float* lanes = fine ? scratch.lanes.data() + strip * kStripLanes : nullptr;
        postings_table().best_of_strips(sums_of(block), scratch.strips.data() + strip, lanes, &found);
    }
    scratch.best.expect(fine ? scratch.lanes : scratch.strips, scratch.ranked);
    for (int64_t block = 0; block < postings_.blocks(); ++block)
        offer_strips(sums_of(block), postings_.first_row(block),
                     scratch.strips.data() + postings_.first_place(block) / kStripRows,
                     query.exclude ? query.exclude[i] : -1, scratch.best);
}

void RowSearch::rescore(const RowQuery& query, int64_t i, Scratch& scratch) const {
    const int64_t begin = query.x.indptr[i], end = query.x.indptr[i + 1];
    for (int64_t j = begin; j < end; ++j) scratch.dense[query.x.indices[j]] = query.x.values[j];
    std::vector<Scored>& pool = scratch.best.finish();
    const int64_t size = static_cast<int64_t>(pool.size());
    for (int64_t j = 0; j < size; ++j) {
        if (j + 2 * kAhead < size) store_.prefetch_start(pool[j + 2 * kAhead].id);
        if (j + kAhead < size) store_.prefetch(pool[j + kAhead].id);
        pool[j].score = store_.dot(pool[j].id, scratch.dense.data());
    }
    std::erase_if(pool, [](const Scored& s) { return !(s.score > 0); });
    for (int64_t j = begin; j < end; ++j) scratch.dense[query.x.indices[j]] = 0;
}

}  // namespace hashfold
