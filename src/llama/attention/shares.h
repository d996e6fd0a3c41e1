// Which thread computes what.
#pragma once

#include "rows.h"

struct ggml_compute_params;

namespace cllm::attention {

// Bytes of ggml's work memory that `compute` needs.
size_t work_size(const Problem & p, int threads);
// Computes this thread's share. All threads of a graph call it.
void compute(const ggml_compute_params & params, const Problem & p);
// Whether this thread's last call of `compute` didn't know the positions of a step's cells.
bool lacked_positions();

}  // namespace cllm::attention
