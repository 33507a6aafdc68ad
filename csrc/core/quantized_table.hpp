// What rows in 8 bits need from each instruction set.
#pragma once

#include "isa.hpp"
#include "quantized.hpp"
#include "topk.hpp"
#include "topk_table.hpp"

namespace hashfold {

// A panel of queries: in `codes`, group k of four features is one vector (or two) of queries, four bytes each.
struct QuantizedPanel {
    const uint8_t* codes;
    const float* scales;
    const int32_t* zeros;
    int vectors;
};

struct QuantizedTable {
    void (*quantize_row)(const float* x, int64_t cols, int8_t* codes, float* scale, int32_t* sum);
    void (*dequantize_row)(const int8_t* codes, float scale, int64_t cols, float* x);
    void (*quantize_query)(const float* x, int64_t cols, uint8_t* codes, float* scale, int32_t* zero);

    // As those of TopKTable; panels have its width.
    int64_t (*tile)(const QuantizedPanel& panel, const QuantizedItems& items, const int32_t* ids, int64_t first,
                    int64_t count, const float* thresholds, Hit* hits);
    void (*scores)(const QuantizedQuery& x, const QuantizedItems& items, const int32_t* ids, int64_t first,
                   int64_t count, float* scores);
};

HASHFOLD_DISPATCH(QuantizedTable, quantized_table)

}  // namespace hashfold
