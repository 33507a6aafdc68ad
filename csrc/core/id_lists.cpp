#include "id_lists.hpp"

#include <algorithm>

namespace hashfold {
namespace {

// Past one list; false if it is none.
bool skip_list(const uint8_t*& at, const uint8_t* end, int64_t bound) {
    uint32_t left, step;
    if (!get_varint_checked(at, end, 0x7FFFFFFF, left)) return false;
    for (int64_t id = -1; left > 0; --left) {
        if (!get_varint_checked(at, end, 0x7FFFFFFF, step) || step == 0) return false;
        id += step;
        if (id >= bound) return false;
    }
    return true;
}

}  // namespace

void IdLists::append(const int64_t* indptr, const int32_t* ids, int64_t rows) {
    if (lists_ == 0) every_ = every(indptr[rows] - indptr[0] + rows, rows);
    for (int64_t i = 0; i < rows; ++i) {
        if (lists_++ % every_ == 0) starts_.push_back(static_cast<int64_t>(bytes_.size()));
        put_varint(bytes_, static_cast<uint32_t>(indptr[i + 1] - indptr[i]));
        int32_t last = -1;
        for (int64_t j = indptr[i]; j < indptr[i + 1]; last = ids[j++])
            put_varint(bytes_, static_cast<uint32_t>(ids[j] - last));
        bound_ = std::max(bound_, last + 1);
    }
}

bool IdLists::load(const uint8_t* bytes, int64_t count, int64_t lists, int64_t bound) {
    std::vector<int64_t> starts;
    const int64_t stride = every(count, lists);
    const uint8_t *at = bytes, *end = bytes + count;
    for (int64_t i = 0; i < lists; ++i) {
        if (i % stride == 0) starts.push_back(at - bytes);
        if (!skip_list(at, end, bound)) return false;
    }
    if (at != end) return false;
    bytes_.assign(bytes, end);
    starts_ = std::move(starts);
    lists_ = lists;
    every_ = stride;
    bound_ = static_cast<int32_t>(bound);
    return true;
}

}  // namespace hashfold
