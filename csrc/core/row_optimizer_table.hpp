// What row_optimizer needs from each instruction set.
#pragma once

#include "isa.hpp"
#include "row_optimizer.hpp"

namespace hashfold {

struct RowOptimizerTable {
    void (*update)(const RowOptimizer& rule, const RowParameter& parameter, const int32_t* ids,
                   Matrix<const float> grads, int64_t begin, int64_t end);
};

HASHFOLD_DISPATCH(RowOptimizerTable, row_optimizer_table)

}  // namespace hashfold
