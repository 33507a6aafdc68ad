#include "kmeans1d.hpp"

#include <limits>
#include <vector>

#include "kmeans1d_points.hpp"
#include "parallel.hpp"

namespace hashfold {
namespace {

constexpr double never = std::numeric_limits<double>::infinity();

// Where one cut may lie: cells of the positions lo to hi, both included, disjoint and ascending.
struct Cut {
    std::vector<int64_t> lo, hi;
    std::vector<Moments> before_lo, before_hi;
    std::vector<double> charge;         // the least that the numbers inside the cell cost, wherever the cut lies
    std::vector<double> ahead, behind;  // the least cost of all before, all behind, with the charge
    std::vector<int64_t> from;          // the cell of the cut before, on the best path

    int64_t size() const { return static_cast<int64_t>(lo.size()); }
    bool single() const { return lo == hi; }
    int64_t positions() const {
        int64_t sum = 0;
        for (int64_t i = 0; i < size(); ++i) sum += hi[i] - lo[i] + 1;
        return sum;
    }

    // Positions a to b in `parts` cells as even as can be.
    void split(int64_t a, int64_t b, int64_t parts) {
        const int64_t count = b - a + 1;
        for (int64_t p = 0; p < parts; ++p) {
            lo.push_back(a + count * p / parts);
            hi.push_back(a + count * (p + 1) / parts - 1);
        }
    }
};

// The least entry of each row of a matrix whose least entries stand further right row by row, by halving:
// found(row, value, column). Of equals the first, or the last if `last`.
template <bool last, class Cost, class Found>
void row_minima(int64_t rows_begin, int64_t rows_end, int64_t first, int64_t final, const Cost& cost,
                const Found& found) {
    if (rows_begin >= rows_end) return;
    const int64_t row = (rows_begin + rows_end) / 2;
    double least = never;
    int64_t at = first;
    for (int64_t column = first; column <= final; ++column) {
        const double c = cost(row, column);
        if (last ? c <= least : c < least) {
            least = c;
            at = column;
        }
    }
    found(row, least, at);
    row_minima<last>(rows_begin, row, first, at, cost, found);
    row_minima<last>(row + 1, rows_end, at, final, cost, found);
}

class Search {
  public:
    Search(const SortedNumbers& numbers, int64_t k, double tolerance)
        : numbers_(numbers),
          k_(k),
          tolerance_(tolerance),
          slack_(1e-13 * numbers.total().q),
          target_(std::max<int64_t>(1024, 8 * k)),
          most_(std::max(target_, std::clamp<int64_t>(numbers.size() / 8, 1 << 20, 1 << 22) / k)),
          cuts_(k + 1) {}

    Clusters1d run(float* means) {
        const int64_t n = numbers_.size();
        cuts_[0].split(0, 0, 1);
        cuts_[k_].split(n, n, 1);
        for (int64_t j = 1; j < k_; ++j) cuts_[j] = j == 1 ? first_cells() : cuts_[1];
        int64_t rounds = 0;
        do {
            measure();
            forward();
            improve(path());
            ++rounds;
        } while (!done() && narrow());
        write(means);
        return {cost_, std::min(cost_, bound_), rounds};
    }

  private:
    // All positions in about `target_` cells: half of the cells by how many numbers they hold, half by the sum of
    // (w gap^2)^(1/3), which gives every cluster of a good solution the same share (Panter and Dite 1951).
    Cut first_cells() const {
        const int64_t n = numbers_.size();
        Cut cells;
        if (n < target_) {
            cells.split(0, n, n + 1);
            return cells;
        }
        const int64_t step = 1 + n / (1 << 20);  // a million roots are enough
        double total = 0;
        for (int64_t i = step; i < n; i += step) total += spread(i - step, i);
        double sum = 0;
        int64_t begin = 0;
        for (int64_t i = step; i < n; i += step) {
            sum += 0.5 * step / n + (total > 0 ? 0.5 * spread(i - step, i) / total : 0.0);
            if (sum * target_ < 1) continue;
            cells.split(begin, i - 1, 1);
            begin = i;
            sum = 0;
        }
        cells.split(begin, n, 1);
        return cells;
    }

    double spread(int64_t a, int64_t b) const {
        const auto gap = static_cast<float>(numbers_.x(b) - numbers_.x(a));
        return std::cbrt(gap * gap * static_cast<float>(numbers_.w(b)));
    }

