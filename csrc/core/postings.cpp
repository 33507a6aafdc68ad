#include "postings.hpp"

#include <algorithm>
#include <utility>

namespace hashfold {
namespace {

constexpr int64_t kFullBlock = int64_t{1} << 31;  // entries
constexpr int64_t kFullKey = 16;                  // a key that 1 in so many rows of a block have is full
constexpr int64_t kFullSpeed = 24;                // rows of a full key that cost as much as an entry of a list
constexpr int kChunk = 32;                        // entries weighted at a time

}  // namespace

Postings::Postings(int64_t num_keys, int64_t block_rows, bool weighted)
    : block_rows_(block_rows), weighted_(weighted), lengths_(num_keys) {}

int64_t Postings::bytes() const {
    int64_t total = static_cast<int64_t>(lengths_.size() * sizeof(uint32_t));
    for (const Block& block : blocks_)
        total += static_cast<int64_t>(block.starts.size() * sizeof(uint32_t) +
                                      block.members.size() * sizeof(uint16_t) + block.bytes.size() +
                                      block.full_keys.size() * sizeof(int32_t) + block.full_bytes.size());
    return total;
}

int64_t Postings::cost(int32_t key) const {
    if (!weighted_) return lengths_[key];
    return std::min<int64_t>(lengths_[key], rows() / kFullSpeed);
}

void Postings::append(const int64_t* starts, const int32_t* keys, const uint8_t* bytes, int64_t rows) {
    for (int64_t at = 0; at < rows;) {
        if (blocks_.empty() || blocks_.back().rows == block_rows_ || blocks_.back().entries >= kFullBlock) {
            const int64_t first = this->rows(), place = places();
            blocks_.emplace_back().first = first;
            blocks_.back().place = place;
            blocks_.back().starts.resize(lengths_.size() + 1);
        }
        Block& block = blocks_.back();
        const int64_t free = kFullBlock - block.entries;
        int64_t take = 1;
        while (at + take < rows && block.rows + take < block_rows_ && starts[at + take + 1] - starts[at] <= free)
            ++take;
        extend(block, starts + at, keys, bytes, take);
        at += take;
    }
}

const uint8_t* Postings::full(const Block& block, int32_t key) {
    const auto at = std::lower_bound(block.full_keys.begin(), block.full_keys.end(), key);
    if (at == block.full_keys.end() || *at != key) return nullptr;
    return block.full_bytes.data() + (at - block.full_keys.begin()) * block.stride();
}

template <class Body>
void Postings::each(const Block& block, int32_t key, const Body& body) {
    for (uint32_t j = block.starts[key]; j < block.starts[key + 1]; ++j)
        body(block.members[j], block.bytes.empty() ? uint8_t{1} : block.bytes[j]);
    if (const uint8_t* bytes = full(block, key))
        for (int64_t r = 0; r < block.rows; ++r)
            if (const uint8_t byte = bytes[strip_place(r)]) body(static_cast<uint16_t>(r), byte);
}

// The block to be, its rows and keys counted, with room for all entries and none of them there.
struct Postings::Layout {
    Layout(const std::vector<uint32_t>& counts, int64_t rows, bool weighted) : full_bytes(counts.size()) {
        block.rows = rows;
        block.starts.resize(counts.size() + 1);
        for (size_t key = 0; key < counts.size(); ++key) {
            const bool full = weighted && counts[key] > 0 && counts[key] * kFullKey >= rows;
            if (full) block.full_keys.push_back(static_cast<int32_t>(key));
            if (full) block.full_counts.push_back(counts[key]);
            block.starts[key + 1] = block.starts[key] + (full ? 0 : counts[key]);
            block.entries += counts[key];
        }
        next = block.starts;
        block.members.resize(block.starts.back());
        block.bytes.resize(weighted ? block.starts.back() : 0);
        block.full_bytes.resize(block.full_keys.size() * block.stride());
        for (size_t i = 0; i < block.full_keys.size(); ++i)
            full_bytes[block.full_keys[i]] = block.full_bytes.data() + i * block.stride();
    }

    void put(int32_t key, uint16_t member, uint8_t byte) {
        if (uint8_t* bytes = full_bytes[key]) {
            bytes[strip_place(member)] = byte;
            return;
        }
        const uint32_t at = next[key]++;
        block.members[at] = member;
        if (!block.bytes.empty()) block.bytes[at] = byte;
    }

    // What `old` has of the key: as it lies where it stays a byte a row, since places depend on the row alone.
    void take_over(const Block& old, int32_t key) {
        const uint8_t* bytes = full(old, key);
        if (bytes && full_bytes[key])
            std::copy_n(bytes, old.strips() * kStripRows, full_bytes[key]);
        else
            each(old, key, [&](uint16_t member, uint8_t byte) { put(key, member, byte); });
    }

    Block block;
    std::vector<uint32_t> next;
    std::vector<uint8_t*> full_bytes;  // of each key; null: it is a list
};

void Postings::extend(Block& block, const int64_t* starts, const int32_t* keys, const uint8_t* bytes,
                      int64_t rows) {
    const auto num_keys = static_cast<int32_t>(lengths_.size());
    std::vector<uint32_t> counts(num_keys);
    for (int64_t j = starts[0]; j < starts[rows]; ++j) {
        ++counts[keys[j]];
        ++lengths_[keys[j]];
    }
    for (int32_t key = 0; key < num_keys; ++key) counts[key] += block.starts[key + 1] - block.starts[key];
    for (size_t i = 0; i < block.full_keys.size(); ++i) counts[block.full_keys[i]] += block.full_counts[i];
    Layout layout(counts, block.rows + rows, weighted_);
    for (int32_t key = 0; key < num_keys && block.rows > 0; ++key) layout.take_over(block, key);
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = starts[i]; j < starts[i + 1]; ++j)
            layout.put(keys[j], static_cast<uint16_t>(block.rows + i), weighted_ ? bytes[j] : uint8_t{1});
    layout.block.first = block.first;
    layout.block.place = block.place;
    block = std::move(layout.block);
}

void Postings::add_up(int64_t number, const std::vector<Term>& terms, std::vector<WeightedBytes>& columns,
                      float* sums) const {
    const Block& block = blocks_[number];
    columns.clear();
    for (const Term& term : terms)
        if (block.starts[term.key] == block.starts[term.key + 1])
            if (const uint8_t* bytes = full(block, term.key)) columns.push_back({bytes, term.weight});
    postings_table().add_columns(columns.data(), static_cast<int64_t>(columns.size()), sums,
                                 block.strips() * kStripRows);
    for (const Term& term : terms) add_list(block, term, sums);
}

void Postings::add_list(const Block& block, const Term& term, float* sums) const {
    const uint32_t end = block.starts[term.key + 1];
    const uint16_t* members = block.members.data();
    uint32_t j = block.starts[term.key];
    if (!weighted_) {
        for (; j < end; ++j) sums[members[j]] += term.weight;
        return;
    }
    const uint8_t* bytes = block.bytes.data();
    for (; j + kChunk <= end; j += kChunk) {  // first the products, which the compiler vectorises
        float products[kChunk];
        for (int i = 0; i < kChunk; ++i) products[i] = term.weight * static_cast<float>(bytes[j + i]);
        for (int i = 0; i < kChunk; ++i) sums[members[j + i]] += products[i];
    }
    for (; j < end; ++j) sums[members[j]] += term.weight * static_cast<float>(bytes[j]);
}

}  // namespace hashfold
