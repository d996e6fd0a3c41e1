// Products of matrices in the place of ggml's (GGML_OP_MUL_MAT, GGML_OP_MUL_MAT_ID): a buffer type that lays weights out at
// load as `layout.h` says, and computes with `product.h`'s kernels.
//
// A row of the result has the same bits whatever other rows are computed with it and however many threads there are: a thread
// takes whole tiles, and each number of rows adds in the same order. ggml picks among kernels by the number of rows, which add
// in different orders; what is left to it (other types, weights that aren't relaid) is therefore kept from its kernels for
// several rows, by `__wrap_llamafile_sgemm` and `__wrap_ggml_compute_forward_mul_mat_tiled`, and takes its dot product of two
// vectors for each number.

#include "matrix.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <sys/mman.h>
#include <thread>
#include <vector>

#include "ggml_inside.h"
#include "layout.h"
#include "product.h"
#include "rows.h"

extern "C" {

bool __real_llamafile_sgemm(const ggml_compute_params * params, int64_t m, int64_t n, int64_t k, const void * a, int64_t lda,
                            const void * b, int64_t ldb, void * c, int64_t ldc, int a_type, int b_type, int c_type);
bool __wrap_llamafile_sgemm(const ggml_compute_params * params, int64_t m, int64_t n, int64_t k, const void * a, int64_t lda,
                            const void * b, int64_t ldb, void * c, int64_t ldc, int a_type, int b_type, int c_type);
bool __real_ggml_compute_forward_mul_mat_tiled(const ggml_compute_params * params, ggml_tensor * dst);
bool __wrap_ggml_compute_forward_mul_mat_tiled(const ggml_compute_params * params, ggml_tensor * dst);
bool __real_ggml_compute_forward_mul_mat_id_tiled(const ggml_compute_params * params, ggml_tensor * dst, int64_t expert,
                                                  int64_t count, const int32_t * rows, char * scratch);
bool __wrap_ggml_compute_forward_mul_mat_id_tiled(const ggml_compute_params * params, ggml_tensor * dst, int64_t expert,
                                                  int64_t count, const int32_t * rows, char * scratch);
}

namespace cllm {

Product product_of(ggml_type type, int rows) {
    for (const auto part : {product_k, product_32, product_16}) {
        if (const Product product = part(type, rows)) {
            return product;
        }
    }
    return nullptr;
}

namespace {

// Addresses from `begin` up to `end`.
struct Span {
    uintptr_t begin = 0, end = 0;

    bool holds(uintptr_t from, uintptr_t to) const { return begin <= from && to <= end; }
    // The whole pages of it.
    Span pages() const {
        constexpr uintptr_t PAGE  = 4096;
        const uintptr_t     first = (begin + PAGE - 1) & ~(PAGE - 1), last = end & ~(PAGE - 1);
        return {first, std::max(first, last)};
    }
    void advise(int advice) const {
        if (end > begin) {
            madvise(reinterpret_cast<void *>(begin), end - begin, advice);
        }
    }
};

Span span_of(const void * from, size_t size) {
    const auto begin = reinterpret_cast<uintptr_t>(from);
    return {begin, begin + size};
}

// ORDERING: Relaxed. Benches write it between runs; loading and computing read it, and nothing else hangs on it.
std::atomic<bool> left_to_ggml{false};
// ORDERING: Relaxed. Written and read by the thread that loads a model.
std::atomic<bool>   locked{false};
std::atomic<size_t> unlocked{0};
std::atomic<size_t> inexact{0};
// The file's mapping from which this thread loads weights, empty where there is none.
thread_local Span mapped;

// Bytes of the file that a thread lays out before it gives their pages back.
constexpr size_t GIVEN_BACK = 1024 * 1024;
// Bytes of rows that stay in the second cache while tiles pass over them.
constexpr size_t CACHED_ROWS = 512 * 1024;
// Tiles that a thread takes at a time, at most: their weights stay in the second cache while blocks of rows pass over them.
constexpr int64_t CHUNK_MAX = 8;
// Values of all rows up to which each thread rounds them itself: waiting for the others would take as long.
constexpr int64_t ROUNDED_BY_EACH = 8192;

size_t aligned(size_t bytes) {
    return (bytes + 63) / 64 * 64;
}

// How many rows there are, and where.
struct Rows {
    const ggml_tensor * tensor;

