// Where decoded weights go: a reader gives a sink the weights of a piece of a row, a vector at a time and in
// order. sink.take<U>(at, weights): weights [at, at + kWidth) of the piece; U in [0, 4) tells apart the vectors of
// an unrolled loop. Lanes behind the last weight are zero.
#pragma once

#include "../simd.hpp"

namespace hashfold::HASHFOLD_ISA {

template <class T>
struct StoreSink {
    T* out;  // with room for whole vectors
    template <int U>
    HF_INLINE void take(int64_t at, Vec<T> weights) {
        store(out + at, weights);
    }
};

// Dot products with N vectors.
template <class T, int N>
struct DotSink {
    static constexpr int kSums = N == 1 ? 4 : N == 2 ? 2 : 1;
    const T* x[N];
    Vec<T> sums[N][kSums] = {};

    DotSink() = default;
    // Member by member: copied as one block of memory, what was just written would be waited for.
    HF_INLINE DotSink(const DotSink& other) {
        for (int n = 0; n < N; ++n) x[n] = other.x[n];
        *this = other;
    }
    HF_INLINE DotSink& operator=(const DotSink& other) {
        for (int n = 0; n < N; ++n)
            for (int s = 0; s < kSums; ++s) sums[n][s] = other.sums[n][s];
        return *this;
    }
    template <int U>
    HF_INLINE void take(int64_t at, Vec<T> weights) {
        for (int n = 0; n < N; ++n) sums[n][U % kSums] += weights * load(x[n] + at);
    }
    HF_INLINE T total(int n) const {
        Vec<T> all = sums[n][0];
        for (int s = 1; s < kSums; ++s) all += sums[n][s];
        return sum<T>(all);
    }
};

// weights(at): the vector there, for at = 0, kWidth, ... below count, of which the last may have lanes too many.
template <class T, class Sink, class Weights>
HF_INLINE void feed(Sink& to, int64_t from, int64_t count, const Weights& weights) {
    constexpr int W = kWidth<T>;
    Sink sink = to;  // its sums stay in registers
    int64_t at = 0;
    for (; at + 4 * W <= count; at += 4 * W) {
        sink.template take<0>(from + at, weights(at));
        sink.template take<1>(from + at + W, weights(at + W));
        sink.template take<2>(from + at + 2 * W, weights(at + 2 * W));
        sink.template take<3>(from + at + 3 * W, weights(at + 3 * W));
    }
    for (; at + W <= count; at += W) sink.template take<0>(from + at, weights(at));
    if (at < count) {
        T last[W];
        store(last, weights(at));
        for (int64_t l = count - at; l < W; ++l) last[l] = 0;
        sink.template take<0>(from + at, load(last));
    }
    to = sink;
}

// Weights that come one by one, or few at a time, collected to be fed in vectors.
template <class T, class Sink>
class Stage {
  public:
    static constexpr int64_t kMost = 1024;  // at a time
    Stage(Sink& sink, int64_t from) : sink_(sink), fed_(from) {}

    // Where the next `count` weights are to be written, before anything else is asked of the stage.
    HF_INLINE T* room(int64_t count) {
        if (filled_ + count > kMost + kWidth<T>) feed_whole_vectors();
        filled_ += count;
        return weights_ + filled_ - count;
    }
    HF_INLINE void finish() { feed_first(filled_); }

  private:
    HF_INLINE void feed_first(int64_t count) {
        feed<T>(sink_, fed_, count, [&](int64_t at) { return load(weights_ + at); });
    }
    HF_INLINE void feed_whole_vectors() {
        const int64_t whole = filled_ / kWidth<T> * kWidth<T>;
        feed_first(whole);
        for (int64_t i = whole; i < filled_; ++i) weights_[i - whole] = weights_[i];
        fed_ += whole;
        filled_ -= whole;
    }

    Sink& sink_;
    int64_t fed_, filled_ = 0;
    T weights_[kMost + 2 * kWidth<T>];
};

}  // namespace hashfold::HASHFOLD_ISA
