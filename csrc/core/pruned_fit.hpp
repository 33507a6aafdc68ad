// A linear layer with a weight for each feature and output, of which the large ones are kept (pruning: Han et al.,
// NeurIPS 2015; DiSMEC: Babbar and Schoelkopf, WSDM 2017): trained output by output, as hashed_linear_fit does.
#pragma once

#include <cstdint>
#include <vector>

#include "hashed_linear.hpp"
#include "views.hpp"

namespace hashfold {

// Of task t: entries indptr[t] to indptr[t + 1], features ascending.
struct SparseWeights {
    std::vector<int64_t> indptr;
    std::vector<int32_t> features;
    std::vector<float> weights;
};

// start, if given (rows are tasks, columns features): an output has the features there, and starts from the
// weights; others stay 0. Without it all features are free, from 0. Kept are weights of magnitude `least` and more
// that are not 0, from a given start all; what is not finite is kept, for the caller to refuse. bias (outputs,) is
// read and written, losses (tasks,) as of hashed_linear_fit. A worker has 8 bytes a feature of scratch memory; the
// same bits at any number of threads.
SparseWeights pruned_fit(const Csr<float>& x, int64_t num_features, const FitTasks& tasks, const FitRule& rule,
                         const Csr<float>* start, float least, float* bias, double* losses);

}  // namespace hashfold
