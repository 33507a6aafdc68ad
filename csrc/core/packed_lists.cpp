#include "packed_lists.hpp"

#include <numeric>
#include <stdexcept>
#include <utility>

namespace hashfold {
namespace {

// Ors `value` into the bits from `bit` on; there is room for four bytes.
void put_bits(uint8_t* at, int64_t bit, uint32_t value) {
    uint32_t word;
    std::memcpy(&word, at + (bit >> 3), sizeof word);
    word |= value << (bit & 7);
    std::memcpy(at + (bit >> 3), &word, sizeof word);
}

}  // namespace

struct PackedLists::Entries {
    std::vector<uint32_t> rows;
    std::vector<uint8_t> codes;
    void put(int64_t row, uint32_t code) {
        rows.push_back(static_cast<uint32_t>(row));
        codes.push_back(static_cast<uint8_t>(code));
    }
    void clear() {
        rows.clear();
        codes.clear();
    }
};

PackedLists::PackedLists(int64_t num_keys, int bits) : bits_(bits), data_(num_keys + kPadding), starts_(num_keys) {
    std::iota(starts_.begin(), starts_.end(), 0u);  // of each key a length, 0
}

void PackedLists::put(std::vector<uint8_t>& out, const Entries& entries, int64_t rows, int bits) {
    const auto count = static_cast<int64_t>(entries.rows.size());
    put_varint(out, static_cast<uint32_t>(count));
    if (count == 0) return;
    const Shape shape(rows, count, bits);
    const size_t begin = out.size();
    out.resize(begin + shape.bytes + kPadding);
    uint8_t *low = out.data() + begin, *high = low + shape.low_bytes;
    const uint32_t kept = (1u << shape.low) - 1;
    for (int64_t i = 0; i < count; ++i) {
        const uint32_t row = entries.rows[i];
        put_bits(low, i * shape.width, (row & kept) << bits | entries.codes[i]);
        const int64_t bit = (row >> shape.low) + i;
        high[bit >> 3] = static_cast<uint8_t>(high[bit >> 3] | 1u << (bit & 7));
    }
    out.resize(begin + shape.bytes);
}

void PackedLists::append(const Csr<uint8_t>& rows) {
    const auto num_keys = static_cast<int32_t>(starts_.size());
    const int64_t first = rows.indptr[0], last = rows.indptr[rows.rows];
    std::vector<int64_t> ends(starts_.size() + 1);  // of the new entries of each key
    for (int64_t j = first; j < last; ++j) ++ends[rows.indices[j] + 1];
    std::partial_sum(ends.begin(), ends.end(), ends.begin());
    std::vector<uint32_t> members(last - first);
    std::vector<uint8_t> codes(last - first);
    for (int64_t i = 0; i < rows.rows; ++i)
        for (int64_t j = rows.indptr[i]; j < rows.indptr[i + 1]; ++j) {
            const int64_t at = ends[rows.indices[j]]++;
            members[at] = static_cast<uint32_t>(rows_ + i);
            codes[at] = rows.values[j];
        }
    PackedLists grown(0, bits_);
    grown.rows_ = rows_ + rows.rows;
    grown.data_.clear();
    Entries entries;
    for (int32_t key = 0; key < num_keys; ++key) {  // ends[key] is now where the entries of `key` end
        entries.clear();
        each(key, [&](int64_t row, uint32_t code) { entries.put(row, code); });
        for (int64_t j = key ? ends[key - 1] : 0; j < ends[key]; ++j) entries.put(members[j], codes[j]);
        if (grown.data_.size() >= uint64_t{1} << 31)
            throw std::length_error("packed rows: the lists of a block take 2 GiB; use a smaller block_rows");
        grown.starts_.push_back(static_cast<uint32_t>(grown.data_.size()));
        put(grown.data_, entries, grown.rows_, bits_);
    }
    grown.data_.resize(grown.data_.size() + kPadding);
    grown.data_.shrink_to_fit();
    *this = std::move(grown);
}

bool PackedLists::load(const uint8_t*& at, const uint8_t* end, int64_t rows) {
    PackedLists loaded(static_cast<int64_t>(starts_.size()), bits_);
    loaded.rows_ = rows;
    const uint8_t *begin = at, *next = at;
    for (uint32_t& start : loaded.starts_) {
        start = static_cast<uint32_t>(next - begin);
        uint32_t count;
        if (!get_varint_checked(next, end, static_cast<uint32_t>(rows), count)) return false;
        if (count == 0) continue;
        const int64_t bytes = Shape(rows, count, bits_).bytes;
        if (end - next < bytes) return false;
        next += bytes;
        if (next - begin >= int64_t{1} << 32) return false;
    }
    loaded.data_.reserve(next - begin + kPadding);  // growing afterwards would double it
    loaded.data_.assign(begin, next);
    loaded.data_.resize(loaded.data_.size() + kPadding);
    for (int32_t key = 0; key < static_cast<int32_t>(starts_.size()); ++key)
        if (!loaded.holds_rows(key)) return false;
    *this = std::move(loaded);
    at = next;
    return true;
}

// As many bits as entries, the last one in place, rows ascending and in range: what `each` trusts in.
bool PackedLists::holds_rows(int32_t key) const {
    const uint8_t* at = data_.data() + starts_[key];
    const int64_t count = get_varint(at);
    if (count == 0) return true;
    const Shape shape(rows_, count, bits_);
    const uint8_t* high = at + shape.low_bytes;
    int64_t set = 0;
    for (int64_t byte = 0; byte < shape.bytes - shape.low_bytes; ++byte) set += std::popcount(high[byte]);
    if (set != count) return false;
    int64_t before = -1;
    bool ascending = true;
    each(key, [&](int64_t row, uint32_t) {
        ascending &= row > before && row < rows_;
        before = row;
    });
    return ascending;
}

}  // namespace hashfold
