// One matrix in ggml's CPU backend, with our kernels or ggml's own, for tests and benches.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct cllm_trial;

// A matrix of `columns` columns of `k` weights of ggml's type `type`, rounded from `weights`, for `threads` threads; `experts`
// such matrices one behind the other, or 0 for one that isn't chosen. Null where our kernels don't have the type.
struct cllm_trial * cllm_trial_new(int type, int64_t k, int64_t columns, int64_t experts, const float * weights, int threads, bool ours);
// Multiplies `rows` of `k` values; `chosen` says which expert for each row, null without experts. Writes [rows][columns].
void cllm_trial_run(struct cllm_trial * trial, const float * rows, int64_t count, const int32_t * chosen, float * out);
// Runs again what ran last, `times` times, and returns the seconds that it took in all.
double cllm_trial_time(struct cllm_trial * trial, int times);
// The weights as they are after rounding.
void cllm_trial_weights(const struct cllm_trial * trial, float * out);
void cllm_trial_free(struct cllm_trial * trial);

#ifdef __cplusplus
}
#endif
