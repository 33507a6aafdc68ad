#include "../quantized_table.hpp"
#include "../simd.hpp"
#include "dot8.hpp"
#include "hits.hpp"

namespace hashfold::HASHFOLD_ISA {
namespace {

typedef int8_t Codes __attribute__((vector_size(HASHFOLD_VECTOR_BYTES / 4)));
typedef uint8_t QueryCodes __attribute__((vector_size(HASHFOLD_VECTOR_BYTES / 4)));

constexpr int kLanes = kWidth<float>;
constexpr int kGroup = HASHFOLD_VECTOR_BYTES == 64 ? 12 : 4;  // items at a time: 2 vectors of sums each
constexpr int64_t kAhead = 12;

// To the nearest whole number, ties to even, for |x| < 2^22.
template <class T>
HF_INLINE T nearest(T x) {
    return (x + 12582912.0f) - 12582912.0f;
}

template <class T>
HF_INLINE T clamp(T x, T low, T high) {
    return x < low ? low : (x > high ? high : x);
}

// body(values) -> codes of x[0..cols) by whole vectors; the last ones are padded with zeros.
template <class CodeVec, class Code, class Body>
HF_INLINE void map_row(const float* x, int64_t cols, Code* codes, const Body& body) {
    int64_t k = 0;
    for (; k + kLanes <= cols; k += kLanes) {
        const CodeVec out = body(load(x + k));
        std::memcpy(codes + k, &out, sizeof out);
    }
    if (k == cols) return;
    float rest[kLanes] = {};
    std::memcpy(rest, x + k, (cols - k) * sizeof(float));
    const CodeVec out = body(load(rest));
    std::memcpy(codes + k, &out, cols - k);
}

struct Range {
    float low = 0.0f, high = 0.0f;
};

HF_INLINE Range range_with_zero(const float* x, int64_t cols) {
    Vec<float> low{}, high{};
    int64_t k = 0;
    for (; k + kLanes <= cols; k += kLanes) {
        const Vec<float> v = load(x + k);
        low = v < low ? v : low;
        high = v > high ? v : high;
    }
    Range range;
    for (int lane = 0; lane < kLanes; ++lane) range = {least(range.low, low[lane]), most(range.high, high[lane])};
    for (; k < cols; ++k) range = {least(range.low, x[k]), most(range.high, x[k])};
    return range;
}

void quantize_row(const float* x, int64_t cols, int8_t* codes, float* scale, int32_t* sum) {
    const Range range = range_with_zero(x, cols);
    uint32_t bits;
    float step = most(-range.low, range.high) / 127.0f;
    std::memcpy(&bits, &step, sizeof bits);
    bits &= ~uint32_t{0xff};
    std::memcpy(&step, &bits, sizeof bits);
    *scale = step;
    if (step == 0.0f) step = 1.0f;
    Vec<int32_t> sums{};
    map_row<Codes>(x, cols, codes, [&](Vec<float> v) {
        const Vec<float> code = nearest(clamp(v / step, splat(-127.0f), splat(127.0f)));
        const Vec<int32_t> whole = __builtin_convertvector(code, Vec<int32_t>);
        sums += whole;
        return __builtin_convertvector(whole, Codes);
    });
    *sum = lane_sum(sums);
}

void dequantize_row(const int8_t* codes, float scale, int64_t cols, float* x) {
    int64_t k = 0;
    for (; k + kLanes <= cols; k += kLanes) {
        Codes in;
        std::memcpy(&in, codes + k, sizeof in);
        store(x + k, __builtin_convertvector(in, Vec<float>) * scale);
    }
    for (; k < cols; ++k) x[k] = static_cast<float>(codes[k]) * scale;
}

void quantize_query(const float* x, int64_t cols, uint8_t* codes, float* scale, int32_t* zero) {
    const Range range = range_with_zero(x, cols);
    float step = range.high / 255.0f - range.low / 255.0f;
    *scale = step;
    if (step == 0.0f) step = 1.0f;
    const float origin = nearest(least(-range.low / step, 255.0f));
    *zero = static_cast<int32_t>(origin);
    map_row<QueryCodes>(x, cols, codes, [&](Vec<float> v) {
        const Vec<float> offset = nearest(clamp(v / step, splat(-255.0f), splat(255.0f)));
        const Vec<float> code = clamp(offset + origin, splat(0.0f), splat(255.0f));
        return __builtin_convertvector(__builtin_convertvector(code, Vec<int32_t>), QueryCodes);
    });
}

HF_INLINE int32_t four(const int8_t* codes, int64_t count = 4) {
    int32_t word = 0;
    std::memcpy(&word, codes, count);
    return word;
}

// Scores of G items for V vectors of queries: four codes of an item are broadcast against all queries.
template <int G, int V>
HF_INLINE int64_t group(const QuantizedPanel& panel, const QuantizedItems& items, const int64_t* at,
                        const float* thresholds, Hit* hits) {
    const int64_t cols = items.rows.codes.cols, whole = cols / 4;
    const int8_t* rows[G];
    Vec<int32_t> sums[G][V];
#pragma GCC unroll 12
    for (int g = 0; g < G; ++g) {
        rows[g] = items.rows.codes.row(at[g]);
        for (int v = 0; v < V; ++v) sums[g][v] = load(panel.zeros + v * kLanes) * -items.rows.sums[at[g]];
    }
    const auto add = [&](int64_t k, int64_t count) __attribute__((always_inline)) {
        Vec<int32_t> queries[V];
        for (int v = 0; v < V; ++v)
            std::memcpy(&queries[v], panel.codes + (k * V + v) * HASHFOLD_VECTOR_BYTES, sizeof queries[v]);
#pragma GCC unroll 12
        for (int g = 0; g < G; ++g) {
            const Vec<int32_t> codes = splat(four(rows[g] + 4 * k, count));
            for (int v = 0; v < V; ++v) sums[g][v] = dot4(sums[g][v], queries[v], codes);
        }
    };
    for (int64_t k = 0; k < whole; ++k) add(k, 4);
    if (4 * whole < cols) add(whole, cols - 4 * whole);
    Vec<float> scores[G][V];
#pragma GCC unroll 12
    for (int g = 0; g < G; ++g) {
        const float bias = items.bias ? items.bias[at[g]] : 0.0f;
        for (int v = 0; v < V; ++v)
            scores[g][v] = __builtin_convertvector(sums[g][v], Vec<float>) *
                               (load(panel.scales + v * kLanes) * items.rows.scales[at[g]]) +
                           bias;
    }
    return collect<G, V>(scores, at, thresholds, hits);
}

template <int V>
int64_t tile_of(const QuantizedPanel& panel, const QuantizedItems& items, const int32_t* ids, int64_t first,
                int64_t count, const float* thresholds, Hit* hits) {
    const Matrix<const int8_t>& codes = items.rows.codes;
    int64_t n = 0, j = 0;
    for (; j + kGroup <= count; j += kGroup) {
        int64_t at[kGroup];
        for (int g = 0; g < kGroup; ++g) {
            at[g] = item_at(ids, first, j + g);
            if (ids && j + kGroup + g < count) prefetch_bytes(codes.row(ids[j + kGroup + g]), codes.cols);
        }
        n += group<kGroup, V>(panel, items, at, thresholds, hits + n);
    }
    for (; j < count; ++j) {
        const int64_t at = item_at(ids, first, j);
        n += group<1, V>(panel, items, &at, thresholds, hits + n);
    }
    return n;
}

int64_t tile(const QuantizedPanel& panel, const QuantizedItems& items, const int32_t* ids, int64_t first,
             int64_t count, const float* thresholds, Hit* hits) {
    return panel.vectors == 1 ? tile_of<1>(panel, items, ids, first, count, thresholds, hits)
                              : tile_of<2>(panel, items, ids, first, count, thresholds, hits);
}

HF_INLINE Vec<int32_t> bytes(const void* from, int64_t count = HASHFOLD_VECTOR_BYTES) {
    Vec<int32_t> v{};
    std::memcpy(&v, from, count);
    return v;
}

HF_INLINE int32_t dot(const uint8_t* x, const int8_t* codes, int64_t cols) {
    Vec<int32_t> sums{};
    int64_t k = 0;
    for (; k + HASHFOLD_VECTOR_BYTES <= cols; k += HASHFOLD_VECTOR_BYTES)
        sums = dot4(sums, bytes(x + k), bytes(codes + k));
    if (k < cols) sums = dot4(sums, bytes(x + k, cols - k), bytes(codes + k, cols - k));
    return lane_sum(sums);
}

void scores(const QuantizedQuery& x, const QuantizedItems& items, const int32_t* ids, int64_t first, int64_t count,
            float* out) {
    const Matrix<const int8_t>& codes = items.rows.codes;
    for (int64_t j = 0; j < count; ++j) {
        if (ids && j + kAhead < count) prefetch_bytes(codes.row(ids[j + kAhead]), codes.cols);
        const int64_t at = item_at(ids, first, j);
        const int32_t sum = dot(x.codes, codes.row(at), codes.cols) - x.zero * items.rows.sums[at];
        out[j] =
            static_cast<float>(sum) * (x.scale * items.rows.scales[at]) + (items.bias ? items.bias[at] : 0.0f);
    }
}

}  // namespace

const QuantizedTable& quantized_table() {
    static constexpr QuantizedTable table{quantize_row, dequantize_row, quantize_query, tile, scores};
    return table;
}

}  // namespace hashfold::HASHFOLD_ISA