    int64_t count() const { return ggml_nrows(tensor); }
    const float * at(int64_t row) const { return (const float *) place(tensor, row); }
    static char * place(const ggml_tensor * of, int64_t row) {
        const int64_t i1 = row % of->ne[1], i2 = row / of->ne[1] % of->ne[2], i3 = row / of->ne[1] / of->ne[2];
        return (char *) of->data + i1 * of->nb[1] + i2 * of->nb[2] + i3 * of->nb[3];
    }
};

// Bytes of a block of one row, by which rows that lie together are apart.
size_t row_step(const Layout & layout, int64_t k) {
    switch (layout.rows) {
        case RowFormat::Bytes256: return sizeof(Row256);
        case RowFormat::Bytes32:  return sizeof(Row32);
        case RowFormat::Floats:   break;
    }
    return (size_t) k * sizeof(float);
}

class Traits : public ggml::cpu::tensor_traits {
  public:
    bool work_size(int threads, const ggml_tensor * op, size_t & size) override {
        const Layout & layout = *layout_of(op->src[0]->type);
        const int64_t  k      = op->src[1]->ne[0];
        const size_t   rows   = aligned(rows_bytes(layout, k, ggml_nrows(op->src[1])));
        if (op->op == GGML_OP_MUL_MAT_ID) {
            size = rows + (size_t) threads * gathered_bytes(layout, k);
        } else {
            size = each_rounds(op) ? rows * (size_t) threads : rows;
        }
        return true;
    }

    bool compute_forward(ggml_compute_params * params, ggml_tensor * op) override {
        if (op->op == GGML_OP_MUL_MAT_ID) {
            multiply_chosen(*params, op);
        } else {
            multiply(*params, op);
        }
        return true;
    }

  private:
    static bool each_rounds(const ggml_tensor * op) { return ggml_nelements(op->src[1]) <= ROUNDED_BY_EACH; }

    static size_t gathered_bytes(const Layout & layout, int64_t k) {
        return aligned(rows_bytes(layout, k, ROWS_MAX)) + ROWS_MAX * 16 * sizeof(float);
    }

    static void multiply(const ggml_compute_params & params, ggml_tensor * op) {
        const ggml_tensor * weights = op->src[0];
        const Layout &      layout  = *layout_of(weights->type);
        const Rows          from{op->src[1]};
        const int64_t       k = weights->ne[0], columns = weights->ne[1], count = from.count();
        const int64_t       tiles = (columns + 15) / 16;
        const size_t        bytes = aligned(rows_bytes(layout, k, count));
        uint8_t *           rows  = (uint8_t *) params.wdata;

        int64_t chunk = (tiles + params.nth - 1) / params.nth;
        if (each_rounds(op) && params.wsize >= bytes * (size_t) params.nth) {
            rows += bytes * (size_t) params.ith;
            for (int64_t row = 0; row < count; row++) {
                write_row(layout, from.at(row), rows, k, row, count);
            }
            const int64_t first = chunk * params.ith;
            pass(layout, op, rows, count, first, std::min(tiles, first + chunk));
            return;
        }
        for (int64_t row = params.ith; row < count; row += params.nth) {
            write_row(layout, from.at(row), rows, k, row, count);
        }
        if (params.ith == 0) {
            ggml_threadpool_chunk_set(params.threadpool, params.nth);
        }
        ggml_barrier(params.threadpool);
        chunk = std::clamp<int64_t>(tiles / (params.nth * 8), 1, CHUNK_MAX);
        for (int64_t at = params.ith; at * chunk < tiles; at = ggml_threadpool_chunk_add(params.threadpool, 1)) {
            pass(layout, op, rows, count, at * chunk, std::min(tiles, (at + 1) * chunk));
        }
    }

