// What mixture needs from each instruction set.
#pragma once

#include "isa.hpp"
#include "mixture.hpp"

namespace hashfold {

struct MixtureTable {
    // scratch: features * kMixturePadding.
    void (*scores)(Matrix<const float> features, const MixtureWeights& weights, float* scores, int64_t begin,
                   int64_t end, float* scratch);
    // Rows [begin, end), of at most `room - kMixturePadding` candidates: adds to the gradient, returns their loss.
    // scratch: (units + 1) * room.
    double (*loss)(const MixtureLists& lists, const MixtureWeights& weights, int64_t begin, int64_t end,
                   int64_t room, float* scratch, float* gradient);
};

HASHFOLD_DISPATCH(MixtureTable, mixture_table)

}  // namespace hashfold