    bool done() {
        bound_ = std::max(bound_, cuts_[k_].ahead[0]);
        if (cost_ - bound_ <= std::max(tolerance_ * cost_, slack_)) return true;
        return std::all_of(cuts_.begin(), cuts_.end(), [](const Cut& cut) { return cut.single(); });
    }

    // Sums before the cells, and what the numbers inside them cost at least.
    void measure() {
        for (int64_t j = 0; j <= k_; ++j) {
            Cut& cut = cuts_[j];
            const int64_t cells = cut.size();
            cut.before_lo.resize(cells);
            cut.before_hi.resize(cells);
            cut.ahead.assign(cells, 0.0);
            cut.behind.assign(cells, 0.0);
            cut.charge.assign(cells, 0.0);
            cut.from.assign(cells, 0);
            if (j > 1 && cut.lo == cuts_[j - 1].lo && cut.hi == cuts_[j - 1].hi) {  // as all are at first
                cut.before_lo = cuts_[j - 1].before_lo;
                cut.before_hi = cuts_[j - 1].before_hi;
                continue;
            }
            for (int64_t i = 0; i < cells; ++i) {
                cut.before_lo[i] = numbers_.before(cut.lo[i]);
                cut.before_hi[i] = cut.hi[i] == cut.lo[i] ? cut.before_lo[i] : numbers_.before(cut.hi[i]);
            }
        }
        for (int64_t j = 1; j < k_; ++j) charge(cuts_[j - 1], cuts_[j], cuts_[j + 1]);
    }

    // A number in a cell is at least as far from its mean as from the nearest that the means of the clusters to
    // its left and right can come, given where their cuts can lie. Only where no other cut's cells hold it too.
    void charge(const Cut& left, Cut& cut, const Cut& right) const {
        if (cut.lo.front() <= left.hi.back() || cut.hi.back() >= right.lo.front()) return;
        const Moments &a = left.before_hi.back(), &b = cut.before_hi.back();
        const Moments &c = cut.before_lo.front(), &d = right.before_lo.front();
        if (!(b.w > a.w) || !(d.w > c.w)) return;
        const double left_mean = (b.s - a.s) / (b.w - a.w), right_mean = (d.s - c.s) / (d.w - c.w);
        for (int64_t i = 0; i < cut.size(); ++i) {
            if (cut.hi[i] == cut.lo[i]) continue;
            const double apart =
                std::min(numbers_.x(cut.lo[i]) - left_mean, right_mean - numbers_.x(cut.hi[i] - 1));
            if (apart > 0) cut.charge[i] = (cut.before_hi[i].w - cut.before_lo[i].w) * apart * apart;
        }
    }

    // Between cuts in two cells lies at least what lies between the cells.
    void forward() {
        for (int64_t j = 1; j <= k_; ++j) {
            const Cut& from = cuts_[j - 1];
            Cut& to = cuts_[j];
            row_minima<false>(
                0, to.size(), 0, from.size() - 1,
                [&](int64_t row, int64_t column) {
                    if (from.lo[column] > to.hi[row]) return never;
                    return from.ahead[column] + scatter(from.before_hi[column], to.before_lo[row]);
                },
                [&](int64_t row, double least, int64_t column) {
                    to.ahead[row] = least + to.charge[row];
                    to.from[row] = column;
                });
        }
    }

    void backward() {
        for (int64_t j = k_ - 1; j >= 0; --j) {
            const Cut& next = cuts_[j + 1];
            Cut& cut = cuts_[j];
            row_minima<true>(
                0, cut.size(), 0, next.size() - 1,
                [&](int64_t row, int64_t column) {
                    if (cut.lo[row] > next.hi[column]) return never;
                    return next.behind[column] + scatter(cut.before_hi[row], next.before_lo[column]);
                },
                [&](int64_t row, double least, int64_t) { cut.behind[row] = least + cut.charge[row]; });
        }
    }

    std::vector<int64_t> path() const {
        std::vector<int64_t> positions(k_ + 1);
        int64_t cell = 0;
        for (int64_t j = k_; j >= 0; --j) {
            positions[j] = cuts_[j].lo[cell];
            cell = cuts_[j].from[cell];
        }
        for (int64_t j = 1; j <= k_; ++j) positions[j] = std::max(positions[j], positions[j - 1]);
        return positions;
    }

