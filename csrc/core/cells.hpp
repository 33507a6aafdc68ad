// Rows in 8 bits, cell by cell: what is read to score a cell lies in one run of memory.
//
// A cell holds blocks of 16 items. A block is feature-major by fours: the four codes of one item lie beside those
// of the next, so that one vector of products serves 16 items and no lanes are summed; then 16 scales, then 16
// ids. A cell that outgrows its room moves to the end, and the store is tidied when a third of it is holes.
#pragma once

#include <cstdint>
#include <mutex>
#include <shared_mutex>
#include <vector>

#include "huge_pages.hpp"
#include "quantized.hpp"
#include "views.hpp"

namespace hashfold {

inline constexpr int64_t kCellBlock = 16;  // items of a block

struct CellShape {
    int64_t cols;
    int64_t groups() const { return (cols + 3) / 4; }
    int64_t scales_at() const { return groups() * 4 * kCellBlock; }
    int64_t ids_at() const { return scales_at() + kCellBlock * 4; }
    int64_t block_bytes() const { return ids_at() + kCellBlock * 4; }
};

// Blocks one behind the other. Places of a block without an item have a scale that is not a number.
struct CellRun {
    const uint8_t* blocks;
    const int32_t* sums;   // of each item's codes
    const float* offsets;  // of each block num_offsets times 16: weighed by the query and added to the scores
    int num_offsets;
    int64_t count;  // blocks

    CellRun part(const CellShape& shape, int64_t first, int64_t most) const {
        return {blocks + first * shape.block_bytes(), sums + first * kCellBlock,
                offsets + first * kCellBlock * num_offsets, num_offsets,
                count - first < most ? count - first : most};
    }
};

// Memory on huge pages, where the system grants them.
class PageBuffer {
  public:
    PageBuffer() = default;
    PageBuffer(PageBuffer&& other) noexcept;
    PageBuffer& operator=(PageBuffer&& other) noexcept;
    ~PageBuffer();

    uint8_t* data() const { return memory_; }
    int64_t bytes() const { return bytes_; }
    void grow(int64_t bytes, int64_t kept);  // at least so many bytes, the first `kept` of them as before

  private:
    uint8_t* memory_ = nullptr;
    int64_t bytes_ = 0;
};

// Readers share it (lock_for_reading); build, update and load wait until they are alone.
class CellRows {
  public:
    CellRows(int64_t num_items, int64_t num_cells, int64_t cols, int num_offsets);

    int64_t num_items() const { return static_cast<int64_t>(cell_of_.size()); }
    int64_t num_cells() const { return static_cast<int64_t>(cells_.size()); }
    int64_t bytes() const;
    CellShape shape() const { return shape_; }
    int num_offsets() const { return num_offsets_; }

    // Item i is vectors row i in 8 bits (see quantized.hpp) and lies in cells[i]; offsets (items, num_offsets).
    void build(Matrix<const float> vectors, const float* offsets, const int32_t* cells);

    // Items ids (distinct) become these rows, in these cells.
    void update(Matrix<const float> vectors, const float* offsets, const int32_t* ids, const int32_t* cells);

    // The items as build and updates made them, in the order of their ids.
    void save(int32_t* cells, Matrix<int8_t> codes, float* scales, float* offsets) const;
    void load(const int32_t* cells, Matrix<const int8_t> codes, const float* scales, const float* offsets);

    void sizes(int32_t* counts) const;  // (num_cells)

    // For readers that hold lock_for_reading() meanwhile.
    int64_t size(int64_t cell) const { return cells_[cell].count; }
    CellRun run(int64_t cell) const;
    std::shared_lock<std::shared_mutex> lock_for_reading() const { return std::shared_lock(mutex_); }

  private:
    struct Cell {
        int64_t start = 0;  // in blocks
        int32_t room = 0;   // in blocks
        int32_t count = 0;  // items
    };
    struct Coded {  // one item, as quantized_table() makes it
        const int8_t* codes;
        float scale;
        int32_t sum;
        const float* offsets;
    };
    template <class CodedOf>
    void fill(const int32_t* cells, const CodedOf& coded_of);
    void lay_out(const int32_t* cells);
    void resize(int64_t blocks, int64_t kept);
    void put(int64_t slot, int32_t id, const Coded& item);
    void move(int64_t from, int64_t to);
    void clear(int64_t slot);
    void remove(int32_t id);
    int64_t append(int32_t cell);  // a place for one more item
    void grow(Cell& cell);
    void tidy();
    int32_t* id_at(int64_t slot) const;
    float* scale_at(int64_t slot) const;
    int32_t& sum_at(int64_t slot) const { return reinterpret_cast<int32_t*>(sums_.data())[slot]; }
    float& offset_at(int64_t slot, int which) const {
        const int64_t line = slot / kCellBlock * num_offsets_ + which;
        return reinterpret_cast<float*>(offsets_.data())[line * kCellBlock + slot % kCellBlock];
    }
    uint8_t* block_of(int64_t slot) const { return rows_.data() + slot / kCellBlock * shape_.block_bytes(); }

    CellShape shape_;
    int num_offsets_;
    std::vector<Cell> cells_;
    std::vector<int32_t> cell_of_;  // of each item
    std::vector<int64_t> slot_of_;
    PageBuffer rows_, sums_, offsets_;
    int64_t capacity_ = 0;            // blocks that all three have room for
    int64_t blocks_ = 0, holes_ = 0;  // blocks in use or left behind; of these, left behind
    mutable std::shared_mutex mutex_;
};

}  // namespace hashfold
