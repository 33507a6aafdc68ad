#include "cells.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <utility>

#include "parallel.hpp"
#include "quantized_table.hpp"

namespace hashfold {
namespace {

constexpr float kNoItem = std::numeric_limits<float>::quiet_NaN();

int64_t blocks_for(int64_t items) {
    return (items + kCellBlock - 1) / kCellBlock;
}

}  // namespace

PageBuffer::PageBuffer(PageBuffer&& other) noexcept
    : memory_(std::exchange(other.memory_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

PageBuffer& PageBuffer::operator=(PageBuffer&& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(bytes_, other.bytes_);
    return *this;
}

PageBuffer::~PageBuffer() {
    std::free(memory_);
}

void PageBuffer::grow(int64_t bytes, int64_t kept) {
    if (bytes <= bytes_) return;
    const size_t wanted = static_cast<size_t>(bytes), alignment = wanted >= kHugePage ? kHugePage : 64;
    const size_t rounded = (wanted + alignment - 1) / alignment * alignment;
    auto* memory = static_cast<uint8_t*>(std::aligned_alloc(alignment, rounded));
    if (!memory) throw std::bad_alloc();
    wish_huge_pages(memory, rounded);
    if (kept > 0) std::memcpy(memory, memory_, static_cast<size_t>(kept));
    std::free(memory_);
    memory_ = memory;
    bytes_ = static_cast<int64_t>(rounded);
}

CellRows::CellRows(int64_t num_items, int64_t num_cells, int64_t cols, int num_offsets)
    : shape_{cols}, num_offsets_(num_offsets), cells_(num_cells), cell_of_(num_items), slot_of_(num_items) {}

int64_t CellRows::bytes() const {
    return rows_.bytes() + sums_.bytes() + offsets_.bytes() +
           static_cast<int64_t>(cells_.size() * sizeof(Cell) + num_items() * (sizeof(int32_t) + sizeof(int64_t)));
}

int32_t* CellRows::id_at(int64_t slot) const {
    return reinterpret_cast<int32_t*>(block_of(slot) + shape_.ids_at()) + slot % kCellBlock;
}

float* CellRows::scale_at(int64_t slot) const {
    return reinterpret_cast<float*>(block_of(slot) + shape_.scales_at()) + slot % kCellBlock;
}

CellRun CellRows::run(int64_t cell) const {
    const Cell& c = cells_[cell];
    const int64_t slot = c.start * kCellBlock;
    return {rows_.data() + c.start * shape_.block_bytes(), reinterpret_cast<const int32_t*>(sums_.data()) + slot,
            reinterpret_cast<const float*>(offsets_.data()) + slot * num_offsets_, num_offsets_,
            blocks_for(c.count)};
}

void CellRows::resize(int64_t blocks, int64_t kept) {
    const int64_t line = kCellBlock * static_cast<int64_t>(sizeof(float));
    rows_.grow(blocks * shape_.block_bytes(), kept * shape_.block_bytes());
    sums_.grow(blocks * line, kept * line);
    offsets_.grow(blocks * line * num_offsets_, kept * line * num_offsets_);
    capacity_ = std::max(capacity_, blocks);
}

// Cells one behind the other, each with the blocks that it needs; items in the order of their ids.
void CellRows::lay_out(const int32_t* cells) {
    std::copy_n(cells, cell_of_.size(), cell_of_.begin());
    std::fill(cells_.begin(), cells_.end(), Cell{});
    for (int32_t cell : cell_of_) ++cells_[cell].count;
    blocks_ = holes_ = 0;
    for (Cell& cell : cells_) {
        cell.start = blocks_;
        cell.room = static_cast<int32_t>(blocks_for(cell.count));
        blocks_ += cell.room;
    }
    std::vector<int64_t> next(cells_.size());
    for (size_t c = 0; c < cells_.size(); ++c) next[c] = cells_[c].start * kCellBlock;
    for (size_t i = 0; i < cell_of_.size(); ++i) slot_of_[i] = next[cell_of_[i]]++;
    resize(blocks_, 0);
}

template <class CodedOf>
void CellRows::fill(const int32_t* cells, const CodedOf& coded_of) {
    lay_out(cells);
    std::vector<int32_t> item_at(blocks_ * kCellBlock, -1);
    for (size_t i = 0; i < slot_of_.size(); ++i) item_at[slot_of_[i]] = static_cast<int32_t>(i);
    parallel_chunks(blocks_, 64,
                    [&](int64_t begin, int64_t end, int) {  // whole blocks: written one after the other
                        std::vector<int8_t> codes(shape_.cols);
                        for (int64_t slot = begin * kCellBlock; slot < end * kCellBlock; ++slot) {
                            if (item_at[slot] < 0)
                                clear(slot);
                            else
                                put(slot, item_at[slot], coded_of(item_at[slot], codes.data()));
                        }
                    });
}

void CellRows::build(Matrix<const float> vectors, const float* offsets, const int32_t* cells) {
    const std::unique_lock lock(mutex_);
    fill(cells, [&](int64_t i, int8_t* codes) {
        Coded item{codes, 0.0f, 0, offsets + i * num_offsets_};
        quantized_table().quantize_row(vectors.row(i), vectors.cols, codes, &item.scale, &item.sum);
        return item;
    });
}

void CellRows::load(const int32_t* cells, Matrix<const int8_t> codes, const float* scales, const float* offsets) {
    const std::unique_lock lock(mutex_);
    fill(cells, [&](int64_t i, int8_t*) {
        int32_t sum = 0;
        for (int64_t k = 0; k < codes.cols; ++k) sum += codes.row(i)[k];
        return Coded{codes.row(i), scales[i], sum, offsets + i * num_offsets_};
    });
}

void CellRows::save(int32_t* cells, Matrix<int8_t> codes, float* scales, float* offsets) const {
    const auto lock = lock_for_reading();
    std::copy(cell_of_.begin(), cell_of_.end(), cells);
    parallel_chunks(num_items(), 256, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
            const int64_t slot = slot_of_[i], lane = slot % kCellBlock;
            const uint8_t* block = block_of(slot);
            for (int64_t k = 0; k < codes.cols; ++k)
                codes.row(i)[k] = static_cast<int8_t>(block[(k / 4 * kCellBlock + lane) * 4 + k % 4]);
            scales[i] = *scale_at(slot);
            for (int e = 0; e < num_offsets_; ++e) offsets[i * num_offsets_ + e] = offset_at(slot, e);
        }
    });
}

void CellRows::put(int64_t slot, int32_t id, const Coded& item) {
    uint8_t* to = block_of(slot) + slot % kCellBlock * 4;
    int64_t k = 0;
    for (; k + 4 <= shape_.cols; k += 4) std::memcpy(to + k * kCellBlock, item.codes + k, 4);
    if (k < shape_.cols) {
        int8_t rest[4] = {};
        std::memcpy(rest, item.codes + k, static_cast<size_t>(shape_.cols - k));
        std::memcpy(to + k * kCellBlock, rest, 4);
    }
    *scale_at(slot) = item.scale;
    *id_at(slot) = id;
    sum_at(slot) = item.sum;
    for (int e = 0; e < num_offsets_; ++e) offset_at(slot, e) = item.offsets[e];
}

void CellRows::clear(int64_t slot) {
    uint8_t* at = block_of(slot) + slot % kCellBlock * 4;
    for (int64_t k = 0; k < shape_.groups(); ++k) std::memset(at + k * 4 * kCellBlock, 0, 4);
    *scale_at(slot) = kNoItem;
    *id_at(slot) = -1;
    sum_at(slot) = 0;
    for (int e = 0; e < num_offsets_; ++e) offset_at(slot, e) = 0.0f;
}

void CellRows::move(int64_t from, int64_t to) {
    const uint8_t* source = block_of(from) + from % kCellBlock * 4;
    uint8_t* target = block_of(to) + to % kCellBlock * 4;
    for (int64_t k = 0; k < shape_.groups(); ++k)
        std::memcpy(target + k * 4 * kCellBlock, source + k * 4 * kCellBlock, 4);
    *scale_at(to) = *scale_at(from);
    *id_at(to) = *id_at(from);
    sum_at(to) = sum_at(from);
    for (int e = 0; e < num_offsets_; ++e) offset_at(to, e) = offset_at(from, e);
    slot_of_[*id_at(to)] = to;
}

// The last item of the cell takes the place.
void CellRows::remove(int32_t id) {
    Cell& cell = cells_[cell_of_[id]];
    const int64_t last = cell.start * kCellBlock + --cell.count;
    if (slot_of_[id] != last) move(last, slot_of_[id]);
    clear(last);
}

int64_t CellRows::append(int32_t index) {
    Cell& cell = cells_[index];
    if (cell.count == cell.room * kCellBlock) grow(cell);
    return cell.start * kCellBlock + cell.count++;
}

void CellRows::grow(Cell& cell) {
    const auto room = static_cast<int32_t>(cell.room + cell.room / 2 + 1);
    const int64_t wanted = blocks_ + room, old = cell.start * kCellBlock;
    if (wanted > capacity_) resize(wanted + wanted / 4, blocks_);
    holes_ += cell.room;
    cell.start = blocks_;
    cell.room = room;
    blocks_ = wanted;
    for (int64_t j = 0; j < room * kCellBlock; ++j) clear(cell.start * kCellBlock + j);
    for (int64_t j = 0; j < cell.count; ++j) move(old + j, cell.start * kCellBlock + j);
}

void CellRows::update(Matrix<const float> vectors, const float* offsets, const int32_t* ids,
                      const int32_t* cells) {
    const std::unique_lock lock(mutex_);
    std::vector<int8_t> codes(shape_.cols);
    for (int64_t i = 0; i < vectors.rows; ++i) {
        const int32_t id = ids[i];
        Coded item{codes.data(), 0.0f, 0, offsets + i * num_offsets_};
        quantized_table().quantize_row(vectors.row(i), vectors.cols, codes.data(), &item.scale, &item.sum);
        if (cells[i] != cell_of_[id]) {
            remove(id);
            cell_of_[id] = cells[i];
            slot_of_[id] = append(cells[i]);
        }
        put(slot_of_[id], id, item);
    }
    if (3 * holes_ > blocks_) tidy();
}

void CellRows::tidy() {
    PageBuffer rows, sums, offsets;
    std::swap(rows, rows_);
    std::swap(sums, sums_);
    std::swap(offsets, offsets_);
    capacity_ = 0;
    resize(blocks_ - holes_, 0);
    const int64_t line = kCellBlock * static_cast<int64_t>(sizeof(float));
    int64_t blocks = 0;
    for (Cell& cell : cells_) {
        const auto copy = [&](PageBuffer& to, const PageBuffer& from, int64_t bytes) {
            if (bytes)
                std::memcpy(to.data() + blocks * bytes, from.data() + cell.start * bytes, cell.room * bytes);
        };
        copy(rows_, rows, shape_.block_bytes());
        copy(sums_, sums, line);
        copy(offsets_, offsets, line * num_offsets_);
        cell.start = blocks;
        blocks += cell.room;
        for (int64_t slot = cell.start * kCellBlock, end = slot + cell.count; slot < end; ++slot)
            slot_of_[*id_at(slot)] = slot;
    }
    blocks_ = blocks;
    holes_ = 0;
}

void CellRows::sizes(int32_t* counts) const {
    const auto lock = lock_for_reading();
    for (size_t c = 0; c < cells_.size(); ++c) counts[c] = cells_[c].count;
}

}  // namespace hashfold