    // Lloyd's algorithm from these cuts; its result is kept if it is the best so far.
    void improve(std::vector<int64_t> positions) {
        for (int step = 0; step < 1000; ++step) {
            const std::vector<double> means = means_of(positions);
            std::vector<int64_t> next = positions;
            for (int64_t j = 1; j < k_; ++j) next[j] = numbers_.below((means[j - 1] + means[j]) / 2);
            if (next == positions) break;
            positions = std::move(next);
        }
        double cost = 0;
        Moments before = numbers_.before(0);
        for (int64_t j = 1; j <= k_; ++j) {
            const Moments after = numbers_.before(positions[j]);
            cost += scatter(before, after);
            before = after;
        }
        if (cost < cost_) {
            cost_ = cost;
            best_ = std::move(positions);
        }
    }

    // Of clusters without weight, the mean of the cluster before: such clusters stay empty.
    std::vector<double> means_of(const std::vector<int64_t>& positions) const {
        std::vector<double> means(k_);
        Moments before = numbers_.before(positions[0]);
        double mean = numbers_.x(0);
        for (int64_t j = 0; j < k_; ++j) {
            const Moments after = numbers_.before(positions[j + 1]);
            if (after.w > before.w) mean = (after.s - before.s) / (after.w - before.w);
            means[j] = mean;
            before = after;
        }
        return means;
    }

    // Drops the cells that hold no cut of a solution as good as the best, splits the others. False: no use.
    bool narrow() {
        backward();
        int64_t before = 0, after = 0;
        std::vector<Cut> kept(k_ + 1);
        for (int64_t j = 0; j <= k_; ++j) {
            before += cuts_[j].positions();
            kept[j] = promising(cuts_[j]);
            after += kept[j].positions();
            if (kept[j].size() == 0) {  // nothing is better than the best
                bound_ = cost_;
                return false;
            }
        }
        if (after > before / 2) {
            if (target_ == most_ && after > before - before / 10) return false;
            target_ = std::min(most_, 2 * target_);
        }
        for (int64_t j = 0; j <= k_; ++j) cuts_[j] = finer(kept[j]);
        return true;
    }

    Cut promising(const Cut& cut) const {
        Cut kept;
        for (int64_t i = 0; i < cut.size(); ++i)
            if (cut.ahead[i] + cut.behind[i] - cut.charge[i] <= cost_ + slack_)
                kept.split(cut.lo[i], cut.hi[i], 1);
        return kept;
    }

    Cut finer(const Cut& cut) const {
        Cut cells;
        const int64_t total = cut.positions();
        for (int64_t i = 0; i < cut.size(); ++i) {
            const int64_t count = cut.hi[i] - cut.lo[i] + 1;
            const double share = static_cast<double>(count) * target_ / total;
            cells.split(cut.lo[i], cut.hi[i], std::clamp<int64_t>(static_cast<int64_t>(share), 1, count));
        }
        return cells;
    }

    void write(float* means) const {
        int64_t written = 0;
        for (int64_t j = 0; j < k_; ++j) {
            double w = 0, s = 0;
            for (int64_t i = best_[j]; i < best_[j + 1]; ++i) {
                w += numbers_.w(i);
                s += numbers_.w(i) * numbers_.x(i);
            }
            if (w > 0) means[written++] = static_cast<float>(s / w + numbers_.centre());
        }
        if (written == 0) means[written++] = static_cast<float>(numbers_.centre());  // no weight at all
        for (; written < k_; ++written) means[written] = means[written - 1];
    }

    const SortedNumbers& numbers_;
    const int64_t k_;
    const double tolerance_, slack_;
    int64_t target_;  // cells a cut
    const int64_t most_;
    std::vector<Cut> cuts_;
    std::vector<int64_t> best_;
    double cost_ = never, bound_ = 0;
};

}  // namespace

Clusters1d kmeans1d(const float* values, const float* weights, int64_t n, int64_t k, double tolerance,
                    float* means) {
    const SortedNumbers numbers(values, weights, n);
    return Search(numbers, k, tolerance).run(means);
}

void kmeans1d_groups(const float* values, const float* weights, const int64_t* starts, double tolerance,
                     Matrix<float> means, double* costs, double* bounds) {
    parallel_chunks(means.rows, 1, [&](int64_t begin, int64_t end, int) {
        for (int64_t g = begin; g < end; ++g) {
            const float* w = weights == nullptr ? nullptr : weights + starts[g];
            const Clusters1d found =
                kmeans1d(values + starts[g], w, starts[g + 1] - starts[g], means.cols, tolerance, means.row(g));
            costs[g] = found.cost;
            bounds[g] = found.bound;
        }
    });
}

}  // namespace hashfold
