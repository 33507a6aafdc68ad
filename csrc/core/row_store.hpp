// Sparse rows of values at least 0, kept small and never changed: 3 bytes an entry.
//
// Columns are 16-bit steps from the one before (a longer step is bridged by entries of value 0, so that
// reading has no branch), values are 8-bit multiples of the row's own scale, its largest value / 255.
// What rounds to 0 is dropped.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "views.hpp"

namespace hashfold {

// Rows as the store holds them, taken apart: row i has entries starts[i] to starts[i + 1].
struct ByteRows {
    std::vector<int64_t> starts{0};
    std::vector<int32_t> columns;
    std::vector<uint8_t> bytes;
    int64_t rows() const { return static_cast<int64_t>(starts.size()) - 1; }
};

class RowStore {
  public:
    explicit RowStore(int64_t num_cols) : num_cols_(num_cols) {}

    int64_t num_cols() const { return num_cols_; }
    int64_t rows() const { return static_cast<int64_t>(scales_.size()); }
    int64_t bytes() const;
    const float* scales() const { return scales_.data(); }

    // Columns ascending and distinct in [0, num_cols), values finite and at least 0.
    void append(const Csr<float>& rows);

    // Rows [first, last).
    ByteRows read(int64_t first, int64_t last) const;

    // <row, dense>; dense has num_cols entries. Four sums side by side: one would wait for itself.
    float dot(int64_t row, const float* dense) const {
        const uint8_t *gaps = entries_.data() + 3 * starts_[row], *end = entries_.data() + 3 * starts_[row + 1];
        const uint8_t* bytes = gaps + (end - gaps) / 3 * 2;
        float sums[4] = {};
        int64_t column = 0;
        for (; end - bytes >= 4; gaps += 8, bytes += 4)
            for (int i = 0; i < 4; ++i)
                sums[i] += dense[column += step(gaps + 2 * i)] * static_cast<float>(bytes[i]);
        for (; bytes != end; gaps += 2, ++bytes)
            sums[0] += dense[column += step(gaps)] * static_cast<float>(*bytes);
        return ((sums[0] + sums[1]) + (sums[2] + sums[3])) * scales_[row];
    }

    // First where a row lies, then the row.
    void prefetch_start(int64_t row) const { __builtin_prefetch(&starts_[row]); }
    void prefetch(int64_t row) const {
        const uint8_t *at = entries_.data() + 3 * starts_[row], *end = entries_.data() + 3 * starts_[row + 1];
        for (; at < end; at += 64) __builtin_prefetch(at);
    }

    // For a file: the columns as IdLists encode them, and the bytes of all rows behind one another.
    void save(std::vector<uint8_t>& columns, std::vector<uint8_t>& bytes) const;

    // Takes what `save` gave and the scales; false, and nothing changed, if this is no state of such a store.
    bool load(const uint8_t* columns, int64_t columns_size, const uint8_t* bytes, int64_t count,
              const float* scales, int64_t rows);

  private:
    static constexpr int64_t kLongest = 0xFFFF;  // step

    static int64_t step(const uint8_t* gap) {
        uint16_t value;
        std::memcpy(&value, gap, sizeof value);
        return value;
    }

    void append_bytes(const int32_t* columns, const uint8_t* bytes, int64_t count, float scale);

    int64_t num_cols_;
    std::vector<uint8_t> entries_;  // of each row: its steps, then its bytes
    std::vector<int64_t> starts_{0};
    std::vector<float> scales_;
};

}  // namespace hashfold
