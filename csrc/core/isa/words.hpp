// Products of packed words: a word is one float, or a pair of bfloat16 whose products are summed in fp32.
//
// C (rows x columns) += A (rows x depth) B (depth x columns). A is read word by word with any strides; B lies in
// panels of kPanelColumns columns, word row after word row, which a tile reads from the first-level cache.
#pragma once

#include "../simd.hpp"

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace hashfold::HASHFOLD_ISA {

typedef Vec<uint32_t> Words;
inline constexpr int kLanes = kWidth<float>;
inline constexpr int64_t kPanelColumns = 2 * kLanes;
// Words summed in one go: a panel of this depth is half of a first-level cache.
inline constexpr int64_t kWordDepth = 128;

HF_INLINE Vec<float> as_floats(Words v) {
    return (Vec<float>)v;
}
HF_INLINE Words as_words(Vec<float> v) {
    return (Words)v;
}

struct Fp32 {
    static constexpr int64_t kPerWord = 1;
    static HF_INLINE Vec<float> add_product(Vec<float> sum, Words a, Words b) {
        return sum + as_floats(a) * as_floats(b);
    }
    // kLanes words from consecutive values of one row.
    static HF_INLINE Words along(const float* from) { return as_words(load(from)); }
    // Word l is column l of a row (of a pair of rows, `second` null for zeros).
    static HF_INLINE Words across(const float* first, const float*) { return along(first); }
};

// Where there is no instruction for pairs: values rounded to bfloat16, one a word, multiplied as floats. The same
// results but for the order of summation.
struct RoundedFp32 : Fp32 {
    static HF_INLINE Words round(Vec<float> v) {
        const Words bits = as_words(v);
        const Words rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) & 0xFFFF0000u;  // to nearest, ties to even
        return v == v ? rounded : bits;
    }
    static HF_INLINE Words along(const float* from) { return round(load(from)); }
    static HF_INLINE Words across(const float* first, const float*) { return along(first); }
};

#if defined(__AVX512BF16__)
struct Bf16 {
    static constexpr int64_t kPerWord = 2;
    static HF_INLINE Vec<float> add_product(Vec<float> sum, Words a, Words b) {
        return (Vec<float>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
    }
    static HF_INLINE Words along(const float* from) {
        return (Words)_mm512_cvtne2ps_pbh((__m512)load(from + kLanes), (__m512)load(from));
    }
    static HF_INLINE Words across(const float* first, const float* second) {
        const Vec<float> high = second ? load(second) : Vec<float>{};
        const __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)load(first));
        const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7,
                                               22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
        return (Words)_mm512_permutexvar_epi16(order, both);
    }
};
#else
using Bf16 = RoundedFp32;
#endif

template <class P>
HF_INLINE int64_t words_of(int64_t values) {
    return (values + P::kPerWord - 1) / P::kPerWord;
}

// kLanes words from the values [at, count) of a row, zeros behind them.
template <class P>
HF_INLINE Words words_along(const float* row, int64_t at, int64_t count) {
    constexpr int64_t values = P::kPerWord * kLanes;
    if (at + values <= count) return P::along(row + at);
    float part[values] = {};
    for (int64_t i = at; i < count; ++i) part[i - at] = row[i];
    return P::along(part);
}

// Columns [at, at + kLanes) of a pair of rows, zeros behind column `count`.
template <class P>
HF_INLINE Words words_across(const float* first, const float* second, int64_t at, int64_t count) {
    if (at + kLanes <= count) return P::across(first + at, second ? second + at : nullptr);
    float parts[2][kLanes] = {};
    for (int64_t i = at; i < count; ++i) {
        parts[0][i - at] = first[i];
        if (second) parts[1][i - at] = second[i];
    }
    return P::across(parts[0], parts[1]);
}

// One word row of a panel: columns [at, at + kPanelColumns) of a pair of rows.
template <class P>
HF_INLINE void panel_row(const float* first, const float* second, int64_t at, int64_t count, uint32_t* panel) {
    store(panel, words_across<P>(first, second, at, count));
    store(panel + kLanes, at + kLanes < count ? words_across<P>(first, second, at + kLanes, count) : Words{});
}

// Lane k of v[i] and lane i of v[k] change places: of the bits of (i, k), one a stage.
template <int Stage>
HF_INLINE void transpose_from(Words* v) {
    if constexpr (Stage < kLanes) {
        Words take_low, take_high;
        for (int l = 0; l < kLanes; ++l) {
            take_low[l] = l & Stage ? kLanes + l - Stage : l;
            take_high[l] = l & Stage ? kLanes + l : l + Stage;
        }
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i)
            if (!(i & Stage)) {
                const Words a = v[i], b = v[i + Stage];
#if defined(__clang__)
                for (int l = 0; l < kLanes; ++l) {
                    v[i][l] = l & Stage ? b[l - Stage] : a[l];
                    v[i + Stage][l] = l & Stage ? b[l] : a[l + Stage];
                }
#else
                v[i] = __builtin_shuffle(a, b, take_low);
                v[i + Stage] = __builtin_shuffle(a, b, take_high);
#endif
            }
        transpose_from<2 * Stage>(v);
    }
}

