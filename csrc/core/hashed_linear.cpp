#include "hashed_linear.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "hashed_linear_table.hpp"
#include "output_trainer.hpp"
#include "parallel.hpp"

namespace hashfold {
namespace {

constexpr int64_t kRowGrain = 8, kBucketGrain = 4096;

uint32_t feature_salt(const HashedLayout& layout) {
    return (2 * layout.seed + 1) * 0x9E3779B9u;
}
uint32_t output_salt(const HashedLayout& layout) {
    return (2 * layout.seed + 2) * 0x9E3779B9u;
}

void mix_features(const HashedLayout& layout, const int32_t* ids, int64_t count, uint32_t* keys) {
    if (layout.identity)
        std::copy_n(ids, count, keys);
    else
        hashed_linear_table().mix(ids, count, feature_salt(layout), keys);
}

// What depends on the row alone, or on the output alone, is hashed once a row.
template <class T>
class RowReader {
  public:
    RowReader(const Csr<T>& x, const ActiveRows& pairs, const HashedLayout& layout)
        : x_(x), pairs_(pairs), layout_(layout) {}

    template <class Body>
    void read(int64_t i, const Body& body) {
        const int64_t first = x_.indptr[i], count = x_.indptr[i + 1] - first;
        const int64_t from = pairs_.indptr[i], outputs = pairs_.indptr[i + 1] - from;
        keys_.resize(std::max<size_t>(keys_.size(), count));
        places_.resize(std::max<size_t>(places_.size(), 2 * count));
        values_.resize(std::max<size_t>(values_.size(), 2 * count));
        output_keys_.resize(std::max<size_t>(output_keys_.size(), outputs));
        mix_features(layout_, x_.indices + first, count, keys_.data());
        hashed_linear_table().mix(pairs_.ids + from, outputs, output_salt(layout_), output_keys_.data());
        body(MixedRow<T>{keys_.data(), x_.values + first, count},
             RowPairs{pairs_.ids + from, output_keys_.data(), outputs},
             PlaceScratch<T>{places_.data(), values_.data()});
    }

  private:
    const Csr<T>& x_;
    const ActiveRows& pairs_;
    const HashedLayout& layout_;
    std::vector<uint32_t> keys_, places_, output_keys_;
    std::vector<T> values_;
};

template <class T, class Bucket>
void scores(HashedScores<T, Bucket> kernel, const Csr<T>& x, const ActiveRows& pairs, const HashedLayout& layout,
            const Bucket* buckets, const float* scales, const T* bias, T* out) {
    parallel_chunks(x.rows, kRowGrain, [&](int64_t begin, int64_t end, int) {
        RowReader<T> reader(x, pairs, layout);
        for (int64_t i = begin; i < end; ++i)
            reader.read(i, [&](const MixedRow<T>& row, const RowPairs& own, PlaceScratch<T> scratch) {
                kernel(row, own, layout, buckets, scales, bias, scratch, out + pairs.indptr[i]);
            });
    });
}

template <class T>
const HashedGradientOf<T>& gradient() {
    if constexpr (sizeof(T) == sizeof(float))
        return hashed_linear_table().gradient_f32;
    else
        return hashed_linear_table().gradient_f64;
}

// Trains one output after another in the same scratch memory.
class Fitter {
  public:
    Fitter(const Csr<float>& x, const std::vector<uint32_t>& keys, int64_t longest, const FitTasks& tasks,
           const HashedLayout& layout, const FitRule& rule, const FitOutput& output)
        : tasks_(tasks), layout_(layout), rule_(rule), output_(output), trainer_(x, keys.data(), longest, rule) {}

    double fit(int64_t task) {
        const int32_t label = tasks_.labels[task];
        const int64_t first = tasks_.indptr[task], count = tasks_.indptr[task + 1] - first;
        if (!layout_.sizes[label] || !count) return 0;
        read_block(label);
        const double loss = trainer_.train(label, {tasks_.rows + first, tasks_.targets + first, nullptr, count},
                                           hash_of(label), block_.data(), &output_.bias[label]);
        write_block(label);
        return loss;
    }

  private:
    BlockHash hash_of(int32_t label) const {
        uint32_t key;
        hashed_linear_table().mix(&label, 1, output_salt(layout_), &key);
        return {key, static_cast<uint32_t>(layout_.sizes[label]), layout_.sign, layout_.identity};
    }

    void read_block(int32_t label) {
        block_.assign(layout_.sizes[label], {0, rule_.initial_sum});
        if (!output_.warm) return;
        const int64_t offset = layout_.offsets[label];
        for (size_t b = 0; b < block_.size(); ++b)
            block_[b].weight = output_.codes
                                   ? output_.scales[label] * static_cast<float>(output_.codes[offset + b])
                                   : output_.buckets[offset + b];
    }

