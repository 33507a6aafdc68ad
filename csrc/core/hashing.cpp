#include "hashing.hpp"

#include <atomic>
#include <vector>

#include "hashing_output.hpp"
#include "hashing_table.hpp"
#include "parallel.hpp"

namespace hashfold {
namespace {

constexpr int64_t kRowGrain = 64;

int64_t row_count(const HashRows& x) {
    return x.dense.data ? x.dense.rows : x.sparse.rows;
}

}  // namespace

void simhash(const HashRows& x, Matrix<const float> projection, const HashOutput& out) {
    const int64_t words = sign_words(projection.cols);
    const int64_t scratch_floats = std::max((projection.rows + 1) * 2 * kMaxLanes, projection.cols);
    parallel_chunks(row_count(x), kRowGrain, [&](int64_t begin, int64_t end, int) {
        std::vector<float> scratch(scratch_floats);
        std::vector<uint32_t> signs((end - begin) * words + 1);
        if (x.dense.data)
            hashing_table().signs_dense(x.dense, projection, signs.data(), scratch.data(), begin, end);
        else
            hashing_table().signs_sparse(x.sparse, projection, signs.data(), scratch.data(), begin, end);
        for (int64_t i = begin; i < end; ++i) put_signs(out, i, signs.data() + (i - begin) * words);
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
