#include "../postings_table.hpp"
#include "../simd.hpp"

namespace hashfold::HASHFOLD_ISA {
namespace {

constexpr int64_t kAhead = 4;  // strips prefetched ahead: more streams than the machine follows by itself

using Ints = Vec<int32_t>;

// The largest of numbers at least 0: their bits, as integers, are in the same order, and integers have no NaN
// that would keep the compiler from halving.
HF_INLINE float largest(Vec<float> v) {
    int32_t bits[kWidth<float>];
    std::memcpy(bits, &v, sizeof v);
    for (int half = kWidth<float> / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) bits[i] = most(bits[i], bits[i + half]);
    float answer;
    std::memcpy(&answer, bits, sizeof answer);
    return answer;
}

void add_columns(const WeightedBytes* columns, int64_t count, float* sums, int64_t rows) {
    constexpr int width = kWidth<float>, groups = 4;
    static_assert(kStripRows == groups * 16 && 16 % width == 0);
    for (int64_t strip = 0; strip < rows; strip += kStripRows)
        for (int64_t lane = 0; lane < 16; lane += width) {
            Vec<float> totals[groups]{};
            for (int64_t c = 0; c < count; ++c) {
                __builtin_prefetch(columns[c].bytes + strip + kAhead * kStripRows);
                Vec<uint32_t> words;
                std::memcpy(&words, columns[c].bytes + strip + 4 * lane, sizeof words);
                for (int g = 0; g < groups; ++g) {
                    const Ints bytes = (Ints)(words >> (8 * g) & 255u);
                    totals[g] += __builtin_convertvector(bytes, Vec<float>) * columns[c].weight;
                }
            }
            for (int g = 0; g < groups; ++g) store(sums + strip + 16 * g + lane, totals[g]);
        }
}

void best_of_strips(const Sums& of, float* best, float* lanes, int64_t* met) {
    constexpr int width = kWidth<float>, vectors = kStripLanes / width;
    static_assert(kStripLanes % width == 0);
    Ints above{};
    int64_t strip = 0;
    for (; strip + kStripRows <= of.rows; strip += kStripRows) {
        Vec<float> tops[vectors]{};
        for (int64_t i = strip; i < strip + kStripRows; i += kStripLanes)
            for (int v = 0; v < vectors; ++v) {
                const Vec<float> sums = load(of.sums + i + v * width);
                const Vec<float> scores = of.scales ? sums * load(of.scales + i + v * width) : sums;
                above -= (Ints)(sums > 0.0f);
                tops[v] = scores > tops[v] ? scores : tops[v];
            }
        Vec<float> top = tops[0];
        for (int v = 0; v < vectors; ++v) {
            if (lanes) store(lanes + strip / kStripRows * kStripLanes + v * width, tops[v]);
            top = tops[v] > top ? tops[v] : top;
        }
        best[strip / kStripRows] = largest(top);
    }
    *met += sum<int32_t>(above);
    if (strip == of.rows) return;
    float top = 0, rest[kStripLanes]{};
    for (int64_t i = strip; i < of.rows; ++i) {
        const float score = of.sums[i] * (of.scales ? of.scales[i] : 1.0f);
        *met += of.sums[i] > 0.0f;
        top = most(top, score);
        rest[i % kStripLanes] = most(rest[i % kStripLanes], score);
    }
    best[strip / kStripRows] = top;
    if (lanes) std::memcpy(lanes + strip / kStripRows * kStripLanes, rest, sizeof rest);
}

HF_INLINE bool any(Ints mask) {
    uint64_t words[HASHFOLD_VECTOR_BYTES / 8], all = 0;
    std::memcpy(words, &mask, sizeof mask);
    for (uint64_t word : words) all |= word;
    return all != 0;
}

int64_t above_in_strip(const Sums& of, int64_t begin, float limit, int32_t* places) {
    constexpr int width = kWidth<float>;
    const int64_t end = least(of.rows, begin + kStripRows);
    int64_t count = 0, i = begin;
    for (; i + width <= end; i += width) {
        const Vec<float> sums = load(of.sums + i);
        const Vec<float> scores = of.scales ? sums * load(of.scales + i) : sums;
        const Ints mask = (Ints)(scores > limit);
        if (!any(mask)) continue;
        int32_t passed[width];
        std::memcpy(passed, &mask, sizeof mask);
        for (int lane = 0; lane < width; ++lane) {  // no branch: which lanes pass cannot be foreseen
            places[count] = static_cast<int32_t>(i + lane);
            count -= passed[lane];
        }
    }
    for (; i < end; ++i)
        if (of.sums[i] * (of.scales ? of.scales[i] : 1.0f) > limit) places[count++] = static_cast<int32_t>(i);
    return count;
}

}  // namespace

const PostingsTable& postings_table() {
    static constexpr PostingsTable table{add_columns, best_of_strips, above_in_strip};
    return table;
}

}  // namespace hashfold::HASHFOLD_ISA
