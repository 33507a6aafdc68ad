#include "../relu_dropout_table.hpp"
#include "../simd.hpp"

namespace hashfold::HASHFOLD_ISA {
namespace {

typedef Vec<uint32_t> Bits;

// Two rounds of a 32-bit finaliser (Wellons, "Prospecting for Hash Functions", lowbias32), a key before each.
template <class B>
HF_INLINE B hash(B position, const uint32_t* keys) {
    for (int round = 0; round < 2; ++round) {
        position ^= keys[round];
        position ^= position >> 16;
        position *= 0x7feb352du;
        position ^= position >> 15;
        position *= 0x846ca68bu;
        position ^= position >> 16;
    }
    return position;
}

void forward(const float* x, const DropoutRule& rule, float* y, int64_t begin, int64_t end) {
    Bits lanes{};
    for (int l = 0; l < kWidth<float>; ++l) lanes[l] = l;
    int64_t i = begin;
    for (; i + kWidth<float> <= end; i += kWidth<float>) {
        const Bits random = hash<Bits>(lanes + static_cast<uint32_t>(i), rule.keys);
        const Vec<float> v = load(x + i), kept = random <= rule.highest ? v * rule.scale : Vec<float>{};
        store(y + i, v <= 0.0f ? Vec<float>{} : v == v ? kept : v);
    }
    for (; i < end; ++i) {
        const bool keep = hash<uint32_t>(static_cast<uint32_t>(i), rule.keys) <= rule.highest;
        y[i] = x[i] <= 0.0f ? 0.0f : x[i] != x[i] ? x[i] : keep ? x[i] * rule.scale : 0.0f;
    }
}

void grad(const float* grad_y, const float* y, float scale, float* grad_x, int64_t begin, int64_t end) {
    int64_t i = begin;
    for (; i + kWidth<float> <= end; i += kWidth<float>)
        store(grad_x + i, load(y + i) > 0.0f ? load(grad_y + i) * scale : Vec<float>{});
    for (; i < end; ++i) grad_x[i] = y[i] > 0.0f ? grad_y[i] * scale : 0.0f;
}

}  // namespace

const ReluDropoutTable& relu_dropout_table() {
    static constexpr ReluDropoutTable table{forward, grad};
    return table;
}

}  // namespace hashfold::HASHFOLD_ISA
