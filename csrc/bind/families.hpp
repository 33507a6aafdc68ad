// One function a binding file; module.cpp calls them all.
#pragma once

#include <nanobind/nanobind.h>

namespace hashfold {

void bind_active_linear(nanobind::module_& m);
void bind_hashed_linear(nanobind::module_& m);
void bind_folded(nanobind::module_& m);
void bind_quantized(nanobind::module_& m);
void bind_active_step(nanobind::module_& m);
void bind_runtime(nanobind::module_& m);
void bind_selection(nanobind::module_& m);
void bind_tables(nanobind::module_& m);
void bind_topk(nanobind::module_& m);
void bind_cells(nanobind::module_& m);
void bind_sparse_linear(nanobind::module_& m);
void bind_rowwise_linear(nanobind::module_& m);
void bind_relu_dropout(nanobind::module_& m);
void bind_losses(nanobind::module_& m);
void bind_row_optimizer(nanobind::module_& m);
void bind_hashing(nanobind::module_& m);
void bind_text_reader(nanobind::module_& m);
void bind_row_search(nanobind::module_& m);
void bind_packed_search(nanobind::module_& m);
void bind_label_votes(nanobind::module_& m);
void bind_kmeans1d(nanobind::module_& m);
void bind_mixture(nanobind::module_& m);

}  // namespace hashfold
