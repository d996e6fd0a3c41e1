// Products of matrices with kernels of our own, for weights that were loaded into our buffer type.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "ggml-backend.h"

#ifdef __cplusplus
extern "C" {
#endif

// Puts our buffer type before those that ggml's CPU backend offers for weights. Called once, before the first model is loaded.
void cllm_matrix_install(void);

// Whether models that are loaded from now on get ggml's own kernels, and what ggml computes may be added in its several orders.
void cllm_matrix_leave_to_ggml(bool leave);

// Whether weights that are loaded from now on are locked into memory. Returns how many bytes couldn't be since the last call.
size_t cllm_matrix_lock(bool lock);

// The read-only mapping of the file from which this thread loads weights from now on: pages that were laid out are given back.
// None with a size of 0, as it must be before the mapping ends.
void cllm_matrix_read_from(const void * mapping, size_t size);

// How many weights were left to ggml's kernels whose sums depend on the number of rows, since the last call.
size_t cllm_matrix_take_inexact(void);

// Our buffer type; null before `cllm_matrix_install`, and where ggml's buffer types aren't as they should be.
ggml_backend_buffer_type_t cllm_matrix_buffer_type(void);

#ifdef __cplusplus
}
#endif
