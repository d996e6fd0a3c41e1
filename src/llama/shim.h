// The calls through which a C++ exception could reach Rust, each turned into a code and a message.
// A message is written to `err` (NUL-terminated, at most `err_len` bytes with the NUL) when the code is not CLLM_OK.
#pragma once

#include "ggml-cpu.h"
#include "llama.h"

#ifdef __cplusplus
extern "C" {
#endif

enum cllm_code {
    CLLM_OK        = 0,
    CLLM_FAILED    = 1,  // llama.cpp returned null or false; its own log says why
    CLLM_EXCEPTION = 2,  // a C++ exception was caught; `err` holds what()
};

// Where a GGUF lies: at `offset` of the file `fd`, which stays the caller's, or of the file at `path` where `fd` is -1.
struct cllm_place {
    const char * path;
    int32_t      fd;
    uint64_t     offset;
};

int cllm_model_load(const struct cllm_place * place, const struct llama_model_params * params, struct llama_model ** out,
                    char * err, size_t err_len);

// As llama_model_load_from_file. May throw.
struct llama_model * cllm_load_at(const struct cllm_place * place, struct llama_model_params params);

// Calls `each` for each weight of the model: where its data lies, and how many bytes ggml counts for it. The data may lie in a mapped
// file, in memory, or on a device.
void cllm_model_weights(const struct llama_model * model, void (*each)(void * user, const void * data, size_t bytes), void * user);

int cllm_context_new(struct llama_model * model, const struct llama_context_params * params,
                     struct llama_context ** out, char * err, size_t err_len);

// `*status` receives llama_decode's own return value when the code is CLLM_OK.
int cllm_decode(struct llama_context * ctx, const struct llama_batch * batch, int32_t * status, char * err,
                size_t err_len);

int cllm_logits(struct llama_context * ctx, int32_t row, float ** out, char * err, size_t err_len);

int cllm_embedding(struct llama_context * ctx, int32_t row, float ** out, char * err, size_t err_len);

// What the pooling made of a sequence of the latest step.
int cllm_embedding_seq(struct llama_context * ctx, llama_seq_id seq, float ** out, char * err, size_t err_len);

int cllm_seq_rm(struct llama_context * ctx, llama_seq_id seq, llama_pos p0, llama_pos p1, bool * removed, char * err,
                size_t err_len);

int cllm_seq_cp(struct llama_context * ctx, llama_seq_id from, llama_seq_id to, llama_pos p0, llama_pos p1, char * err,
                size_t err_len);

// Bytes that the state of the cells of `seq` has.
int cllm_state_size(struct llama_context * ctx, llama_seq_id seq, size_t * bytes, char * err, size_t err_len);

// Writes the state of the cells of `seq` to `to`, which has room for `len` bytes. CLLM_FAILED unless it has exactly `len`.
int cllm_state_save(struct llama_context * ctx, llama_seq_id seq, uint8_t * to, size_t len, char * err, size_t err_len);

// Gives `seq` new cells with the state at `from`, in place of those it has. CLLM_FAILED unless all `len` bytes are one state.
int cllm_state_restore(struct llama_context * ctx, llama_seq_id seq, const uint8_t * from, size_t len, char * err, size_t err_len);

// Bytes that the KV cache and the recurrent state take when all of their cells are used.
int cllm_memory_bytes(struct llama_context * ctx, size_t * bytes, char * err, size_t err_len);

// The part of a sequence's memory that can't be cut: its recurrent state, and what layers with a sliding window hold of it. `size` in bytes; `from` is what `cllm_checkpoint_get` wrote of
// a sequence of the same context.
int cllm_checkpoint_size(struct llama_context * ctx, llama_seq_id seq, size_t * size, char * err, size_t err_len);
int cllm_checkpoint_get(struct llama_context * ctx, llama_seq_id seq, uint8_t * to, size_t size, char * err, size_t err_len);
int cllm_checkpoint_set(struct llama_context * ctx, llama_seq_id seq, const uint8_t * from, size_t size, char * err, size_t err_len);

int cllm_threadpool_new(const struct ggml_threadpool_params * params, struct ggml_threadpool ** out, char * err,
                        size_t err_len);

#ifdef __cplusplus
}
#endif
