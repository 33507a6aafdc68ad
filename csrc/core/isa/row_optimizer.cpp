#include "../row_optimizer_table.hpp"
#include "row_update.hpp"

namespace hashfold::HASHFOLD_ISA {
namespace {

void update(const RowOptimizer& rule, const RowParameter& parameter, const int32_t* ids, Matrix<const float> grads,
            int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
        if (i + kRowsAhead < end) prefetch_row_early(parameter, ids[i + kRowsAhead]);
        update_row(rule, parameter, ids[i], grads.row(i));
    }
}

}  // namespace

const RowOptimizerTable& row_optimizer_table() {
    static constexpr RowOptimizerTable table{update};
    return table;
}

}  // namespace hashfold::HASHFOLD_ISA
