#include "mixture.hpp"

#include <algorithm>
#include <vector>

#include "mixture_table.hpp"
#include "parallel.hpp"

namespace hashfold {
namespace {

constexpr int64_t kGroup = 8;        // rows whose hidden units stay in cache
constexpr int64_t kChunk = 32;       // rows whose gradients are added up in single precision
constexpr int64_t kGrain = 1 << 10;  // candidates scored at a time

int64_t largest_group(const MixtureLists& lists) {
    int64_t largest = 0;
    for (int64_t i = 0; i < lists.rows; i += kGroup)
        largest = std::max(largest, lists.indptr[std::min(lists.rows, i + kGroup)] - lists.indptr[i]);
    return largest;
}

}  // namespace

void mixture_scores(Matrix<const float> features, const MixtureWeights& weights, float* scores) {
    parallel_chunks(features.rows, kGrain, [&](int64_t begin, int64_t end, int) {
        std::vector<float> scratch(features.cols * kMixturePadding);
        mixture_table().scores(features, weights, scores, begin, end, scratch.data());
    });
}

double mixture_loss(const MixtureLists& lists, const MixtureWeights& weights, double* gradient) {
    const int64_t chunks = (lists.rows + kChunk - 1) / kChunk, count = weights.count();
    const int64_t room = largest_group(lists) + kMixturePadding;
    std::vector<float> parts(chunks * count);
    std::vector<double> losses(chunks);
    parallel_chunks(lists.rows, kChunk, [&](int64_t begin, int64_t end, int) {
        std::vector<float> scratch((weights.units() + 1) * room);
        const int64_t chunk = begin / kChunk;
        for (int64_t i = begin; i < end; i += kGroup)
            losses[chunk] += mixture_table().loss(lists, weights, i, std::min(end, i + kGroup), room,
                                                  scratch.data(), parts.data() + chunk * count);
    });
    std::fill_n(gradient, count, 0.0);
    double loss = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        loss += losses[chunk];
        for (int64_t j = 0; j < count; ++j) gradient[j] += parts[chunk * count + j];
    }
    return loss;
}

}  // namespace hashfold