    // All rows with tiles `first..end`.
    static void pass(const Layout & layout, ggml_tensor * op, const uint8_t * rows, int64_t count, int64_t first, int64_t end) {
        const ggml_tensor * weights = op->src[0];
        const int64_t       k = weights->ne[0], columns = weights->ne[1];
        const size_t        step = row_step(layout, k), tile_bytes = layout.tile_bytes(k);
        const int           most = rows_max(layout);
        const int64_t       fits = std::max<int64_t>(1, (int64_t) (CACHED_ROWS / std::max<size_t>(1, rows_bytes(layout, k, most)))) * most;
        for (int64_t begin = 0; begin < count;) {
            const int64_t left    = count - begin;
            const int64_t of_pass = left <= fits ? left : std::min(left, fits);
            // Groups of nearly the same size.
            const int64_t groups = (of_pass + most - 1) / most;
            for (int64_t tile = first; tile < end; tile++) {
                for (int64_t group = 0; group < groups; group++) {
                    const int64_t from = begin + of_pass * group / groups, to = begin + of_pass * (group + 1) / groups;
                    multiply_group(layout, op, rows, count, step, tile, tile_bytes, columns, k, from, to, begin == 0 && group == 0);
                }
            }
            begin += of_pass;
        }
    }

    static void multiply_group(const Layout & layout, ggml_tensor * op, const uint8_t * rows, int64_t count, size_t step,
                               int64_t tile, size_t tile_bytes, int64_t columns, int64_t k, int64_t from, int64_t to, bool is_first) {
        const int present = (int) std::min<int64_t>(16, columns - tile * 16);
        // Rows of a result lie evenly, but for those of another plane.
        while (from < to) {
            const int64_t plane_end = std::min(to, (from / op->ne[1] + 1) * op->ne[1]);
            Task          task;
            task.tile    = (const uint8_t *) op->src[0]->data + (size_t) tile * tile_bytes;
            task.rows    = rows + (size_t) from * step;
            task.count   = count;
            task.k       = k;
            task.out     = (float *) Rows::place(op, from) + tile * 16;
            task.stride  = op->nb[1] / sizeof(float);
            task.columns = present;
            task.is_first = is_first;
            product_of(layout.type, (int) (plane_end - from))(task);
            from = plane_end;
        }
    }

    // Each token's rows with the matrices that were chosen for it. A matrix' rows are gathered, as many as a pass takes.
    static void multiply_chosen(const ggml_compute_params & params, ggml_tensor * op) {
        const ggml_tensor *weights = op->src[0], *chosen = op->src[2];
        const Layout &     layout = *layout_of(weights->type);
        const Rows         from{op->src[1]};
        const int64_t      k = weights->ne[0], columns = weights->ne[1], count = from.count();
        const int64_t      tiles = (columns + 15) / 16, per_token = op->src[1]->ne[1];
        const size_t       tile_bytes = layout.tile_bytes(k), step = row_step(layout, k);
        uint8_t *          rows     = (uint8_t *) params.wdata;
        uint8_t *          gathered = rows + aligned(rows_bytes(layout, k, count)) + (size_t) params.ith * gathered_bytes(layout, k);
        float *            results  = (float *) (gathered + aligned(rows_bytes(layout, k, ROWS_MAX)));
        const int          most     = rows_max(layout);

        for (int64_t row = params.ith; row < count; row += params.nth) {
            write_row(layout, from.at(row), rows, k, row, count);
        }
        ggml_barrier(params.threadpool);

        const int64_t part = (tiles + params.nth - 1) / params.nth, first = part * params.ith, end = std::min(tiles, first + part);
        const int64_t slots = chosen->ne[0], tokens = chosen->ne[1];
        const auto    expert_of = [&](int64_t slot, int64_t token) {
            return *(const int32_t *) ((const char *) chosen->data + token * chosen->nb[1] + slot * chosen->nb[0]);
        };
        struct Pair {
            int32_t expert;
            int64_t slot, token;
        };
        std::vector<Pair> pairs;
        pairs.reserve((size_t) (slots * tokens));
        for (int64_t token = 0; token < tokens; token++) {
            for (int64_t slot = 0; slot < slots; slot++) {
                pairs.push_back({expert_of(slot, token), slot, token});
            }
        }
        std::stable_sort(pairs.begin(), pairs.end(), [](const Pair & a, const Pair & b) { return a.expert < b.expert; });
        for (size_t at = 0; at < pairs.size();) {
            size_t to = at + 1;
            while (to < pairs.size() && pairs[to].expert == pairs[at].expert && to - at < (size_t) most) {
                to++;
            }
            const int64_t many = (int64_t) (to - at);
            for (int64_t r = 0; r < many; r++) {
                const int64_t row = pairs[at + r].token * per_token + pairs[at + r].slot % per_token;
                gather(layout, rows, count, row, gathered, many, r, k, step);
            }
            for (int64_t tile = first; tile < end; tile++) {
                const int present = (int) std::min<int64_t>(16, columns - tile * 16);
                Task      task;
                task.tile    = (const uint8_t *) weights->data + (size_t) pairs[at].expert * layout.bytes(k, columns) + (size_t) tile * tile_bytes;
                task.rows    = gathered;
                task.count   = many;
                task.k       = k;
                task.out     = results;
                task.stride  = 16;
                task.columns = present;
                task.is_first = true;
                product_of(layout.type, (int) many)(task);
                for (int64_t r = 0; r < many; r++) {
                    char * out = (char *) op->data + pairs[at + r].slot * op->nb[1] + pairs[at + r].token * op->nb[2];
                    std::copy_n(results + r * 16, present, (float *) out + tile * 16);
                }
            }
            at = to;
        }
    }

