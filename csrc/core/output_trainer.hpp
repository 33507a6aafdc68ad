// Linear outputs trained one after another, by Adagrad, each on its own pairs: what hashed_linear_fit and
// pruned_fit share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "hashed_linear_table.hpp"
#include "rng.hpp"

namespace hashfold {

template <class T>
inline int64_t longest_row(const Csr<T>& x) {
    int64_t longest = 0;
    for (int64_t i = 0; i < x.rows; ++i) longest = std::max(longest, x.indptr[i + 1] - x.indptr[i]);
    return longest;
}

// Tasks with most pairs first, in chunks of about as many pairs: no worker is left with a large one at the end.
struct Schedule {
    static constexpr int64_t kPairsAChunk = 4096;

    std::vector<int64_t> tasks;
    std::vector<int64_t> starts;

    explicit Schedule(const FitTasks& all) : tasks(all.count), starts{0} {
        std::iota(tasks.begin(), tasks.end(), 0);
        const auto pairs = [&](int64_t t) { return all.indptr[t + 1] - all.indptr[t]; };
        std::stable_sort(tasks.begin(), tasks.end(), [&](int64_t a, int64_t b) { return pairs(a) > pairs(b); });
        int64_t waiting = 0;
        for (int64_t t = 0; t < all.count; ++t) {
            waiting += pairs(tasks[t]);
            if (waiting < kPairsAChunk && t + 1 < all.count) continue;
            starts.push_back(t + 1);
            waiting = 0;
        }
    }
    int64_t chunks() const { return static_cast<int64_t>(starts.size()) - 1; }
};

// All epochs of one output, in an order drawn from (seed, output).
class OutputTrainer {
  public:
    // keys: of x's features, mixed; longest: nonzeros of the longest row.
    OutputTrainer(const Csr<float>& x, const uint32_t* keys, int64_t longest, const FitRule& rule)
        : x_(x),
          keys_(keys),
          rule_(rule),
          places_(longest),
          values_(longest),
          gradients_(longest),
          squares_(longest) {}

    // Trains block and bias; returns the sum of the last epoch's losses. pairs.order need not be given.
    double train(int32_t output, LabelPairs pairs, const BlockHash& hash, Trained* block, float* bias) {
        order_.resize(pairs.count);
        std::iota(order_.begin(), order_.end(), 0u);
        pairs.order = order_.data();
        Stream random(rule_.seed, static_cast<uint64_t>(output));
        Trained moving{*bias, rule_.initial_sum};
        double loss = 0;
        for (int32_t e = 0; e < rule_.epochs; ++e) {
            for (int64_t k = pairs.count - 1; k > 0; --k)
                std::swap(order_[k], order_[random.below(static_cast<uint32_t>(k + 1))]);
            const float done = static_cast<float>(e) / static_cast<float>(std::max(1, rule_.epochs - 1));
            const float lr = rule_.lr * (1.0f - (1.0f - rule_.floor) * done);
            loss = hashed_linear_table().fit_epoch(
                x_, keys_, pairs, hash, {rule_.loss, lr, rule_.bias_rate * lr, rule_.l2, e + 1 == rule_.epochs},
                block, &moving, {places_.data(), values_.data(), gradients_.data(), squares_.data()});
        }
        *bias = moving.weight;
        return loss;
    }

  private:
    const Csr<float>& x_;
    const uint32_t* keys_;
    const FitRule& rule_;
    std::vector<uint32_t> places_, order_;
    std::vector<float> values_, gradients_, squares_;
};

}  // namespace hashfold
