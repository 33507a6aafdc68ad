#include "parallel.hpp"
#include "row_optimizer_table.hpp"

namespace hashfold {

void row_update(const RowOptimizer& rule, const RowParameter& parameter, const int32_t* ids,
                Matrix<const float> grads) {
    parallel_chunks(grads.rows, 64, [&](int64_t begin, int64_t end, int) {
        row_optimizer_table().update(rule, parameter, ids, grads, begin, end);
    });
}

}  // namespace hashfold