    static void gather(const Layout & layout, const uint8_t * rows, int64_t count, int64_t row, uint8_t * to, int64_t to_count,
                       int64_t to_row, int64_t k, size_t step) {
        const int64_t blocks = layout.rows == RowFormat::Floats ? 1 : k / layout.values;
        for (int64_t block = 0; block < blocks; block++) {
            memcpy(to + (size_t) (block * to_count + to_row) * step, rows + (size_t) (block * count + row) * step, step);
        }
    }
};

Traits traits;

bool is_ours(const ggml_tensor * weights) {
    return weights != nullptr && weights->buffer != nullptr &&
           ggml_backend_buffer_get_type(weights->buffer) == cllm_matrix_buffer_type();
}

// Whether one of ggml's own buffer types would take the weights: their kernels for one row and for several differ.
bool is_taken_by_ggml(ggml_backend_dev_t device, const ggml_tensor * op) {
    ggml_tensor *         weights = op->src[0];
    ggml_backend_buffer_t held    = weights->buffer;
    bool                  taken   = false;
    for (ggml_backend_buffer_type_t one : ggml_backend_cpu_get_extra_buffer_types()) {
        if (one != cllm_matrix_buffer_type() && one->context != nullptr) {
            weights->buffer = ggml_backend_buft_alloc_buffer(one, 0);
            taken           = taken || static_cast<ggml::cpu::extra_buffer_type *>(one->context)->supports_op(device, op);
            ggml_backend_buffer_free(weights->buffer);
        }
    }
    weights->buffer = held;
    return taken;
}

class BufferType : public ggml::cpu::extra_buffer_type {
  public:
    bool supports_op(ggml_backend_dev_t device, const ggml_tensor * op) override {
        const ggml_tensor *weights = op->src[0], *rows = op->src[1];
        if ((op->op != GGML_OP_MUL_MAT && op->op != GGML_OP_MUL_MAT_ID) || !is_ours(weights)) {
            return false;
        }
        const Layout * layout = layout_of(weights->type);
        const bool     planes = op->op == GGML_OP_MUL_MAT ? ggml_n_dims(weights) <= 2 : weights->ne[3] == 1;
        const bool     host   = rows->buffer == nullptr || ggml_backend_buft_is_host(ggml_backend_buffer_get_type(rows->buffer));
        const bool     can    = layout != nullptr && planes && host && weights->ne[0] % layout->values == 0 &&
                         rows->type == GGML_TYPE_F32 && rows->nb[0] == sizeof(float) && op->type == GGML_TYPE_F32;
        // Before loading, the question is put with a buffer of no bytes.
        if (ggml_backend_buffer_get_size(weights->buffer) != 0) {
            return can;
        }
        if (!can && is_taken_by_ggml(device, op)) {
            inexact.fetch_add(1, std::memory_order_relaxed);
        }
        return can && !left_to_ggml.load(std::memory_order_relaxed);
    }

