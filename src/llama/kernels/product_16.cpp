// Products with 16-bit floating-point weights, F16 and BF16, in 32-bit arithmetic: even and odd values are added apart.

#include "store.h"

namespace cllm {

namespace {

template <bool BRAIN> CLLM_INLINE floats weights(const uint8_t * from) {
    return BRAIN ? brains(from) : halves(from);
}

template <bool BRAIN, int R> CLLM_INLINE void product(const Task & task) {
    for (int column = 0; column < TILE; column += LANES) {
        const uint8_t * from = task.tile + column * 2;
        const float *   rows = (const float *) task.rows;
        floats          even[R], odd[R];
        for (int r = 0; r < R; r++) {
            even[r] = zeros();
            odd[r]  = zeros();
        }
        int64_t i = 0;
        for (; i + 2 <= task.k; i += 2, from += 64) {
            fetch_ahead<1>(task, i * 32);
            const floats first = weights<BRAIN>(from), second = weights<BRAIN>(from + 32);
#pragma GCC unroll 16
            for (int r = 0; r < R; r++) {
                even[r] = fma(first, all_floats(rows[r * task.k + i]), even[r]);
                odd[r]  = fma(second, all_floats(rows[r * task.k + i + 1]), odd[r]);
            }
        }
        if (i < task.k) {
            const floats last = weights<BRAIN>(from);
            for (int r = 0; r < R; r++) {
                even[r] = fma(last, all_floats(rows[r * task.k + i]), even[r]);
            }
        }
        for (int r = 0; r < R; r++) {
            store_row(task, r, column, plus(even[r], odd[r]));
        }
    }
}

template <int R> struct F16 {
    static void run(const Task & task) { product<false, R>(task); }
};
template <int R> struct BF16 {
    static void run(const Task & task) { product<true, R>(task); }
};

}  // namespace

Product product_16(ggml_type type, int rows) {
    switch (type) {
        case GGML_TYPE_F16:  return choose<F16, ROWS_MAX_FLOATS>(rows);
        case GGML_TYPE_BF16: return choose<BF16, ROWS_MAX_FLOATS>(rows);
        default:             return nullptr;
    }
}

}  // namespace cllm
