// Catches every C++ exception on the way from llama.cpp to Rust, where it would abort the process.

#include "shim.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

// llama.cpp's own list of a model's weights (llama-model.h), with their names.
const std::vector<std::pair<std::string, ggml_tensor *>> & llama_internal_get_tensor_map(const llama_model * model);

// llama.cpp's memory by kind of buffer (llama-ext.h).
struct llama_memory_breakdown_data {
    size_t model;
    size_t context;
    size_t compute;
};
std::map<ggml_backend_buffer_type_t, llama_memory_breakdown_data> llama_get_memory_breakdown(const llama_context * ctx);

namespace {

template <typename Call> int guarded(char * err, size_t err_len, Call && call) {
    try {
        return call();
    } catch (const std::exception & e) {
        std::snprintf(err, err_len, "%s", e.what());
    } catch (...) {
        std::snprintf(err, err_len, "unknown C++ exception");
    }
    return CLLM_EXCEPTION;
}

}  // namespace

// Mapped or read: llama.cpp is done with the file itself when it returns. A path of its own it may follow to further
// files of the model.
llama_model * cllm_load_at(const cllm_place * place, llama_model_params params) {
    if (place->fd == -1 && place->offset == 0) {
        return llama_model_load_from_file(place->path, params);
    }
    const int fd = place->fd == -1 ? open(place->path, O_RDONLY | O_CLOEXEC) : fcntl(place->fd, F_DUPFD_CLOEXEC, 0);
    const std::unique_ptr<FILE, int (*)(FILE *)> file(fd == -1 ? nullptr : fdopen(fd, "rb"), std::fclose);
    if (!file || fseeko(file.get(), (off_t) place->offset, SEEK_SET) != 0) {
        throw std::runtime_error(std::strerror(errno));
    }
    return llama_model_load_from_file_ptr(file.get(), params);
}

int cllm_model_load(const cllm_place * place, const llama_model_params * params, llama_model ** out, char * err,
                    size_t err_len) {
    return guarded(err, err_len, [&] {
        *out = cllm_load_at(place, *params);
        return *out ? CLLM_OK : CLLM_FAILED;
    });
}

void cllm_model_weights(const llama_model * model, void (*each)(void * user, const void * data, size_t bytes), void * user) {
    for (const auto & named : llama_internal_get_tensor_map(model)) {
        each(user, named.second->data, ggml_nbytes(named.second));
    }
}

int cllm_context_new(llama_model * model, const llama_context_params * params, llama_context ** out, char * err,
                     size_t err_len) {
    return guarded(err, err_len, [&] {
        *out = llama_init_from_model(model, *params);
        return *out ? CLLM_OK : CLLM_FAILED;
    });
}

int cllm_decode(llama_context * ctx, const llama_batch * batch, int32_t * status, char * err, size_t err_len) {
    return guarded(err, err_len, [&] {
        *status = llama_decode(ctx, *batch);
        return CLLM_OK;
    });
}

int cllm_logits(llama_context * ctx, int32_t row, float ** out, char * err, size_t err_len) {
    return guarded(err, err_len, [&] {
        *out = llama_get_logits_ith(ctx, row);
        return *out ? CLLM_OK : CLLM_FAILED;
    });
}

int cllm_embedding(llama_context * ctx, int32_t row, float ** out, char * err, size_t err_len) {
    return guarded(err, err_len, [&] {
        *out = llama_get_embeddings_ith(ctx, row);
        return *out ? CLLM_OK : CLLM_FAILED;
    });
}

int cllm_embedding_seq(llama_context * ctx, llama_seq_id seq, float ** out, char * err, size_t err_len) {
    return guarded(err, err_len, [&] {
        *out = llama_get_embeddings_seq(ctx, seq);
        return *out ? CLLM_OK : CLLM_FAILED;
    });
}

int cllm_seq_rm(llama_context * ctx, llama_seq_id seq, llama_pos p0, llama_pos p1, bool * removed, char * err,
                size_t err_len) {
    return guarded(err, err_len, [&] {
        *removed = llama_memory_seq_rm(llama_get_memory(ctx), seq, p0, p1);
        return CLLM_OK;
    });
}

int cllm_seq_cp(llama_context * ctx, llama_seq_id from, llama_seq_id to, llama_pos p0, llama_pos p1, char * err,
                size_t err_len) {
    return guarded(err, err_len, [&] {
        llama_memory_seq_cp(llama_get_memory(ctx), from, to, p0, p1);
        return CLLM_OK;
    });
}

int cllm_state_size(llama_context * ctx, llama_seq_id seq, size_t * bytes, char * err, size_t err_len) {
    return guarded(err, err_len, [&] {
        *bytes = llama_state_seq_get_size(ctx, seq);
        return *bytes > 0 ? CLLM_OK : CLLM_FAILED;
    });
}

int cllm_state_save(llama_context * ctx, llama_seq_id seq, uint8_t * to, size_t len, char * err, size_t err_len) {
    return guarded(err, err_len, [&] { return llama_state_seq_get_data(ctx, to, len, seq) == len ? CLLM_OK : CLLM_FAILED; });
}

int cllm_state_restore(llama_context * ctx, llama_seq_id seq, const uint8_t * from, size_t len, char * err, size_t err_len) {
    return guarded(err, err_len, [&] { return llama_state_seq_set_data(ctx, from, len, seq) == len ? CLLM_OK : CLLM_FAILED; });
}

int cllm_memory_bytes(llama_context * ctx, size_t * bytes, char * err, size_t err_len) {
    return guarded(err, err_len, [&] {
        *bytes = 0;
        for (const auto & of_buffers : llama_get_memory_breakdown(ctx)) {
            *bytes += of_buffers.second.context;
        }
        return CLLM_OK;
    });
}

int cllm_checkpoint_size(llama_context * ctx, llama_seq_id seq, size_t * size, char * err, size_t err_len) {
    return guarded(err, err_len, [&] {
        *size = llama_state_seq_get_size_ext(ctx, seq, LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY);
        return *size > 0 ? CLLM_OK : CLLM_FAILED;
    });
}

int cllm_checkpoint_get(llama_context * ctx, llama_seq_id seq, uint8_t * to, size_t size, char * err, size_t err_len) {
    return guarded(err, err_len, [&] {
        const size_t written = llama_state_seq_get_data_ext(ctx, to, size, seq, LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY);
        return written == size ? CLLM_OK : CLLM_FAILED;
    });
}

int cllm_checkpoint_set(llama_context * ctx, llama_seq_id seq, const uint8_t * from, size_t size, char * err, size_t err_len) {
    return guarded(err, err_len, [&] {
        const size_t read = llama_state_seq_set_data_ext(ctx, from, size, seq, LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY);
        return read == size ? CLLM_OK : CLLM_FAILED;
    });
}

int cllm_threadpool_new(const ggml_threadpool_params * params, ggml_threadpool ** out, char * err, size_t err_len) {
    return guarded(err, err_len, [&] {
        ggml_threadpool_params copy = *params;
        *out = ggml_threadpool_new(&copy);
        return *out ? CLLM_OK : CLLM_FAILED;
    });
}
