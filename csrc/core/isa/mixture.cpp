#include "../mixture_table.hpp"
#include "math.hpp"

namespace hashfold::HASHFOLD_ISA {
namespace {

constexpr int kLanes = kWidth<float>;
constexpr int kBlock = kMixtureBlock;
static_assert(kMixturePadding % kLanes == 0);

HF_INLINE Vec<float> hyperbolic_tangent(Vec<float> x) {
    return 1.0f - 2.0f / (exponential(x + x) + 1.0f);
}

// tanh(V z + c) of `count` units from `unit` on, at most kBlock; lanes are candidates, features `stride` apart.
template <int count>
HF_INLINE void activate(const MixtureWeights& w, int64_t unit, const float* z, int64_t stride,
                        Vec<float>* active) {
    Vec<float> sums[count];
    for (int u = 0; u < count; ++u) sums[u] = splat(w.hidden.row(unit + u)[w.features()]);
    for (int64_t f = 0; f < w.features(); ++f) {
        const Vec<float> value = load(z + f * stride);
        for (int u = 0; u < count; ++u) sums[u] += value * w.hidden.row(unit + u)[f];
    }
    for (int u = 0; u < count; ++u) active[u] = hyperbolic_tangent(sums[u]);
}

// Scores of a vector of candidates; what(unit, activation) sees every hidden unit.
template <class What>
HF_INLINE Vec<float> score(const MixtureWeights& w, const float* z, int64_t stride, const What& what) {
    Vec<float> total = splat(w.offset);
    for (int64_t f = 0; f < w.features(); ++f) total += load(z + f * stride) * w.linear[f];
    Vec<float> active[kBlock];
    int64_t unit = 0;
    const auto take = [&](int count) {
        for (int u = 0; u < count; ++u) {
            total += active[u] * w.out[unit + u];
            what(unit + u, active[u]);
        }
        unit += count;
    };
    while (unit + kBlock <= w.units()) {
        activate<kBlock>(w, unit, z, stride, active);
        take(kBlock);
    }
    while (unit < w.units()) {
        activate<1>(w, unit, z, stride, active);
        take(1);
    }
    return total;
}

// Features are turned, so that lanes are candidates; lanes beyond the last are 0.
void scores(Matrix<const float> features, const MixtureWeights& w, float* out, int64_t begin, int64_t end,
            float* turned) {
    for (int64_t i = begin; i < end; i += kLanes) {
        const int64_t count = least(int64_t{kLanes}, end - i);
        for (int64_t f = 0; f < features.cols; ++f) {
            for (int64_t k = 0; k < count; ++k) turned[f * kLanes + k] = features.row(i + k)[f];
            for (int64_t k = count; k < kLanes; ++k) turned[f * kLanes + k] = 0;
        }
        const Vec<float> total = score(w, turned, kLanes, [](int64_t, Vec<float>) {});
        for (int64_t k = 0; k < count; ++k) out[i + k] = total[k];
    }
}

// Makes slopes of the rows' scores, and returns their loss. Slopes beyond the last candidate are 0.
double softmax(const MixtureLists& lists, int64_t begin, int64_t end, float* scores) {
    const int64_t first = lists.indptr[begin], count = lists.indptr[end] - first;
    const float *share = lists.share + first, *stands_for = lists.stands_for + first;
    double loss = 0;
    const auto each_row = [&](const auto& body) {
        for (int64_t i = begin; i < end; ++i) body(lists.indptr[i] - first, lists.indptr[i + 1] - first);
    };
    each_row([&](int64_t from, int64_t to) {
        float top = scores[from];
        for (int64_t j = from + 1; j < to; ++j) top = most(top, scores[j]);
        for (int64_t j = from; j < to; ++j) scores[j] -= top;
        for (int64_t j = from; j < to; ++j) loss -= static_cast<double>(share[j]) * scores[j];
    });
    for (int64_t j = 0; j < count; j += kLanes) store(scores + j, exponential(load(scores + j)));
    each_row([&](int64_t from, int64_t to) {
        double sum = 0;
        for (int64_t j = from; j < to; ++j) sum += scores[j] *= stands_for[j];
        double weight = 0;
        for (int64_t j = from; j < to; ++j) weight += share[j];
        loss += weight * __builtin_log(sum);
        const auto factor = static_cast<float>(weight / sum);
        for (int64_t j = from; j < to; ++j) scores[j] = scores[j] * factor - share[j];
    });
    for (int64_t j = count; j < count + kLanes; ++j) scores[j] = 0;
    return loss;
}

// gradient[f] += sum of values * columns f, for f below `wanted`.
HF_INLINE void add_products(const float* values, const float* columns, int64_t stride, int64_t count,
                            int64_t wanted, float* gradient) {
    for (int64_t block = 0; block < wanted; block += kBlock) {
        Vec<float> sums[kBlock]{};
        for (int64_t j = 0; j < count; j += kLanes) {
            const Vec<float> v = load(values + j);
            for (int f = 0; f < kBlock; ++f) sums[f] += v * load(columns + (block + f) * stride + j);
        }
        const int64_t some = least(int64_t{kBlock}, wanted - block);
        for (int64_t f = 0; f < some; ++f) gradient[block + f] += sum<float>(sums[f]);
    }
}

double loss(const MixtureLists& lists, const MixtureWeights& w, int64_t begin, int64_t end, int64_t room,
            float* scratch, float* gradient) {
    const int64_t first = lists.indptr[begin], count = lists.indptr[end] - first, stride = lists.columns.cols;
    const float* columns = lists.columns.data + first;
    float *slopes = scratch, *active = scratch + room;
    for (int64_t j = 0; j < count; j += kLanes)
        store(slopes + j, score(w, columns + j, stride,
                                [&](int64_t unit, Vec<float> value) { store(active + unit * room + j, value); }));
    const double total = softmax(lists, begin, end, slopes);
    add_products(slopes, columns, stride, count, w.features(), gradient);
    float *of_hidden = gradient + w.features(), *of_out = of_hidden + w.units() * w.hidden.cols;
    for (int64_t unit = 0; unit < w.units(); ++unit) {
        float* own = active + unit * room;
        Vec<float> sums{};
        for (int64_t j = 0; j < count; j += kLanes) {
            const Vec<float> slope = load(slopes + j), a = load(own + j);
            sums += slope * a;
            store(own + j, slope * w.out[unit] * (1.0f - a * a));
        }
        of_out[unit] += sum<float>(sums);
        add_products(own, columns, stride, count, w.hidden.cols, of_hidden + unit * w.hidden.cols);
    }
    return total;
}

}  // namespace

const MixtureTable& mixture_table() {
    static constexpr MixtureTable table{scores, loss};
    return table;
}

}  // namespace hashfold::HASHFOLD_ISA
