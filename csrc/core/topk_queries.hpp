// Queries as the scans of topk.cpp take them: of 32-bit floats, or of 8 bits for items in 8 bits.
//
// Either kind gives the scores of one query, and packs panels of queries, feature-major, for the tiles.
#pragma once

#include <limits>
#include <vector>

#include "quantized_table.hpp"
#include "topk_table.hpp"

namespace hashfold {

// A run of items: given ids, or [first, first + count).
struct ItemRun {
    const int32_t* ids;
    int64_t first;
    int64_t count;

    ItemRun part(int64_t at, int64_t most) const {
        return {ids ? ids + at : nullptr, first + at, count - at < most ? count - at : most};
    }
};

// What panels of both kinds have: one or two vectors of queries, and a threshold for each.
struct PanelBase {
    std::vector<float> thresholds;
    int vectors = 0;

    int64_t resize(int64_t count) {  // returns the lanes
        const int64_t width = topk_table().width;
        vectors = count <= width ? 1 : 2;
        thresholds.assign(vectors * width, std::numeric_limits<float>::infinity());  // the padding never hits
        return vectors * width;
    }
};

class FloatQueries {
  public:
    explicit FloatQueries(Matrix<const float> x) : x_(x) {}

    int64_t rows() const { return x_.rows; }

    void scores(int64_t query, const Items& items, const ItemRun& run, float* out) const {
        topk_table().scores(x_.row(query), items, run.ids, run.first, run.count, out);
    }

    // Queries first + rows[0..count), padded with zeros to whole vectors.
    struct Panel : PanelBase {
        std::vector<float> values;

        void pack(const FloatQueries& queries, int64_t first, const int32_t* rows, int64_t count) {
            const int64_t lanes = resize(count), cols = queries.x_.cols;
            values.assign(lanes * cols, 0.0f);
            for (int64_t q = 0; q < count; ++q) {
                const float* row = queries.x_.row(first + rows[q]);
                for (int64_t k = 0; k < cols; ++k) values[k * lanes + q] = row[k];
            }
        }

        int64_t tile(const Items& items, const ItemRun& run, Hit* hits) const {
            return topk_table().tile(values.data(), vectors, items, run.ids, run.first, run.count,
                                     thresholds.data(), hits);
        }
    };

  private:
    Matrix<const float> x_;
};

class QuantizedQueries {
  public:
    explicit QuantizedQueries(Matrix<const float> x)
        : codes_(x.rows * x.cols), scales_(x.rows), zeros_(x.rows), rows_(x.rows), cols_(x.cols) {
        quantize_queries(x, {codes_.data(), rows_, cols_}, scales_.data(), zeros_.data());
    }

    int64_t rows() const { return rows_; }

    void scores(int64_t query, const QuantizedItems& items, const ItemRun& run, float* out) const {
        quantized_table().scores({codes_.data() + query * cols_, scales_[query], zeros_[query]}, items, run.ids,
                                 run.first, run.count, out);
    }

    struct Panel : PanelBase {
        std::vector<uint8_t> codes;
        std::vector<float> scales;
        std::vector<int32_t> zeros;

        void pack(const QuantizedQueries& queries, int64_t first, const int32_t* rows, int64_t count) {
            const int64_t lanes = resize(count), cols = queries.cols_;
            codes.assign(lanes * ((cols + 3) / 4 * 4), 0);
            scales.assign(lanes, 0.0f);
            zeros.assign(lanes, 0);
            for (int64_t q = 0; q < count; ++q) {
                const int64_t query = first + rows[q];
                const uint8_t* row = queries.codes_.data() + query * cols;
                for (int64_t k = 0; k < cols; ++k) codes[(k / 4 * lanes + q) * 4 + k % 4] = row[k];
                scales[q] = queries.scales_[query];
                zeros[q] = queries.zeros_[query];
            }
        }

        int64_t tile(const QuantizedItems& items, const ItemRun& run, Hit* hits) const {
            return quantized_table().tile({codes.data(), scales.data(), zeros.data(), vectors}, items, run.ids,
                                          run.first, run.count, thresholds.data(), hits);
        }
    };

  private:
    std::vector<uint8_t> codes_;
    std::vector<float> scales_;
    std::vector<int32_t> zeros_;
    int64_t rows_, cols_;
};

}  // namespace hashfold
