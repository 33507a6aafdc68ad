#include "pruned_fit.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "output_trainer.hpp"
#include "parallel.hpp"

namespace hashfold {
namespace {

struct Entry {
    int32_t feature;
    float weight;
};
using Entries = std::vector<Entry>;

// An infinite sum of squares holds a weight where it is: each step divides by its root.
constexpr float kHeld = std::numeric_limits<float>::infinity();

class Pruner {
  public:
    Pruner(const Csr<float>& x, int64_t num_features, int64_t longest, const FitTasks& tasks, const FitRule& rule,
           const Csr<float>* start, float least, float* bias)
        : x_(x),
          tasks_(tasks),
          start_(start),
          least_(least),
          bias_(bias),
          untouched_{0, start ? kHeld : rule.initial_sum},
          initial_sum_(rule.initial_sum),
          block_(num_features, untouched_),
          trainer_(x, reinterpret_cast<const uint32_t*>(x.indices), longest, rule) {}

    double fit(int64_t task, Entries& kept) {
        const int64_t first = tasks_.indptr[task], count = tasks_.indptr[task + 1] - first;
        const int32_t output = tasks_.labels[task];
        if (start_)
            for (int64_t j = start_->indptr[task]; j < start_->indptr[task + 1]; ++j)
                block_[start_->indices[j]] = {start_->values[j], initial_sum_};
        const BlockHash identity{0, static_cast<uint32_t>(block_.size()), false, true};
        const double loss = trainer_.train(output, {tasks_.rows + first, tasks_.targets + first, nullptr, count},
                                           identity, block_.data(), &bias_[output]);
        if (start_)
            for (int64_t j = start_->indptr[task]; j < start_->indptr[task + 1]; ++j)
                take(start_->indices[j], kept);
        else
            take_large(first, first + count, kept);
        return loss;
    }

  private:
    void take_large(int64_t begin, int64_t end, Entries& kept) {
        for (int64_t q = begin; q < end; ++q)
            for (int64_t j = x_.indptr[tasks_.rows[q]]; j < x_.indptr[tasks_.rows[q] + 1]; ++j) {
                Trained& at = block_[x_.indices[j]];
                if (at.weight != 0 && !(std::fabs(at.weight) < least_))
                    take(x_.indices[j], kept);
                else
                    at = untouched_;
            }
        std::sort(kept.begin(), kept.end(), [](const Entry& a, const Entry& b) { return a.feature < b.feature; });
    }

    void take(int32_t feature, Entries& kept) {
        kept.push_back({feature, block_[feature].weight});
        block_[feature] = untouched_;
    }

    const Csr<float>& x_;
    const FitTasks& tasks_;
    const Csr<float>* start_;
    const float least_;
    float* bias_;
    const Trained untouched_;
    const float initial_sum_;
    std::vector<Trained> block_;
    OutputTrainer trainer_;
};

SparseWeights joined(std::vector<Entries>& parts) {
    SparseWeights all;
    all.indptr.push_back(0);
    for (const Entries& part : parts) all.indptr.push_back(all.indptr.back() + static_cast<int64_t>(part.size()));
    all.features.reserve(all.indptr.back());
    all.weights.reserve(all.indptr.back());
    for (Entries& part : parts) {
        for (const Entry& entry : part) {
            all.features.push_back(entry.feature);
            all.weights.push_back(entry.weight);
        }
        Entries().swap(part);
    }
    return all;
}

}  // namespace

SparseWeights pruned_fit(const Csr<float>& x, int64_t num_features, const FitTasks& tasks, const FitRule& rule,
                         const Csr<float>* start, float least, float* bias, double* losses) {
    const Schedule schedule(tasks);
    const int64_t longest = longest_row(x);
    std::vector<Entries> kept(tasks.count);
    parallel_chunks(schedule.chunks(), 1, [&](int64_t begin, int64_t end, int) {
        Pruner pruner(x, num_features, longest, tasks, rule, start, least, bias);
        for (int64_t t = schedule.starts[begin]; t < schedule.starts[end]; ++t)
            losses[schedule.tasks[t]] = pruner.fit(schedule.tasks[t], kept[schedule.tasks[t]]);
    });
    return joined(kept);
}

}  // namespace hashfold
