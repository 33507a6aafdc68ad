#include <optional>

#include "hashing_densify.hpp"
#include "hashing_rows.hpp"
#include "hashing_table.hpp"

namespace hashfold {
namespace {

class SparseWta {
  public:
    SparseWta(const WtaBins& bins, uint64_t seed) : bins_(bins), full_(bins.count, bins.features.rows, seed) {}

    void operator()(const Nonzeros& x, int32_t* codes) {
        const int32_t size = static_cast<int32_t>(bins_.features.cols);
        for (int64_t j = 0; j < x.size(); ++j) {
            const int32_t* slots = bins_.slots.row(x.features[j]);
            for (int64_t p = 0; p < bins_.slots.cols; ++p)
                full_.offer(slots[p] / size, x.values[j], slots[p] % size);
        }
        full_.put(codes);
    }

  private:
    const WtaBins& bins_;
    FullBins<float> full_;
};

// Rows whose bins are all full, the most of them, need the looked-at coordinates only.
void dwta_dense(const HashRows& x, const WtaBins& bins, const HashOutput& out) {
    const int64_t hashes = bins.features.rows;
    parallel_chunks(x.dense.rows, kRowGrain, [&](int64_t begin, int64_t end, int) {
        std::vector<float> scratch(x.dense.cols * kMaxBlock);
        std::vector<int32_t> codes((end - begin) * hashes);
        hashing_table().wta_dense(x.dense, bins, codes.data(), scratch.data(), begin, end);
        Nonzeros nonzeros;
        std::optional<SparseWta> sparse;
        for (int64_t i = begin; i < end; ++i) {
            int32_t* row = codes.data() + (i - begin) * hashes;
            if (std::find(row, row + hashes, -1) != row + hashes) {
                if (!sparse) sparse.emplace(bins, out.seed);
                nonzeros.read(x, i);
                (*sparse)(nonzeros, row);
            }
            put_codes(out, i, row);
        }
    });
}

}  // namespace

void dwta(const HashRows& x, const WtaBins& bins, const HashOutput& out) {
    if (x.dense.data)
        dwta_dense(x, bins, out);
    else
        hash_nonzeros(x, out, [&] { return SparseWta(bins, out.seed); });
}

}  // namespace hashfold
