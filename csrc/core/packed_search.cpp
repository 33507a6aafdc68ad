#include "packed_search.hpp"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <utility>

#include "best_rows.hpp"
#include "parallel.hpp"

namespace hashfold {

struct PackedSearch::Scratch {
    std::vector<float> sums;
    std::vector<float> strips, ranked;  // the best score of each strip
    float worth[1 << PackedLists::kMostBits];
    Best best;
};

int64_t PackedSearch::rows() const {
    const std::shared_lock hold(mutex_);
    return static_cast<int64_t>(scales_.size());
}

int64_t PackedSearch::bytes() const {
    const std::shared_lock hold(mutex_);
    auto total = static_cast<int64_t>(scales_.size() * sizeof(float));
    for (const PackedLists& lists : blocks_) total += lists.bytes();
    return total;
}

int64_t PackedSearch::table_bytes() const {
    const std::shared_lock hold(mutex_);
    return static_cast<int64_t>(blocks_.size() * sizeof(uint32_t)) * num_cols_;
}

void PackedSearch::append(const Csr<uint8_t>& rows, const float* scales) {
    const std::unique_lock hold(mutex_);
    for (int64_t at = 0; at < rows.rows;) {
        if (blocks_.empty() || blocks_.back().rows() == block_rows_) blocks_.emplace_back(num_cols_, bits_);
        const int64_t take = std::min(rows.rows - at, block_rows_ - blocks_.back().rows());
        blocks_.back().append({rows.indptr + at, rows.indices, rows.values, take});
        scales_.insert(scales_.end(), scales + at, scales + at + take);
        at += take;
    }
    scales_.shrink_to_fit();
}

void PackedSearch::query(const PackedQuery& query, const RowAnswer& out) const {
    const std::shared_lock hold(mutex_);
    parallel_chunks(query.x.rows, 16, [&](int64_t begin, int64_t end, int) {
        static thread_local Scratch scratch;
        for (int64_t i = begin; i < end; ++i) answer(query, i, scratch, out);
    });
}

void PackedSearch::answer(const PackedQuery& query, int64_t i, Scratch& scratch, const RowAnswer& out) const {
    out.found[i] = sweep(query, i, scratch);
    Best& best = scratch.best;
    best.start(query.k, 0);
    best.expect(scratch.strips, scratch.ranked);
    for (size_t block = 0; block < blocks_.size(); ++block) {
        const int64_t first = first_row(block);
        offer_strips({scratch.sums.data() + first, scales_.data() + first, blocks_[block].rows()}, first,
                     scratch.strips.data() + first / kStripRows, query.exclude ? query.exclude[i] : -1, best);
    }
    std::vector<Scored>& found = best.finish();
    std::sort(found.begin(), found.end(), better);
    for (size_t j = 0; j < found.size(); ++j) {
        out.ids[i * query.k + static_cast<int64_t>(j)] = found[j].id;
        out.scores[i * query.k + static_cast<int64_t>(j)] = found[j].score;
    }
    out.counts[i] = static_cast<int64_t>(found.size());
}

// The sums of all rows and the best of each strip; how many sums are above 0.
int64_t PackedSearch::sweep(const PackedQuery& query, int64_t i, Scratch& scratch) const {
    const auto count = static_cast<int64_t>(scales_.size());
    int64_t found = 0;
    scratch.sums.assign(count, 0.0f);
    scratch.strips.resize((count + kStripRows - 1) / kStripRows);
    for (size_t block = 0; block < blocks_.size(); ++block) {
        const int64_t first = first_row(block);
        float* sums = scratch.sums.data() + first;
        for (int64_t j = query.x.indptr[i]; j < query.x.indptr[i + 1]; ++j) {
            for (int code = 0; code < 1 << bits_; ++code)
                scratch.worth[code] = query.x.values[j] * query.levels[code];
            blocks_[block].add_up(query.x.indices[j], scratch.worth, sums);
        }
        postings_table().best_of_strips({sums, scales_.data() + first, blocks_[block].rows()},
                                        scratch.strips.data() + first / kStripRows, nullptr, &found);
    }
    return found;
}

void PackedSearch::score_columns(const Csr<float>& x, const float* levels, const ActiveRows& pairs,
                                 float* out) const {
    const std::shared_lock hold(mutex_);
    parallel_chunks(x.rows, 16, [&](int64_t begin, int64_t end, int) {
        static thread_local std::vector<float> dense;  // zero between calls
        dense.resize(std::max(dense.size(), scales_.size()));
        for (int64_t i = begin; i < end; ++i) {
            const int64_t first = x.indptr[i], last = x.indptr[i + 1];
            for (int64_t j = first; j < last; ++j) dense[x.indices[j]] = x.values[j];
            for (int64_t p = pairs.indptr[i]; p < pairs.indptr[i + 1]; ++p) {
                float sum = 0;
                each_of(pairs.ids[p], [&](int64_t row, uint32_t code) { sum += dense[row] * levels[code]; });
                out[p] = sum;
            }
            for (int64_t j = first; j < last; ++j) dense[x.indices[j]] = 0;
        }
    });
}

PackedRows PackedSearch::read(int64_t first, int64_t last) const {
    const std::shared_lock hold(mutex_);
    PackedRows out;
    std::vector<int64_t>& starts = out.starts;
    starts.assign(last - first + 1, 0);
    const auto each = [&](const auto& body) {  // body(row, column, code), columns ascending
        for (size_t block = 0; block < blocks_.size(); ++block) {
            const int64_t begin = first_row(block);
            if (begin >= last || begin + blocks_[block].rows() <= first) continue;
            for (int32_t column = 0; column < num_cols_; ++column)
                blocks_[block].each(column, [&](int64_t row, uint32_t code) {
                    if (begin + row >= first && begin + row < last) body(begin + row - first, column, code);
                });
        }
    };
    each([&](int64_t row, int32_t, uint32_t) { ++starts[row + 1]; });
    for (int64_t row = 0; row < last - first; ++row) starts[row + 1] += starts[row];
    out.columns.resize(starts.back());
    out.codes.resize(starts.back());
    std::vector<int64_t> next = starts;
    each([&](int64_t row, int32_t column, uint32_t code) {
        const int64_t at = next[row]++;
        out.columns[at] = column;
        out.codes[at] = static_cast<uint8_t>(code);
    });
    return out;
}

std::vector<float> PackedSearch::scales(int64_t first, int64_t last) const {
    const std::shared_lock hold(mutex_);
    return {scales_.begin() + first, scales_.begin() + last};
}

std::vector<uint8_t> PackedSearch::save() const {
    const std::shared_lock hold(mutex_);
    std::vector<uint8_t> out;
    for (const PackedLists& lists : blocks_) lists.save(out);
    return out;
}

bool PackedSearch::load(const uint8_t* lists, int64_t size, const float* scales, int64_t rows) {
    for (int64_t i = 0; i < rows; ++i)
        if (!std::isfinite(scales[i]) || std::signbit(scales[i])) return false;
    std::vector<PackedLists> loaded;
    const uint8_t *at = lists, *end = lists + size;
    for (int64_t first = 0; first < rows; first += block_rows_)
        if (!loaded.emplace_back(num_cols_, bits_).load(at, end, std::min(rows - first, block_rows_)))
            return false;
    if (at != end) return false;
    const std::unique_lock hold(mutex_);
    blocks_ = std::move(loaded);
    scales_.assign(scales, scales + rows);
    return true;
}

}  // namespace hashfold
