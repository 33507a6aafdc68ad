// Rows as their nonzeros, hashed one by one in parallel.
#pragma once

#include <vector>

#include "hashing.hpp"
#include "hashing_output.hpp"
#include "parallel.hpp"

namespace hashfold {

inline constexpr int64_t kRowGrain = 64;

inline int64_t row_count(const HashRows& x) {
    return x.dense.data ? x.dense.rows : x.sparse.rows;
}

struct Nonzeros {
    std::vector<int32_t> features;  // ascending
    std::vector<float> values;
    int64_t size() const { return static_cast<int64_t>(features.size()); }

    void read(const HashRows& x, int64_t row) {
        features.clear();
        values.clear();
        if (x.dense.data)
            for (int64_t f = 0; f < x.dense.cols; ++f) keep(static_cast<int32_t>(f), x.dense.row(row)[f]);
        else
            for (int64_t j = x.sparse.indptr[row]; j < x.sparse.indptr[row + 1]; ++j)
                keep(x.sparse.indices[j], x.sparse.values[j]);
    }

  private:
    void keep(int32_t feature, float value) {
        if (value == 0.0f) return;
        features.push_back(feature);
        values.push_back(value);
    }
};

// hash(nonzeros, codes) fills the codes of a row; make_hash() makes one, with its scratch, a chunk.
template <class MakeHash>
void hash_nonzeros(const HashRows& x, const HashOutput& out, const MakeHash& make_hash) {
    parallel_chunks(row_count(x), kRowGrain, [&](int64_t begin, int64_t end, int) {
        Nonzeros nonzeros;
        std::vector<int32_t> codes(out.hashes());
        auto hash = make_hash();
        for (int64_t row = begin; row < end; ++row) {
            nonzeros.read(x, row);
            hash(nonzeros, codes.data());
            put_codes(out, row, codes.data());
        }
    });
}

}  // namespace hashfold
