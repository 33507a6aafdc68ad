// A small function of a candidate's features: score = w . z + offset + u . tanh(V z + c), and its listwise loss.
//
// The hidden units of all candidates are never written down: a few rows' worth of them stay in cache from the
// scores to the gradient.
#pragma once

#include <cstdint>

#include "views.hpp"

namespace hashfold {

// hidden: (units, features + 1), the last column c; linear: (features,); out: (units,).
struct MixtureWeights {
    const float* linear;
    Matrix<const float> hidden;
    const float* out;
    float offset;
    int64_t units() const { return hidden.rows; }
    int64_t features() const { return hidden.cols - 1; }
    int64_t count() const { return features() + units() * (hidden.cols + 1); }  // of linear, hidden and out
};

// Scores of candidates, features (candidates, features); the same bits wherever a candidate stands.
void mixture_scores(Matrix<const float> features, const MixtureWeights& weights, float* scores);

inline constexpr int64_t kMixturePadding = 16;  // candidates that columns have room for beyond the last
inline constexpr int64_t kMixtureBlock = 4;     // columns are a multiple of it

// Candidates indptr[i] to indptr[i + 1] are of row i, at least one. columns: (features + 1, rounded up to
// blocks; candidates + padding), a feature a row, then ones, then zeros; the padding is finite.
struct MixtureLists {
    Matrix<const float> columns;
    const int64_t* indptr;
    const float* share;       // of the candidate in the mean over rows of the mean over their true candidates
    const float* stands_for;  // so many candidates, in the softmax
    int64_t rows;
};

// sum of share * -log softmax, and d/d(linear, hidden, out) behind one another: gradient has weights.count()
// places. The same bits whatever the number of threads.
double mixture_loss(const MixtureLists& lists, const MixtureWeights& weights, double* gradient);

}  // namespace hashfold
