// A small set of ids that remembers where each one was put: open addressing, cleared in O(1).
//
// A batch touches some 10^4 of up to 10^8 items, so this stays in the second-level cache where an
// array with one entry an item would miss to memory, and nothing has to be kept between calls.
#pragma once

#include <cstdint>
#include <vector>

namespace hashfold {

class IdMap {
  public:
    explicit IdMap(int64_t expected = 32) { reserve(expected); }

    int64_t size() const { return size_; }

    void clear() {
        size_ = 0;
        if (++epoch_ == 0) {  // the counter came round: old slots would look alive
            slots_.assign(slots_.size(), Slot{});
            epoch_ = 1;
        }
    }

    // The value stored with `id`, or -1.
    int32_t find(int32_t id) const {
        const Slot& slot = slots_[place(id)];
        return slot.epoch == epoch_ ? slot.value : -1;
    }

    // Stores `value` (at least 0) unless `id` is there already; returns the value that is there now.
    int32_t insert(int32_t id, int32_t value) {
        if (2 * (size_ + 1) > static_cast<int64_t>(slots_.size())) reserve(4 * size_);
        Slot& slot = slots_[place(id)];
        if (slot.epoch != epoch_) {
            slot = {id, value, epoch_};
            ++size_;
        }
        return slot.value;
    }

  private:
    struct Slot {
        int32_t id = 0;
        int32_t value = 0;
        uint32_t epoch = 0;
    };

    // Where `id` is, or the free slot where it would go.
    uint64_t place(int32_t id) const {
        const uint64_t mask = slots_.size() - 1;
        uint64_t at = (static_cast<uint64_t>(static_cast<uint32_t>(id)) * 0x9E3779B97F4A7C15ull) >> shift_;
        while (slots_[at].epoch == epoch_ && slots_[at].id != id) at = (at + 1) & mask;
        return at;
    }

    // Room for `expected` ids at half load.
    void reserve(int64_t expected) {
        int bits = 4;
        while ((int64_t{1} << bits) < 2 * expected) ++bits;
        std::vector<Slot> old(size_t{1} << bits);
        old.swap(slots_);
        shift_ = 64 - bits;
        for (const Slot& slot : old)
            if (slot.epoch == epoch_) slots_[place(slot.id)] = slot;
    }

    std::vector<Slot> slots_;
    int shift_ = 60;
    int64_t size_ = 0;
    uint32_t epoch_ = 1;
};

}  // namespace hashfold
