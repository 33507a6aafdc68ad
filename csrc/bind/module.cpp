#include "families.hpp"

NB_MODULE(_native, m) {
    hashfold::bind_runtime(m);
    hashfold::bind_hashing(m);
    hashfold::bind_active_linear(m);
    hashfold::bind_active_step(m);
    hashfold::bind_losses(m);
    hashfold::bind_relu_dropout(m);
    hashfold::bind_row_optimizer(m);
    hashfold::bind_selection(m);
    hashfold::bind_tables(m);
    hashfold::bind_quantized(m);
    hashfold::bind_topk(m);
    hashfold::bind_cells(m);
    hashfold::bind_sparse_linear(m);
    hashfold::bind_rowwise_linear(m);
    hashfold::bind_hashed_linear(m);
    hashfold::bind_folded(m);
    hashfold::bind_text_reader(m);
    hashfold::bind_row_search(m);
    hashfold::bind_packed_search(m);
    hashfold::bind_label_votes(m);
    hashfold::bind_kmeans1d(m);
    hashfold::bind_mixture(m);
}