    ggml::cpu::tensor_traits * get_tensor_traits(const ggml_tensor * op) override {
        const bool product = op->op == GGML_OP_MUL_MAT || op->op == GGML_OP_MUL_MAT_ID;
        return product && is_ours(op->src[0]) ? &traits : nullptr;
    }
};

const char * name_of(ggml_backend_buffer_type_t) {
    return "CLLM";
}

size_t alignment(ggml_backend_buffer_type_t) {
    return 64;
}

// Bytes of a tensor with all its planes; views take none of their own.
size_t bytes_of(ggml_backend_buffer_type_t, const ggml_tensor * tensor) {
    const Layout * layout = layout_of(tensor->type);
    if (layout == nullptr || tensor->ne[0] % layout->values != 0) {
        return ggml_nbytes(tensor);
    }
    return layout->bytes(tensor->ne[0], tensor->ne[1]) * (size_t) (tensor->ne[2] * tensor->ne[3]);
}

// Lays out tiles `at..end`, counted over all planes, and gives back the file's pages behind it: the weights are in memory once, but
// for GIVEN_BACK bytes of each thread.
void lay_out_part(const Layout & layout, const ggml_tensor * tensor, const uint8_t * from, bool is_mapped, int64_t at, int64_t end) {
    const int64_t k = tensor->ne[0], columns = tensor->ne[1], tiles = (columns + 15) / 16;
    const size_t  row_bytes = ggml_row_size(tensor->type, k);
    const auto    steps = std::max<int64_t>(1, (int64_t) (GIVEN_BACK / (16 * row_bytes)));
    while (at < end) {
        const int64_t   plane = at / tiles, first = at - plane * tiles, last = std::min({end - plane * tiles, tiles, first + steps});
        const uint8_t * weights = from + (size_t) (plane * columns) * row_bytes;
        lay_out(layout, weights, (uint8_t *) tensor->data + (size_t) plane * layout.bytes(k, columns), k, columns, first, last);
        if (is_mapped) {
            const int64_t read = std::min(last * 16, columns) - first * 16;
            span_of(weights + (size_t) (first * 16) * row_bytes, (size_t) read * row_bytes).pages().advise(MADV_DONTNEED);
        }
        at += last - first;
    }
}

// Lays a tensor out, a part for each core: it takes as long as reading the memory does.
void set_tensor(ggml_backend_buffer_t, ggml_tensor * tensor, const void * data, size_t offset, size_t size) {
    constexpr size_t PART_BYTES = 256 * 1024;
    GGML_ASSERT(offset == 0 && size == ggml_nbytes(tensor));
    const Layout & layout = *layout_of(tensor->type);
    const int64_t  all    = (tensor->ne[1] + 15) / 16 * tensor->ne[2] * tensor->ne[3];
    const auto     parts  = (int64_t) std::clamp<size_t>(size / PART_BYTES, 1, std::clamp(std::thread::hardware_concurrency(), 1u, 16u));
    const Span     source = span_of(data, size);
    const bool     is_mapped = mapped.holds(source.begin, source.end);
    const auto     part      = [&](int64_t number) {
        lay_out_part(layout, tensor, (const uint8_t *) data, is_mapped, all * number / parts, all * (number + 1) / parts);
    };
    std::vector<std::thread> others;
    for (int64_t number = 1; number < parts; number++) {
        others.emplace_back(part, number);
    }
    part(0);
    for (std::thread & other : others) {
        other.join();
    }
}

// ggml's own way to free a buffer; the same for all of the plain type.
void (*free_plain)(ggml_backend_buffer_t buffer) = nullptr;

// A lock ends with the memory: the allocator may keep the pages.
void free_buffer(ggml_backend_buffer_t buffer) {
    munlock(ggml_backend_buffer_get_base(buffer), ggml_backend_buffer_get_size(buffer));
    free_plain(buffer);
}

ggml_backend_buffer_t allocate(ggml_backend_buffer_type_t buft, size_t size) {
    ggml_backend_buffer_t buffer = ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), size);
    if (buffer != nullptr) {
        // Pages of 2 MiB, where the system has them: the hardware's prefetcher stops at the end of each page, and a decode step
        // reads all weights once.
        span_of(ggml_backend_buffer_get_base(buffer), size).pages().advise(MADV_HUGEPAGE);
        buffer->buft              = buft;
        buffer->iface.init_tensor = nullptr;
        buffer->iface.set_tensor  = set_tensor;
        buffer->iface.get_tensor  = nullptr;
        buffer->iface.cpy_tensor  = nullptr;
        if (size > 0 && locked.load(std::memory_order_relaxed)) {
            // Pages are locked as weights are written to them: before that, pages of the file take their place.
            if (mlock2(ggml_backend_buffer_get_base(buffer), size, MLOCK_ONFAULT) == 0) {
                free_plain                 = buffer->iface.free_buffer;
                buffer->iface.free_buffer  = free_buffer;
            } else {
                unlocked.fetch_add(size, std::memory_order_relaxed);
            }
        }
    }
    return buffer;
}

