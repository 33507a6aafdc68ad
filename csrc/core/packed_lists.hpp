// Inverted lists of rows and small codes, packed: the rows themselves are kept nowhere else.
//
// Of a list of n of N rows, ascending, the low l = floor(log2(N / n)) bits of each row lie side by side, each
// above its code; row i also sets bit (row >> l) + i of what follows (Elias 1974, Fano 1971). That is
// at most 2 + log2(N / n) bits a row beside the code, and reading one needs nothing of those before it.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <vector>

#include "varint.hpp"
#include "views.hpp"

namespace hashfold {

class PackedLists {
  public:
    static constexpr int64_t kMostRows = 1 << 17;
    static constexpr int kMostBits = 8;  // of a code: with the low bits of a row, 25 at most

    PackedLists(int64_t num_keys, int bits);

    int64_t rows() const { return rows_; }
    int64_t bytes() const { return static_cast<int64_t>(data_.size() + starts_.size() * sizeof(uint32_t)); }

    // Row i has the keys rows.indices, ascending and in range, and beside them the codes. At most kMostRows in
    // all; std::length_error, and nothing is added, if the lists would take 2^32 bytes. All lists are packed anew.
    void append(const Csr<uint8_t>& rows);

    // sums[row] += worth[code] over the list of `key`. worth has 2^bits places.
    void add_up(int32_t key, const float* worth, float* sums) const {
        each(key, [&](int64_t row, uint32_t code) { sums[row] += worth[code]; });
    }

    // body(row, code) for each entry, rows ascending.
    template <class Body>
    void each(int32_t key, const Body& body) const {
        const uint8_t* at = data_.data() + starts_[key];
        const int64_t count = get_varint(at);
        if (count == 0) return;
        const Shape shape(rows_, count, bits_);
        const uint8_t* high = at + shape.low_bytes;
        const uint32_t mask = (1u << bits_) - 1, field = (1u << shape.width) - 1;
        uint64_t word = word_at(high);
        int64_t base = 0;  // of the word's bits, less the entries read
        for (int64_t i = 0, bit = 0; i < count; ++i, bit += shape.width) {
            while (word == 0) {
                high += 8;
                base += 64;
                word = word_at(high);
            }
            const int64_t above = base + std::countr_zero(word) - i;
            word &= word - 1;
            uint32_t low;
            std::memcpy(&low, at + (bit >> 3), sizeof low);
            low = low >> (bit & 7) & field;
            body(above << shape.low | low >> bits_, low & mask);
        }
    }

    // For a file: of each key the length of its list and the list.
    void save(std::vector<uint8_t>& out) const { out.insert(out.end(), data_.begin(), data_.end() - kPadding); }

    // Takes what `save` gave, `at` moves past it; false, and nothing changed, if these are no such lists.
    bool load(const uint8_t*& at, const uint8_t* end, int64_t rows);

  private:
    static constexpr int kPadding = 8;  // bytes that may be read behind the last list

    struct Shape {
        Shape(int64_t rows, int64_t count, int bits)
            : low(std::bit_width(static_cast<uint64_t>(rows / count)) - 1),
              width(low + bits),
              low_bytes((count * width + 7) / 8),
              high_bits(count + ((rows - 1) >> low) + 1),
              bytes(low_bytes + (high_bits + 7) / 8) {}
        int low, width;  // bits of a row kept apart, and with the code
        int64_t low_bytes, high_bits, bytes;
    };

    static uint64_t word_at(const uint8_t* at) {
        uint64_t word;
        std::memcpy(&word, at, sizeof word);
        return word;
    }

    struct Entries;
    static void put(std::vector<uint8_t>& out, const Entries& entries, int64_t rows, int bits);
    bool holds_rows(int32_t key) const;

    int bits_;
    int64_t rows_ = 0;
    std::vector<uint8_t> data_;     // of each key: the length of its list, as a varint, and the list
    std::vector<uint32_t> starts_;  // of each key
};

}  // namespace hashfold
