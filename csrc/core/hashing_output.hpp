// From the elementary codes of a row to what the caller asked for.
#pragma once

#include <algorithm>

#include "hashing.hpp"
#include "rng.hpp"

namespace hashfold {

// Codes of row `row`, each in [0, 2^31).
inline void put_codes(const HashOutput& out, int64_t row, const int32_t* codes) {
    if (out.codes) std::copy_n(codes, out.hashes(), out.codes + row * out.hashes());
    if (!out.buckets) return;
    for (int64_t t = 0; t < out.tables; ++t, codes += out.per_table) {
        uint64_t bucket = 0;
        if (out.code_bits > 0) {
            for (int64_t k = 0; k < out.per_table; ++k)
                bucket |= static_cast<uint64_t>(codes[k]) << (k * out.code_bits);
        } else {
            bucket = mix64(out.seed, static_cast<uint64_t>(t));
            for (int64_t k = 0; k < out.per_table; ++k) bucket = mix64(bucket ^ static_cast<uint64_t>(codes[k]));
            bucket = out.bucket_bits > 0 ? bucket >> (64 - out.bucket_bits) : 0;
        }
        out.buckets[row * out.tables + t] = static_cast<int32_t>(bucket);
    }
}

// One-bit codes of row `row`, packed as by sign_words (hashing_table.hpp), with a readable word behind.
inline void put_signs(const HashOutput& out, int64_t row, const uint32_t* words) {
    if (out.codes)
        for (int64_t h = 0; h < out.hashes(); ++h)
            out.codes[row * out.hashes() + h] = static_cast<int32_t>(words[h / 32] >> (h % 32) & 1u);
    if (!out.buckets) return;
    const uint64_t mask = (uint64_t{1} << out.per_table) - 1;  // at most 30 bits, so two words hold them
    for (int64_t t = 0; t < out.tables; ++t) {
        const int64_t at = t * out.per_table;
        const uint64_t window = words[at / 32] | static_cast<uint64_t>(words[at / 32 + 1]) << 32;
        out.buckets[row * out.tables + t] = static_cast<int32_t>(window >> (at % 32) & mask);
    }
}

}  // namespace hashfold
