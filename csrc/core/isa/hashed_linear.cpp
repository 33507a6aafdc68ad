#include "../hashed_linear_table.hpp"
#include "../simd.hpp"

namespace hashfold::HASHFOLD_ISA {
namespace {

// The finaliser of MurmurHash3 (Appleby).
void mix(const int32_t* ids, int64_t count, uint32_t salt, uint32_t* keys) {
    for (int64_t k = 0; k < count; ++k) {
        uint32_t h = static_cast<uint32_t>(ids[k]) + salt;
        h = (h ^ (h >> 16)) * 0x85EBCA6Bu;
        h = (h ^ (h >> 13)) * 0xC2B2AE35u;
        keys[k] = h ^ (h >> 16);
    }
}

// Both keys are mixed, so that one multiplication more makes the places of two features in one block
// independent of those in another.
HF_INLINE uint32_t hash_of(uint32_t feature_key, uint32_t output_key) {
    return (feature_key ^ output_key) * 0x9E3779B1u;
}

HF_INLINE void find_places(const uint32_t* keys, int64_t count, const BlockHash& hash, uint32_t* places) {
    const uint64_t size = hash.size;
    if (hash.identity)
        for (int64_t k = 0; k < count; ++k) places[k] = keys[k];
    else
        for (int64_t k = 0; k < count; ++k)
            places[k] = static_cast<uint32_t>((hash_of(keys[k], hash.key) * size) >> 32);
}

// The values with their signs: the values themselves, or `room` filled.
template <class T>
HF_INLINE const T* signed_values(const uint32_t* keys, const T* values, int64_t count, const BlockHash& hash,
                                 T* room) {
    if (!hash.sign) return values;
    for (int64_t k = 0; k < count; ++k) {
        const uint32_t h = hash_of(keys[k], hash.key);
        room[k] = ((h >> 15) ^ h) & 1 ? -values[k] : values[k];
    }
    return room;
}

HF_INLINE BlockHash block_hash(const RowPairs& pairs, int64_t j, const HashedLayout& layout) {
    return {pairs.keys[j], static_cast<uint32_t>(layout.sizes[pairs.ids[j]]), layout.sign, layout.identity};
}

// Four sums, because the additions of one would wait for each other.
template <class T, class At>
HF_INLINE T four_sums(const T* values, int64_t count, At at) {
    T s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    int64_t k = 0;
    for (; k + 4 <= count; k += 4) {
        s0 += values[k] * at(k);
        s1 += values[k + 1] * at(k + 1);
        s2 += values[k + 2] * at(k + 2);
        s3 += values[k + 3] * at(k + 3);
    }
    for (; k < count; ++k) s0 += values[k] * at(k);
    return (s0 + s1) + (s2 + s3);
}

// The places of the next pair are found, and asked for, before this one's are read.
template <class T, class Bucket>
void scores(const MixedRow<T>& row, const RowPairs& pairs, const HashedLayout& layout, const Bucket* buckets,
            const float* scales, const T* bias, PlaceScratch<T> scratch, T* out) {
    uint32_t *now = scratch.places, *next = scratch.places + row.count;
    for (int64_t j = -1; j < pairs.count; ++j) {
        if (j + 1 < pairs.count) {
            const BlockHash hash = block_hash(pairs, j + 1, layout);
            const Bucket* block = buckets + layout.offsets[pairs.ids[j + 1]];
            find_places(row.keys, row.count, hash, next);
            for (int64_t k = 0; k < row.count; ++k) __builtin_prefetch(block + next[k]);
        }
        if (j >= 0) {
            const int32_t id = pairs.ids[j];
            const BlockHash hash = block_hash(pairs, j, layout);
            const Bucket* block = buckets + layout.offsets[id];
            const T* values = signed_values(row.keys, row.values, row.count, hash, scratch.values);
            const T sum =
                hash.size ? four_sums(values, row.count, [&](int64_t k) { return T(block[now[k]]); }) : 0;
            out[j] = (scales ? T(scales[id]) * sum : sum) + (bias ? bias[id] : T(0));
        }
        uint32_t* const used = now;
        now = next;
        next = used;
    }
}

template <class T>
void grad_values(const MixedRow<T>& row, const RowPairs& pairs, const HashedLayout& layout, const T* buckets,
                 const T* grad_out, PlaceScratch<T> scratch, T* grad) {
    for (int64_t k = 0; k < row.count; ++k) grad[k] = 0;
    for (int64_t k = 0; k < row.count; ++k) scratch.values[k] = 1;
    for (int64_t j = 0; j < pairs.count; ++j) {
        const BlockHash hash = block_hash(pairs, j, layout);
        if (!hash.size) continue;
        const T* block = buckets + layout.offsets[pairs.ids[j]];
        find_places(row.keys, row.count, hash, scratch.places);
        const T* signs = signed_values(row.keys, scratch.values, row.count, hash, scratch.values + row.count);
        for (int64_t k = 0; k < row.count; ++k) grad[k] += grad_out[j] * (signs[k] * block[scratch.places[k]]);
    }
}

template <class T>
void grad_buckets(const MixedRow<T>& row, const RowPairs& pairs, const HashedLayout& layout, const T* grad_out,
                  PlaceScratch<T> scratch, T* grad, int64_t begin, int64_t end) {
    for (int64_t j = 0; j < pairs.count; ++j) {
        const BlockHash hash = block_hash(pairs, j, layout);
        const int64_t offset = layout.offsets[pairs.ids[j]];
        if (!hash.size || offset >= end || offset + hash.size <= begin) continue;
        find_places(row.keys, row.count, hash, scratch.places);
        const T* values = signed_values(row.keys, row.values, row.count, hash, scratch.values);
        for (int64_t k = 0; k < row.count; ++k) {
            const int64_t at = offset + scratch.places[k];
            if (at >= begin && at < end) grad[at] += grad_out[j] * values[k];
        }
    }
}

// The loss's derivative by the score.
HF_INLINE float slope_of(FitLoss loss, float score, bool positive, double* total) {
    if (loss == FitLoss::logistic) {
        const float toward = positive ? -score : score;
        if (total)
            *total += (toward > 0 ? toward : 0) + __builtin_log1pf(__builtin_expf(toward > 0 ? -toward : toward));
        return 1.0f / (1.0f + __builtin_expf(-score)) - (positive ? 1.0f : 0.0f);
    }
    const float missing = 1.0f - (positive ? score : -score);
    if (!(missing > 0)) return missing <= 0 ? 0 : missing;  // NaN stays NaN
    if (total) *total += 0.5 * missing * missing;
    return positive ? -missing : missing;
}

// w -= lr * d / sqrt(g + 1e-6) with g += d^2: Adagrad (Duchi, Hazan, Singer 2011). Two features in one bucket
// both add to its sum, each moves it by the sum that it left; roots and divisions are taken side by side.
HF_INLINE void move(const float* values, int64_t count, float slope, const FitStep& step, Trained* block,
                    const FitScratch& scratch) {
    float *const gradients = scratch.gradients, *const squares = scratch.squares;
    for (int64_t k = 0; k < count; ++k) {
        Trained& at = block[scratch.places[k]];
        const float d = slope * values[k] + step.l2 * at.weight;
        at.squares += d * d;
        gradients[k] = d;
        squares[k] = at.squares;
    }
    for (int64_t k = 0; k < count; ++k)
        gradients[k] = step.lr * gradients[k] / __builtin_sqrtf(squares[k] + 1e-6f);
    for (int64_t k = 0; k < count; ++k) block[scratch.places[k]].weight -= gradients[k];
}

HF_INLINE void prefetch_next(const Csr<float>& x, const uint32_t* keys, int32_t row) {
    const int64_t at = x.indptr[row];
    prefetch_bytes(keys + at, 256);
    prefetch_bytes(x.values + at, 256);
}

double fit_epoch(const Csr<float>& x, const uint32_t* keys, const LabelPairs& pairs, const BlockHash& hash,
                 const FitStep& step, Trained* block, Trained* bias, const FitScratch& scratch) {
    double total = 0;
    for (int64_t q = 0; q < pairs.count; ++q) {
        const uint32_t pair = pairs.order[q];
        if (q + 1 < pairs.count) prefetch_next(x, keys, pairs.rows[pairs.order[q + 1]]);
        const int64_t first = x.indptr[pairs.rows[pair]], count = x.indptr[pairs.rows[pair] + 1] - first;
        find_places(keys + first, count, hash, scratch.places);
        const float* values = signed_values(keys + first, x.values + first, count, hash, scratch.values);
        const float score =
            bias->weight + four_sums(values, count, [&](int64_t k) { return block[scratch.places[k]].weight; });
        const float slope =
            slope_of(step.loss, score, pairs.targets[pair] > 0.5f, step.measured ? &total : nullptr);
        if (slope < 1e-6f && slope > -1e-6f) continue;
        bias->squares += slope * slope;
        bias->weight -= step.bias_lr * slope / __builtin_sqrtf(bias->squares + 1e-6f);
        move(values, count, slope, step, block, scratch);
    }
    return total;
}

}  // namespace

const HashedLinearTable& hashed_linear_table() {
    static constexpr HashedLinearTable table{mix,
                                             scores<float, float>,
                                             scores<double, double>,
                                             scores<float, int8_t>,
                                             {grad_values<float>, grad_buckets<float>},
                                             {grad_values<double>, grad_buckets<double>},
                                             fit_epoch};
    return table;
}

}  // namespace hashfold::HASHFOLD_ISA
