#include "hashing.hpp"

#include <atomic>
#include <vector>

#include "hashing_rows.hpp"
#include "hashing_table.hpp"

namespace hashfold {
namespace {

// sign_rows(begin, end, words) fills the zeroed sign bits of a chunk of rows.
template <class SignRows>
void hash_signs(const HashRows& x, const HashOutput& out, const SignRows& sign_rows) {
    const int64_t words = sign_words(out.hashes());
    parallel_chunks(row_count(x), kRowGrain, [&](int64_t begin, int64_t end, int) {
        std::vector<uint32_t> signs((end - begin) * words + 1);
        sign_rows(begin, end, signs.data());
        for (int64_t i = begin; i < end; ++i) put_signs(out, i, signs.data() + (i - begin) * words);
    });
}

void list_signs_sparse(const Csr<float>& x, const SignLists& by_feature, int64_t hashes, uint32_t* words,
                       int64_t begin, int64_t end) {
    std::vector<float> sums(hashes);
    for (int64_t i = begin; i < end; ++i, words += sign_words(hashes)) {
        std::fill(sums.begin(), sums.end(), 0.0f);
        for (int64_t j = x.indptr[i]; j < x.indptr[i + 1]; ++j) {
            const float signed_value[2] = {x.values[j], -x.values[j]};
            const int64_t last = by_feature.starts[x.indices[j] + 1];
            for (int64_t k = by_feature.starts[x.indices[j]]; k < last; ++k)
                sums[by_feature.entries[k] >> 1] += signed_value[by_feature.entries[k] & 1];
        }
        for (int64_t h = 0; h < hashes; ++h) words[h / 32] |= static_cast<uint32_t>(sums[h] > 0.0f) << (h % 32);
    }
}

}  // namespace

void simhash(const HashRows& x, Matrix<const float> projection, const HashOutput& out) {
    const int64_t floats = std::max((projection.rows + 1) * 2 * kMaxLanes, projection.cols);
    hash_signs(x, out, [&](int64_t begin, int64_t end, uint32_t* words) {
        std::vector<float> scratch(floats);
        if (x.dense.data)
            hashing_table().signs_dense(x.dense, projection, words, scratch.data(), begin, end);
        else
            hashing_table().signs_sparse(x.sparse, projection, words, scratch.data(), begin, end);
    });
}

void sparse_simhash(const HashRows& x, const SignLists& by_feature, const SignLists& by_hash,
                    const HashOutput& out) {
    hash_signs(x, out, [&](int64_t begin, int64_t end, uint32_t* words) {
        if (!x.dense.data) return list_signs_sparse(x.sparse, by_feature, out.hashes(), words, begin, end);
        std::vector<float> scratch(x.dense.cols * kMaxBlock);
        hashing_table().list_signs_dense(x.dense, by_hash, words, scratch.data(), begin, end);
    });
}

int64_t first_invalid(const float* values, int64_t count, bool refuse_negative) {
    std::atomic<bool> all_valid{true};
    parallel_chunks(count, 1 << 16, [&](int64_t begin, int64_t end, int) {
        if (!hashing_table().valid(values, begin, end, refuse_negative)) all_valid = false;
    });
    if (all_valid) return -1;
    int64_t i = 0;
    while (hashing_table().valid(values, i, i + 1, refuse_negative)) ++i;
    return i;
}

}  // namespace hashfold
