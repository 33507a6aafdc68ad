// Normals by inverting their distribution function: one draw each, so that every entry of a matrix is
// a function of its place. Algorithm AS 241 (Wichura 1988), PPND7: relative error below 1e-7.
#include <cmath>

#include "hashing.hpp"
#include "parallel.hpp"
#include "portable_log.hpp"
#include "rng.hpp"

namespace hashfold {
namespace {

constexpr uint64_t kStride = 0x9E3779B97F4A7C15ull;

// u strictly between 0 and 1.
double normal_quantile(double u) {
    const double q = u - 0.5;
    if (std::fabs(q) <= 0.425) {
        const double r = 0.180625 - q * q;
        return q * (((59.109374720 * r + 159.29113202) * r + 50.434271938) * r + 3.3871327179) /
               (((67.187563600 * r + 78.757757664) * r + 17.895169469) * r + 1.0);
    }
    double r = std::sqrt(-portable_log<double, uint64_t>(q < 0 ? u : 1.0 - u)), x;
    if (r <= 5.0) {
        r -= 1.6;
        x = (((0.17023821103 * r + 1.3067284816) * r + 2.7568153900) * r + 1.4234372777) /
            ((0.12021132975 * r + 0.73700164250) * r + 1.0);
    } else {
        r -= 5.0;
        x = (((0.017337203997 * r + 0.42868294337) * r + 3.0812263860) * r + 6.6579051150) /
            ((0.012258202635 * r + 0.24197894225) * r + 1.0);
    }
    return q < 0 ? -x : x;
}

}  // namespace

void gaussian_projection(uint64_t seed, Matrix<float> out) {
    parallel_chunks(out.rows, 16, [&](int64_t begin, int64_t end, int) {
        for (int64_t f = begin; f < end; ++f) {
            const uint64_t key = mix64(seed, static_cast<uint64_t>(f));
            for (int64_t h = 0; h < out.cols; ++h) {
                const uint64_t z = mix64(key + static_cast<uint64_t>(h) * kStride);
                const double u = (static_cast<double>(z >> 12) + 0.5) * 0x1p-52;
                out.row(f)[h] = static_cast<float>(normal_quantile(u));
            }
        }
    });
}

}  // namespace hashfold
