#include "postings.hpp"

#include <algorithm>

namespace hashfold {
namespace {

constexpr int64_t kFull = int64_t{1} << 31;  // entries of a block

}  // namespace

Postings::Postings(int64_t num_keys, int64_t block_rows, bool weighted)
    : block_rows_(block_rows), weighted_(weighted), lengths_(num_keys) {}

int64_t Postings::bytes() const {
    int64_t total = static_cast<int64_t>(lengths_.size() * sizeof(uint32_t));
    for (const Block& block : blocks_)
        total += static_cast<int64_t>(block.starts.size() * sizeof(uint32_t) +
                                      block.members.size() * sizeof(uint16_t) + block.bytes.size());
    return total;
}

void Postings::append(const int64_t* starts, const int32_t* keys, const uint8_t* bytes, int64_t rows) {
    for (int64_t at = 0; at < rows;) {
        const bool full = blocks_.empty() || blocks_.back().rows == block_rows_ ||
                          static_cast<int64_t>(blocks_.back().members.size()) >= kFull;
        if (full) {
            const int64_t first = this->rows();
            blocks_.emplace_back().first = first;
            blocks_.back().starts.resize(lengths_.size() + 1);
        }
        Block& block = blocks_.back();
        const int64_t free = kFull - static_cast<int64_t>(block.members.size());
        int64_t take = 0;
        while (at + take < rows && block.rows + take < block_rows_ &&
               (take == 0 || starts[at + take + 1] - starts[at] <= free))
            ++take;
        extend(block, starts + at, keys, bytes, take);
        at += take;
    }
}

void Postings::extend(Block& block, const int64_t* starts, const int32_t* keys, const uint8_t* bytes,
                      int64_t rows) {
    std::vector<uint32_t> next(lengths_.size() + 1);
    for (int64_t j = starts[0]; j < starts[rows]; ++j) {
        ++next[keys[j] + 1];
        ++lengths_[keys[j]];
    }
    for (size_t key = 0; key < lengths_.size(); ++key)
        next[key + 1] += next[key] + block.starts[key + 1] - block.starts[key];
    std::vector<uint16_t> members(next.back());
    std::vector<uint8_t> values(weighted_ ? next.back() : 0);
    std::vector<uint32_t> all = next;
    for (size_t key = 0; key < lengths_.size(); ++key) {
        const uint32_t begin = block.starts[key], end = block.starts[key + 1];
        std::copy(block.members.begin() + begin, block.members.begin() + end, members.begin() + next[key]);
        if (weighted_)
            std::copy(block.bytes.begin() + begin, block.bytes.begin() + end, values.begin() + next[key]);
        next[key] += end - begin;
    }
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = starts[i]; j < starts[i + 1]; ++j) {
            const uint32_t at = next[keys[j]]++;
            members[at] = static_cast<uint16_t>(block.rows + i);
            if (weighted_) values[at] = bytes[j];
        }
    block.starts = std::move(all);
    block.members = std::move(members);
    block.bytes = std::move(values);
    block.rows += rows;
}

void Postings::add(const Block& block, int32_t key, float weight, float* sums) const {
    const uint32_t begin = block.starts[key], end = block.starts[key + 1];
    const uint16_t* members = block.members.data();
    const uint8_t* bytes = block.bytes.data();
    if (weighted_)
        for (uint32_t j = begin; j < end; ++j) sums[members[j]] += weight * static_cast<float>(bytes[j]);
    else
        for (uint32_t j = begin; j < end; ++j) sums[members[j]] += weight;
}

}  // namespace hashfold
