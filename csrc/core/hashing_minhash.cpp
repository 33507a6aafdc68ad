#include "hashing_densify.hpp"
#include "hashing_rows.hpp"
#include "hashing_table.hpp"
#include "portable_log.hpp"

namespace hashfold {
namespace {

class WeightedMinHash {
  public:
    explicit WeightedMinHash(const HashOutput& out) : seed_(out.seed), hashes_(out.hashes()) {}

    void operator()(const Nonzeros& x, int32_t* codes) {
        if (x.size() == 0) {
            std::fill_n(codes, hashes_, 0);
            return;
        }
        keys_.resize(x.size());
        logs_.resize(x.size());
        for (int64_t j = 0; j < x.size(); ++j) {
            keys_[j] = mix64(seed_, static_cast<uint64_t>(x.features[j]));
            logs_[j] = portable_log<double, uint64_t>(static_cast<double>(x.values[j]));
        }
        hashing_table().consistent_samples(keys_.data(), logs_.data(), x.size(), codes, hashes_);
    }

  private:
    uint64_t seed_;
    int64_t hashes_;
    std::vector<uint64_t> keys_;
    std::vector<double> logs_;
};

class OnePermutation {
  public:
    explicit OnePermutation(const HashOutput& out)
        : seed_(out.seed), hashes_(static_cast<uint32_t>(out.hashes())), full_(hashes_, hashes_, seed_) {}

    void operator()(const Nonzeros& x, int32_t* codes) {
        for (const int32_t feature : x.features) {
            const uint64_t random = mix64(seed_, static_cast<uint64_t>(feature));
            // A feature has one bin, so codes that name features agree only where the bin does too.
            full_.offer(below(random, hashes_), random, static_cast<int32_t>(random & 0x7FFFFFFF));
        }
        full_.put(codes);
    }

  private:
    uint64_t seed_;
    uint32_t hashes_;
    FullBins<uint64_t> full_;
};

}  // namespace

void minhash(const HashRows& x, const HashOutput& out) {
    hash_nonzeros(x, out, [&] { return WeightedMinHash(out); });
}

void doph(const HashRows& x, const HashOutput& out) {
    hash_nonzeros(x, out, [&] { return OnePermutation(out); });
}

}  // namespace hashfold
