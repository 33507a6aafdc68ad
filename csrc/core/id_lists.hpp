// Lists of ascending ids kept small, such as the labels of rows: varint gaps, appended to and never changed.
#pragma once

#include <cstdint>
#include <vector>

#include "varint.hpp"

namespace hashfold {

class IdLists {
  public:
    int64_t lists() const { return lists_; }
    int64_t bytes() const { return static_cast<int64_t>(bytes_.size() + starts_.size() * sizeof(int64_t)); }

    // Ids are below it.
    int32_t bound() const { return bound_; }

    // Row i holds ids[indptr[i]] to ids[indptr[i + 1]], ascending and distinct.
    void append(const int64_t* indptr, const int32_t* ids, int64_t rows);

    template <class Body>
    void each(int64_t list, const Body& body) const {
        const uint8_t* at = bytes_.data() + starts_[list / every_];
        for (int64_t before = list % every_; before > 0; --before) skip_varints(at, get_varint(at), end());
        read(at, body);
    }

    // First where a list lies, then the list.
    void prefetch_start(int64_t list) const { __builtin_prefetch(&starts_[list / every_]); }
    void prefetch(int64_t list) const { __builtin_prefetch(&bytes_[starts_[list / every_]]); }

    // body(list, id) for all ids of all lists, in order.
    template <class Body>
    void each_of_all(const Body& body) const {
        const uint8_t* at = bytes_.data();
        for (int64_t list = 0; list < lists_; ++list) read(at, [&](int32_t id) { body(list, id); });
    }

    // All lists as bytes: each its length, then the steps from -1 to its first id and from id to id.
    const std::vector<uint8_t>& encoded() const { return bytes_; }

    // Takes what `encoded` gave; false, and nothing changed, if these are not `lists` lists of ids below `bound`.
    bool load(const uint8_t* bytes, int64_t count, int64_t lists, int64_t bound);

  private:
    const uint8_t* end() const { return bytes_.data() + bytes_.size(); }

    // Starts of all lists would take as much as lists of 8 bytes do; passing over lists takes time.
    static int64_t every(int64_t bytes, int64_t lists) { return bytes < 16 * lists ? 4 : 1; }

    template <class Body>
    static void read(const uint8_t*& at, const Body& body) {
        int32_t id = -1;
        for (uint32_t left = get_varint(at); left > 0; --left) body(id += static_cast<int32_t>(get_varint(at)));
    }

    std::vector<uint8_t> bytes_;
    std::vector<int64_t> starts_;  // of lists 0, every_, 2 every_ ...
    int64_t lists_ = 0;
    int64_t every_ = 0;  // of short lists not each: starts would take more than they do
    int32_t bound_ = 0;
};

}  // namespace hashfold
