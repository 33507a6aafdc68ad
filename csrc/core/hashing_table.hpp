// What hashing needs from each instruction set.
#pragma once

#include "hashing.hpp"
#include "isa.hpp"

namespace hashfold {

inline constexpr int64_t kMaxLanes = 16;             // floats in the widest vector
inline constexpr int64_t kMaxBlock = 4 * kMaxLanes;  // rows of a transposed block

// Sign bits of a row, 32 to a word, bit h of the row in word h / 32.
inline constexpr int64_t sign_words(int64_t hashes) {
    return (hashes + 31) / 32;
}

struct HashingTable {
    // Rows [begin, end) to zeroed words (end - begin, sign_words); scratch holds
    // max((dim + 1) * 2 * kMaxLanes, hashes) floats.
    void (*signs_dense)(Matrix<const float> x, Matrix<const float> projection, uint32_t* words, float* scratch,
                        int64_t begin, int64_t end);
    void (*signs_sparse)(const Csr<float>& x, Matrix<const float> projection, uint32_t* words, float* scratch,
                         int64_t begin, int64_t end);
    // As signs_dense; scratch holds dim * kMaxBlock floats.
    void (*list_signs_dense)(Matrix<const float> x, const SignLists& by_hash, uint32_t* words, float* scratch,
                             int64_t begin, int64_t end);
    // codes (end - begin, bins), -1 where a bin is empty; scratch holds dim * kMaxBlock floats.
    void (*wta_dense)(Matrix<const float> x, const WtaBins& bins, int32_t* codes, float* scratch, int64_t begin,
                      int64_t end);
    // Consistent samples of one row with `count` nonzeros: keys are random in (seed, feature), logs the
    // logarithms of the values.
    void (*consistent_samples)(const uint64_t* keys, const double* logs, int64_t count, int32_t* codes,
                               int64_t hashes);
    bool (*valid)(const float* values, int64_t begin, int64_t end, bool refuse_negative);
};

HASHFOLD_DISPATCH(HashingTable, hashing_table)

}  // namespace hashfold
