#include "row_store.hpp"

#include <algorithm>
#include <cmath>

#include "id_lists.hpp"

namespace hashfold {

int64_t RowStore::bytes() const {
    return static_cast<int64_t>(entries_.size() + starts_.size() * sizeof(int64_t) +
                                scales_.size() * sizeof(float));
}

void RowStore::append(const Csr<float>& rows) {
    std::vector<int32_t> columns;
    std::vector<uint8_t> bytes;
    for (int64_t i = 0; i < rows.rows; ++i) {
        const int64_t first = rows.indptr[i], last = rows.indptr[i + 1];
        double largest = 0;  // double: 255 / largest may be above the largest float
        for (int64_t j = first; j < last; ++j) largest = std::max<double>(largest, rows.values[j]);
        columns.clear();
        bytes.clear();
        for (int64_t j = first; j < last; ++j)
            if (const int byte = largest > 0 ? static_cast<int>(rows.values[j] * (255 / largest) + 0.5) : 0) {
                columns.push_back(rows.indices[j]);
                bytes.push_back(static_cast<uint8_t>(byte));
            }
        append_bytes(columns.data(), bytes.data(), static_cast<int64_t>(bytes.size()),
                     static_cast<float>(largest / 255));
    }
}

void RowStore::append_bytes(const int32_t* columns, const uint8_t* bytes, int64_t count, float scale) {
    int64_t bridges = 0, at = 0;
    for (int64_t j = 0; j < count; at = columns[j++])
        bridges += std::max<int64_t>(0, columns[j] - at - 1) / kLongest;
    const int64_t room = count + bridges;
    entries_.resize(entries_.size() + 3 * room);
    uint8_t* values = entries_.data() + entries_.size() - room;
    uint8_t* steps = values - 2 * room;
    const auto put = [&](int64_t step, uint8_t byte) {
        const auto narrow = static_cast<uint16_t>(step);
        std::memcpy(steps, &narrow, sizeof narrow);
        steps += 2;
        *values++ = byte;
        at += step;
    };
    at = 0;
    for (int64_t j = 0; j < count; ++j) {
        while (columns[j] - at > kLongest) put(kLongest, 0);
        put(columns[j] - at, bytes[j]);
    }
    starts_.push_back(starts_.back() + room);
    scales_.push_back(scale);
}

ByteRows RowStore::read(int64_t first, int64_t last) const {
    ByteRows out;
    for (int64_t row = first; row < last; ++row) {
        const int64_t count = starts_[row + 1] - starts_[row];
        const uint8_t* steps = entries_.data() + 3 * starts_[row];
        const uint8_t* bytes = steps + 2 * count;
        int64_t column = 0;
        for (int64_t j = 0; j < count; ++j) {
            column += step(steps + 2 * j);
            if (bytes[j] == 0) continue;
            out.columns.push_back(static_cast<int32_t>(column));
            out.bytes.push_back(bytes[j]);
        }
        out.starts.push_back(static_cast<int64_t>(out.bytes.size()));
    }
    return out;
}

void RowStore::save(std::vector<uint8_t>& columns, std::vector<uint8_t>& bytes) const {
    ByteRows all = read(0, rows());
    IdLists lists;
    lists.append(all.starts.data(), all.columns.data(), all.rows());
    columns = lists.encoded();
    bytes = std::move(all.bytes);
}

bool RowStore::load(const uint8_t* columns, int64_t columns_size, const uint8_t* bytes, int64_t count,
                    const float* scales, int64_t rows) {
    IdLists lists;
    if (!lists.load(columns, columns_size, rows, num_cols_)) return false;
    for (int64_t i = 0; i < rows; ++i)
        if (!std::isfinite(scales[i]) || std::signbit(scales[i])) return false;
    RowStore loaded(num_cols_);
    std::vector<int32_t> ids;
    int64_t row = 0, at = 0;
    const auto finish = [&](int64_t until) {  // rows from `row` on, `ids` being those of the first
        for (; row < until; ids.clear(), ++row) {
            const auto size = static_cast<int64_t>(ids.size());
            if (at + size > count || std::any_of(bytes + at, bytes + at + size, [](uint8_t b) { return b == 0; }))
                return false;
            loaded.append_bytes(ids.data(), bytes + at, size, scales[row]);
            at += size;
        }
        return true;
    };
    bool good = true;
    lists.each_of_all([&](int64_t of, int32_t id) {
        good = good && finish(of);
        ids.push_back(id);
    });
    if (!good || !finish(rows) || at != count) return false;
    *this = std::move(loaded);
    return true;
}

}  // namespace hashfold
