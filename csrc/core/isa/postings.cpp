#include "../postings_table.hpp"
#include "../simd.hpp"

namespace hashfold::HASHFOLD_ISA {
namespace {

using Ints = Vec<int32_t>;

HF_INLINE bool any(Ints mask) {
    uint64_t words[HASHFOLD_VECTOR_BYTES / 8], all = 0;
    std::memcpy(words, &mask, sizeof mask);
    for (uint64_t word : words) all |= word;
    return all != 0;
}

int64_t sweep(const Sums& of, float limit, int32_t* over, int64_t* met) {
    constexpr int width = kWidth<float>;
    Ints above{};
    int64_t count = 0, i = 0;
    for (; i + width <= of.rows; i += width) {
        const Vec<float> sums = load(of.sums + i);
        const Vec<float> scores = of.scales ? sums * load(of.scales + i) : sums;
        above -= (Ints)(sums > 0.0f);
        if (!any((Ints)(scores > limit))) continue;
        for (int lane = 0; lane < width; ++lane)
            if (scores[lane] > limit) over[count++] = static_cast<int32_t>(i + lane);
    }
    *met += sum<int32_t>(above);
    for (; i < of.rows; ++i) {
        *met += of.sums[i] > 0.0f;
        if (of.sums[i] * (of.scales ? of.scales[i] : 1.0f) > limit) over[count++] = static_cast<int32_t>(i);
    }
    return count;
}

}  // namespace

const PostingsTable& postings_table() {
    static constexpr PostingsTable table{sweep};
    return table;
}

}  // namespace hashfold::HASHFOLD_ISA