ggml_backend_buffer_type ours;
// ORDERING: Release by `install`, Acquire by readers: a thread that reads true also reads `ours` filled in.
std::atomic<bool> installed{false};

}  // namespace

}  // namespace cllm

void cllm_matrix_install(void) {
    using namespace cllm;
    static BufferType context;
    ggml_backend_buffer_type_t plain = ggml_backend_cpu_buffer_type();
    if (installed.load(std::memory_order_acquire) || strcmp(plain->iface.get_name(plain), ggml_backend_buft_name(plain)) != 0) {
        return;
    }
    ours.iface.get_name       = name_of;
    ours.iface.alloc_buffer   = allocate;
    ours.iface.get_alignment  = alignment;
    ours.iface.get_alloc_size = bytes_of;
    ours.device               = ggml_backend_reg_dev_get(ggml_backend_cpu_reg(), 0);
    ours.context              = static_cast<ggml::cpu::extra_buffer_type *>(&context);
    auto & offered            = ggml_backend_cpu_get_extra_buffer_types();
    offered.insert(offered.begin(), &ours);
    installed.store(true, std::memory_order_release);
}

void cllm_matrix_leave_to_ggml(bool leave) {
    cllm::left_to_ggml.store(leave, std::memory_order_relaxed);
}

void cllm_matrix_read_from(const void * mapping, size_t size) {
    cllm::mapped = cllm::span_of(mapping, size);
}

size_t cllm_matrix_take_inexact(void) {
    return cllm::inexact.exchange(0, std::memory_order_relaxed);
}

size_t cllm_matrix_lock(bool lock) {
    cllm::locked.store(lock, std::memory_order_relaxed);
    return cllm::unlocked.exchange(0, std::memory_order_relaxed);
}

ggml_backend_buffer_type_t cllm_matrix_buffer_type(void) {
    return cllm::installed.load(std::memory_order_acquire) ? &cllm::ours : nullptr;
}

bool __wrap_llamafile_sgemm(const ggml_compute_params * params, int64_t m, int64_t n, int64_t k, const void * a, int64_t lda,
                            const void * b, int64_t ldb, void * c, int64_t ldc, int a_type, int b_type, int c_type) {
    return cllm::left_to_ggml.load(std::memory_order_relaxed) &&
           __real_llamafile_sgemm(params, m, n, k, a, lda, b, ldb, c, ldc, a_type, b_type, c_type);
}

bool __wrap_ggml_compute_forward_mul_mat_tiled(const ggml_compute_params * params, ggml_tensor * dst) {
    return cllm::left_to_ggml.load(std::memory_order_relaxed) && __real_ggml_compute_forward_mul_mat_tiled(params, dst);
}

bool __wrap_ggml_compute_forward_mul_mat_id_tiled(const ggml_compute_params * params, ggml_tensor * dst, int64_t expert,
                                                  int64_t count, const int32_t * rows, char * scratch) {
    return cllm::left_to_ggml.load(std::memory_order_relaxed) &&
           __real_ggml_compute_forward_mul_mat_id_tiled(params, dst, expert, count, rows, scratch);
}