inline constexpr int kWordTileRows = HASHFOLD_VECTOR_BYTES == 64 ? 12 : 6;

// The left operand of a tile, in two layouts; both hold rows at strides known to the compiler.
//
// Rows in lines: a line of kLanes words of each of kWordTileRows rows, then their next lines.
struct RowLines {
    static constexpr int64_t kRowStride = kLanes, kLine = kWordTileRows * kLanes;
    const uint32_t* data;
    int64_t depth;  // words of a row, which fill whole lines

    static constexpr int64_t words(int64_t rows, int64_t depth) {
        return (rows + kWordTileRows - 1) / kWordTileRows * kWordTileRows * lines(depth);
    }
    static constexpr int64_t lines(int64_t depth) { return (depth + kLanes - 1) / kLanes * kLanes; }
    // Where the words [k, k + kLanes) of a row lie, k a multiple of kLanes.
    static HF_INLINE int64_t line(int64_t row, int64_t k, int64_t depth) {
        return row / kWordTileRows * kWordTileRows * lines(depth) + k / kLanes * kLine +
               row % kWordTileRows * kLanes;
    }
    // From a row that begins a tile, and a word that begins a line.
    RowLines from(int64_t row, int64_t k) const { return {data + line(row, k, depth), depth}; }
    const uint32_t* column(uint64_t k) const { return data + k / kLanes * kLine + k % kLanes; }
};

// Columns: word k of consecutive rows side by side.
struct WordColumns {
    static constexpr int64_t kRowStride = 1;
    const uint32_t* data;
    int64_t stride;
    WordColumns from(int64_t row, int64_t k) const { return {data + k * stride + row, stride}; }
    const uint32_t* column(int64_t k) const { return data + k * stride; }
};

// V vectors of columns of one panel.
template <class P, int R, int V, class Left>
HF_INLINE void word_tile(Left a, const uint32_t* panel, int64_t depth, float* c, int64_t c_stride, bool add) {
    Vec<float> sums[R][V] = {};
    for (int64_t k = 0; k < depth; ++k) {
        Words b[V];
        for (int v = 0; v < V; ++v) b[v] = load(panel + k * kPanelColumns + v * kLanes);
        const uint32_t* column = a.column(k);
#pragma GCC unroll 12
        for (int r = 0; r < R; ++r) {
            const Words scale = splat(column[r * Left::kRowStride]);
            for (int v = 0; v < V; ++v) sums[r][v] = P::add_product(sums[r][v], scale, b[v]);
        }
    }
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) {
            float* to = c + r * c_stride + v * kLanes;
            store(to, add ? load(to) + sums[r][v] : sums[r][v]);
        }
}

template <class P, int R, int V, class Left>
HF_INLINE void last_word_tile(int64_t rows, Left a, const uint32_t* panel, int64_t depth, float* c,
                              int64_t c_stride, bool add) {
    if constexpr (R > 0) {
        if (rows == R)
            word_tile<P, R, V>(a, panel, depth, c, c_stride, add);
        else
            last_word_tile<P, R - 1, V>(rows, a, panel, depth, c, c_stride, add);
    }
}

// meanwhile() is called once a tile: to prefetch what comes next, a little at a time, so that memory works while
// the products are computed.
template <class P, int V, class Left, class Meanwhile>
HF_INLINE void word_tiles(Left a, int64_t rows, const uint32_t* panel, int64_t depth, float* c, int64_t c_stride,
                          bool add, Meanwhile& meanwhile) {
    int64_t i = 0;
    for (; i + kWordTileRows <= rows; i += kWordTileRows) {
        meanwhile();
        word_tile<P, kWordTileRows, V>(a.from(i, 0), panel, depth, c + i * c_stride, c_stride, add);
    }
    meanwhile();
    last_word_tile<P, kWordTileRows - 1, V>(rows - i, a.from(i, 0), panel, depth, c + i * c_stride, c_stride, add);
}

// C's columns of one panel, of which the first `columns` count: C's rows must have room for them, rounded up to
// whole vectors.
template <class P, class Left, class Meanwhile>
HF_INLINE void panel_product(Left a, int64_t rows, const uint32_t* panel, int64_t depth, float* c,
                             int64_t c_stride, int64_t columns, bool add, Meanwhile& meanwhile) {
    if (columns > kLanes)
        word_tiles<P, 2>(a, rows, panel, depth, c, c_stride, add, meanwhile);
    else
        word_tiles<P, 1>(a, rows, panel, depth, c, c_stride, add, meanwhile);
}

// How often word_tiles calls meanwhile(), and how many chunks of a depth there are.
HF_INLINE int64_t tiles_of(int64_t rows) {
    return rows / kWordTileRows + 1;
}
HF_INLINE int64_t chunks_of(int64_t words) {
    return (words + kWordDepth - 1) / kWordDepth;
}
HF_INLINE int64_t panels_of(int64_t columns) {
    return (columns + kPanelColumns - 1) / kPanelColumns;
}

}  // namespace hashfold::HASHFOLD_ISA
