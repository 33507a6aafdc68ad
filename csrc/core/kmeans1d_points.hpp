// Sorted weighted numbers with sums over any run of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

namespace hashfold {

// Sums of w, w x and w x^2 over the numbers before a position.
struct Moments {
    double w = 0, s = 0, q = 0;

    void add(double weight, double x) {
        w += weight;
        s += weight * x;
        q += weight * x * x;
    }
};

// Sum of w (x - mean)^2 over the numbers between two positions; 0 if there are none.
inline double scatter(const Moments& from, const Moments& to) {
    const double w = to.w - from.w, s = to.s - from.s;
    return w > 0 ? std::max(0.0, to.q - from.q - s * s / w) : 0.0;
}

// A sum that loses nothing to rounding but its last bit (Neumaier 1974).
class Compensated {
  public:
    void add(double term) {
        const double next = sum_ + term;
        lost_ += std::abs(sum_) >= std::abs(term) ? (sum_ - next) + term : (term - next) + sum_;
        sum_ = next;
    }
    double value() const { return sum_ + lost_; }

  private:
    double sum_ = 0, lost_ = 0;
};

// Numbers are kept in float and summed, less the middle one, in double. Sums are stored for every 128th position:
// 4.2 bytes a number in all. Equal numbers are merged where that saves memory.
class SortedNumbers {
  public:
    SortedNumbers(const float* values, const float* weights, int64_t n) {
        weights == nullptr ? take(values, n) : take(values, weights, n);
        centre_ = x_[x_.size() / 2];
        sum();
    }

    int64_t size() const { return static_cast<int64_t>(x_.size()); }
    double centre() const { return centre_; }
    double x(int64_t i) const { return static_cast<double>(x_[i]) - centre_; }
    double w(int64_t i) const { return w_.empty() ? 1.0 : w_[i]; }
    const Moments& total() const { return total_; }

    Moments before(int64_t position) const {
        Moments m = blocks_[position / stride];
        for (int64_t i = position / stride * stride; i < position; ++i) m.add(w(i), x(i));
        return m;
    }

    // How many numbers are below `bound` (of those less the centre).
    int64_t below(double bound) const {
        return std::lower_bound(x_.begin(), x_.end(), bound,
                                [&](float a, double b) { return static_cast<double>(a) - centre_ < b; }) -
               x_.begin();
    }

  private:
    static constexpr int64_t stride = 128;

    void take(const float* values, int64_t n) {
        x_.assign(values, values + n);
        std::sort(x_.begin(), x_.end());
        int64_t distinct = 1;
        for (int64_t i = 1; i < n; ++i) distinct += x_[i] != x_[i - 1];
        if (distinct > n / 4) return;
        std::vector<float> merged;
        merged.reserve(distinct);
        w_.reserve(distinct);
        for (int64_t i = 0; i < n; ++i) append(merged, x_[i], 1.0);
        x_ = std::move(merged);
    }

    void take(const float* values, const float* weights, int64_t n) {
        std::vector<std::pair<float, float>> points(n);
        for (int64_t i = 0; i < n; ++i) points[i] = {values[i], weights[i]};
        std::sort(points.begin(), points.end());
        x_.reserve(n);
        w_.reserve(n);
        for (const auto& [x, w] : points) append(x_, x, w);
    }

    void append(std::vector<float>& to, float x, double weight) {
        if (!to.empty() && to.back() == x) {
            w_.back() += weight;
        } else {
            to.push_back(x);
            w_.push_back(weight);
        }
    }

    void sum() {
        Compensated w, s, q;
        blocks_.reserve(size() / stride + 1);
        for (int64_t first = 0; first <= size(); first += stride) {
            blocks_.push_back({w.value(), s.value(), q.value()});
            Moments block;
            for (int64_t i = first; i < std::min(size(), first + stride); ++i) block.add(this->w(i), x(i));
            w.add(block.w);
            s.add(block.s);
            q.add(block.q);
        }
        total_ = {w.value(), s.value(), q.value()};
    }

    std::vector<float> x_;
    std::vector<double> w_;  // empty: all 1
    std::vector<Moments> blocks_;
    Moments total_;
    double centre_ = 0;
};

}  // namespace hashfold
