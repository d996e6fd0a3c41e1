#include "trial.h"

#include <chrono>
#include <cstring>
#include <vector>

#include "ggml-alloc.h"
#include "ggml_inside.h"
#include "matrix.h"

struct cllm_trial {
    ggml_backend_t        backend = nullptr;
    ggml_threadpool_t     pool    = nullptr;
    ggml_context *        held    = nullptr;
    ggml_tensor *         matrix  = nullptr;
    ggml_backend_buffer_t weights = nullptr;
    std::vector<uint8_t>  source;

    // Of the last run.
    ggml_context *        context = nullptr;
    ggml_cgraph *         graph   = nullptr;
    ggml_backend_buffer_t buffer  = nullptr;

    void drop_run() {
        ggml_backend_buffer_free(buffer);
        ggml_free(context);
        buffer  = nullptr;
        context = nullptr;
    }
};

namespace {

ggml_context * no_memory() {
    ggml_init_params params = {};
    params.mem_size         = 16 * ggml_tensor_overhead() + ggml_graph_overhead();
    params.no_alloc         = true;
    return ggml_init(params);
}

ggml_tensor * product(ggml_context * context, ggml_tensor * matrix, bool chosen, int64_t count) {
    if (!chosen) {
        return ggml_mul_mat(context, matrix, ggml_new_tensor_2d(context, GGML_TYPE_F32, matrix->ne[0], count));
    }
    ggml_tensor * rows = ggml_new_tensor_3d(context, GGML_TYPE_F32, matrix->ne[0], 1, count);
    return ggml_mul_mat_id(context, matrix, rows, ggml_new_tensor_2d(context, GGML_TYPE_I32, 1, count));
}

// The first buffer type that takes the matrix, as llama.cpp's loader asks them; `ours` or none of ours.
ggml_backend_buffer_type_t place_of(ggml_tensor * matrix, bool chosen, bool ours) {
    ggml_context *             context = no_memory();
    ggml_tensor *              op      = product(context, matrix, chosen, 512);
    ggml_backend_buffer_type_t found   = nullptr;
    ggml_backend_dev_t         device  = ggml_backend_reg_dev_get(ggml_backend_cpu_reg(), 0);
    for (ggml_backend_buffer_type_t one : ggml_backend_cpu_get_extra_buffer_types()) {
        if (found != nullptr || (one == cllm_matrix_buffer_type()) != ours) {
            continue;
        }
        ggml_backend_buffer_t empty = ggml_backend_buft_alloc_buffer(one, 0);
        matrix->buffer              = empty;
        if (ggml_backend_dev_supports_op(device, op)) {
            found = one;
        }
        matrix->buffer = nullptr;
        ggml_backend_buffer_free(empty);
    }
    ggml_free(context);
    return found != nullptr || ours ? found : ggml_backend_cpu_buffer_type();
}

}  // namespace

cllm_trial * cllm_trial_new(int type, int64_t k, int64_t columns, int64_t experts, const float * weights, int threads, bool ours) {
    ggml_backend_load_all();
    cllm_matrix_install();
    auto * trial  = new cllm_trial;
    trial->held   = no_memory();
    trial->matrix = experts == 0 ? ggml_new_tensor_2d(trial->held, (ggml_type) type, k, columns)
                                 : ggml_new_tensor_3d(trial->held, (ggml_type) type, k, columns, experts);
    ggml_backend_buffer_type_t place = place_of(trial->matrix, experts != 0, ours);
    if (place == nullptr) {
        cllm_trial_free(trial);
        return nullptr;
    }
    trial->source.resize(ggml_nbytes(trial->matrix));
    ggml_quantize_chunk((ggml_type) type, weights, trial->source.data(), 0, ggml_nrows(trial->matrix), k, nullptr);
    trial->weights = ggml_backend_alloc_ctx_tensors_from_buft(trial->held, place);
    ggml_backend_buffer_set_usage(trial->weights, GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    ggml_backend_tensor_set(trial->matrix, trial->source.data(), 0, trial->source.size());
    trial->backend                     = ggml_backend_cpu_init();
    ggml_threadpool_params pool_params = ggml_threadpool_params_default(threads);
    trial->pool                        = ggml_threadpool_new(&pool_params);
    ggml_backend_cpu_set_threadpool(trial->backend, trial->pool);
    ggml_backend_cpu_set_n_threads(trial->backend, threads);
    return trial;
}

void cllm_trial_run(cllm_trial * trial, const float * rows, int64_t count, const int32_t * chosen, float * out) {
    trial->drop_run();
    trial->context     = no_memory();
    ggml_tensor * op   = product(trial->context, trial->matrix, chosen != nullptr, count);
    trial->graph       = ggml_new_graph(trial->context);
    ggml_build_forward_expand(trial->graph, op);
    trial->buffer = ggml_backend_alloc_ctx_tensors(trial->context, trial->backend);
    ggml_backend_tensor_set(op->src[1], rows, 0, ggml_nbytes(op->src[1]));
    if (chosen != nullptr) {
        ggml_backend_tensor_set(op->src[2], chosen, 0, ggml_nbytes(op->src[2]));
    }
    ggml_backend_graph_compute(trial->backend, trial->graph);
    ggml_backend_tensor_get(op, out, 0, ggml_nbytes(op));
}

double cllm_trial_time(cllm_trial * trial, int times) {
    const auto begun = std::chrono::steady_clock::now();
    for (int i = 0; i < times; i++) {
        ggml_backend_graph_compute(trial->backend, trial->graph);
    }
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
}

void cllm_trial_weights(const cllm_trial * trial, float * out) {
    const ggml_tensor * matrix = trial->matrix;
    if (matrix->type == GGML_TYPE_F32) {
        memcpy(out, trial->source.data(), trial->source.size());
    } else {
        ggml_get_type_traits(matrix->type)->to_float(trial->source.data(), out, ggml_nelements(matrix));
    }
}

void cllm_trial_free(cllm_trial * trial) {
    trial->drop_run();
    if (trial->backend != nullptr) {
        ggml_backend_free(trial->backend);
        ggml_threadpool_free(trial->pool);
    }
    ggml_backend_buffer_free(trial->weights);
    ggml_free(trial->held);
    delete trial;
}
