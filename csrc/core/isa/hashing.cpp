// Compiled with -ffp-contract=off: the codes must be the same bits at every level.
#include "hashing_minhash.hpp"
#include "hashing_signs.hpp"
#include "hashing_transposed.hpp"

namespace hashfold::HASHFOLD_ISA {
namespace {

bool valid(const float* values, int64_t begin, int64_t end, bool refuse_negative) {
    // NaN and infinity have all exponent bits set; -0 is not negative.
    int32_t bad = 0;
    for (int64_t i = begin; i < end; ++i) {
        int32_t bits;
        std::memcpy(&bits, values + i, sizeof bits);
        bad |= (bits & 0x7F800000) == 0x7F800000;
        bad |= refuse_negative & (values[i] < 0.0f);
    }
    return bad == 0;
}

}  // namespace

const HashingTable& hashing_table() {
    static constexpr HashingTable table{signs_dense, signs_sparse,       list_signs_dense,
                                        wta_dense,   consistent_samples, valid};
    return table;
}

}  // namespace hashfold::HASHFOLD_ISA