    void write_block(int32_t label) {
        const int64_t offset = layout_.offsets[label];
        if (output_.buckets) {
            for (size_t b = 0; b < block_.size(); ++b) output_.buckets[offset + b] = block_[b].weight;
            return;
        }
        float largest = 0;
        bool finite = true;
        for (const Trained& t : block_) {
            largest = std::max(largest, std::fabs(t.weight));
            finite = finite && std::isfinite(t.weight);
        }
        // A block that cannot be coded is handed back as such: the caller refuses it.
        const float scale = output_.scales[label] = finite ? largest / 127.0f : NAN;
        const float inverse = finite && scale > 0 ? 1.0f / scale : 0.0f;
        for (size_t b = 0; b < block_.size(); ++b) output_.codes[offset + b] = code_of(block_[b].weight, inverse);
    }

    static int8_t code_of(float weight, float inverse) {
        if (inverse == 0) return 0;
        return static_cast<int8_t>(std::clamp(std::nearbyint(weight * inverse), -127.0f, 127.0f));
    }

    const FitTasks& tasks_;
    const HashedLayout& layout_;
    const FitRule& rule_;
    const FitOutput& output_;
    OutputTrainer trainer_;
    std::vector<Trained> block_;
};

}  // namespace

template <class T>
void hashed_linear(const Csr<T>& x, const ActiveRows& pairs, const HashedLayout& layout, const T* buckets,
                   const T* bias, T* out) {
    if constexpr (sizeof(T) == sizeof(float))
        scores<float, float>(hashed_linear_table().scores_f32, x, pairs, layout, buckets, nullptr, bias, out);
    else
        scores<double, double>(hashed_linear_table().scores_f64, x, pairs, layout, buckets, nullptr, bias, out);
}

void hashed_linear(const Csr<float>& x, const ActiveRows& pairs, const HashedLayout& layout, const int8_t* codes,
                   const float* scales, const float* bias, float* out) {
    scores<float, int8_t>(hashed_linear_table().scores_int8, x, pairs, layout, codes, scales, bias, out);
}

template <class T>
void hashed_linear_grad_values(const Csr<T>& x, const ActiveRows& pairs, const HashedLayout& layout,
                               const T* buckets, const T* grad_out, T* grad_values) {
    parallel_chunks(x.rows, kRowGrain, [&](int64_t begin, int64_t end, int) {
        RowReader<T> reader(x, pairs, layout);
        for (int64_t i = begin; i < end; ++i)
            reader.read(i, [&](const MixedRow<T>& row, const RowPairs& own, PlaceScratch<T> scratch) {
                gradient<T>().values(row, own, layout, buckets, grad_out + pairs.indptr[i], scratch,
                                     grad_values + x.indptr[i]);
            });
    });
}

template <class T>
void hashed_linear_grad_buckets(const Csr<T>& x, const ActiveRows& pairs, const HashedLayout& layout,
                                const T* grad_out, T* grad, int64_t num_buckets) {
    parallel_spans(num_buckets, kBucketGrain, [&](int64_t begin, int64_t end, int) {
        RowReader<T> reader(x, pairs, layout);
        for (int64_t i = 0; i < x.rows; ++i)
            reader.read(i, [&](const MixedRow<T>& row, const RowPairs& own, PlaceScratch<T> scratch) {
                gradient<T>().buckets(row, own, layout, grad_out + pairs.indptr[i], scratch, grad, begin, end);
            });
    });
}

void hashed_linear_fit(const Csr<float>& x, const FitTasks& tasks, const HashedLayout& layout, const FitRule& rule,
                       const FitOutput& output, double* losses) {
    const int64_t nonzeros = x.indptr[x.rows], longest = longest_row(x);
    std::vector<uint32_t> keys(nonzeros);
    parallel_chunks(nonzeros, 1 << 16, [&](int64_t begin, int64_t end, int) {
        mix_features(layout, x.indices + begin, end - begin, keys.data() + begin);
    });
    const Schedule schedule(tasks);
    parallel_chunks(schedule.chunks(), 1, [&](int64_t begin, int64_t end, int) {
        Fitter fitter(x, keys, longest, tasks, layout, rule, output);
        for (int64_t t = schedule.starts[begin]; t < schedule.starts[end]; ++t)
            losses[schedule.tasks[t]] = fitter.fit(schedule.tasks[t]);
    });
}

#define HASHFOLD_INSTANTIATE(T)                                                                                   \
    template void hashed_linear(const Csr<T>&, const ActiveRows&, const HashedLayout&, const T*, const T*, T*);   \
    template void hashed_linear_grad_values(const Csr<T>&, const ActiveRows&, const HashedLayout&, const T*,      \
                                            const T*, T*);                                                        \
    template void hashed_linear_grad_buckets(const Csr<T>&, const ActiveRows&, const HashedLayout&, const T*, T*, \
                                             int64_t);
HASHFOLD_INSTANTIATE(float)
HASHFOLD_INSTANTIATE(double)

}  // namespace hashfold
