// Products with weights in blocks of 32: Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0.

#include "rows.h"
#include "store.h"

namespace cllm {

namespace {

// Nibbles of the first 16 values are the lower ones.
struct Nibbles {
    static constexpr int BITS = 4, WORDS = 4;
    static CLLM_INLINE void weights(const uint8_t * block, ints (&to)[8]) {
        const ints low = all(0x0F0F0F0F);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            const ints two = load(block + i * 64);
            to[i]          = both(two, low);
            to[i + 4]      = both(moved_right<4>(two), low);
        }
    }
};

struct FiveBits {
    static constexpr int BITS = 5, WORDS = 5;
    static CLLM_INLINE void weights(const uint8_t * block, ints (&to)[8]) {
        const ints low = all(0x0F0F0F0F), fifth = all(0x10101010), bits = load(block + 4 * 64);
        const ints two[4] = {load(block), load(block + 64), load(block + 128), load(block + 192)};
        to[0]             = and_or(moved_right<-4>(bits), fifth, both(two[0], low));
        to[1]             = and_or(moved_right<-3>(bits), fifth, both(two[1], low));
        to[2]             = and_or(moved_right<-2>(bits), fifth, both(two[2], low));
        to[3]             = and_or(moved_right<-1>(bits), fifth, both(two[3], low));
        to[4]             = and_or(bits, fifth, both(moved_right<4>(two[0]), low));
        to[5]             = and_or(moved_right<1>(bits), fifth, both(moved_right<4>(two[1]), low));
        to[6]             = and_or(moved_right<2>(bits), fifth, both(moved_right<4>(two[2]), low));
        to[7]             = and_or(moved_right<3>(bits), fifth, both(moved_right<4>(two[3]), low));
    }
};

struct Bytes {
    static constexpr int BITS = 8, WORDS = 8;
    static CLLM_INLINE void weights(const uint8_t * block, ints (&to)[8]) {
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            to[i] = load(block + i * 64);
        }
    }
};

template <class T, bool MINIMA, int R> CLLM_INLINE void product(const Task & task) {
    constexpr int HALVES = MINIMA ? 2 : 1;
    const int64_t blocks = task.k / 32;
    for (int column = 0; column < TILE; column += LANES) {
        const uint8_t * block     = task.tile + column * 4;
        const uint8_t * halves_at = task.tile + (size_t) blocks * T::WORDS * 64 + column * 2;
        const Row32 *   rows      = (const Row32 *) task.rows;
        floats          total[R];
        for (floats & one : total) {
            one = zeros();
        }
        for (int64_t b = 0; b < blocks; b++, block += T::WORDS * 64, halves_at += HALVES * 32, rows += task.count) {
            fetch_ahead<T::WORDS + 1>(task, b * (T::WORDS * 64 + HALVES * 32));
            ints weights[8];
            T::weights(block, weights);
            const floats d = halves(halves_at);
            const floats m = MINIMA ? halves(halves_at + 32) : d;
#pragma GCC unroll 16
            for (int r = 0; r < R; r++) {
                const ints start = MINIMA ? all(0) : starts_at<T::BITS>(rows[r].less_offset);
                const ints sum   = add_products<T::BITS, 8>(start, weights, rows[r].values);
                total[r]         = fma(as_floats(sum), times(d, all_floats(rows[r].scale)), total[r]);
                if (MINIMA) {
                    total[r] = fma(m, all_floats(rows[r].sum), total[r]);
                }
            }
        }
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            store_row(task, r, column, total[r]);
        }
    }
}

template <int R> struct Q40 {
    static void run(const Task & task) { product<Nibbles, false, R>(task); }
};
template <int R> struct Q41 {
    static void run(const Task & task) { product<Nibbles, true, R>(task); }
};
template <int R> struct Q50 {
    static void run(const Task & task) { product<FiveBits, false, R>(task); }
};
template <int R> struct Q51 {
    static void run(const Task & task) { product<FiveBits, true, R>(task); }
};
template <int R> struct Q80 {
    static void run(const Task & task) { product<Bytes, false, R>(task); }
};

}  // namespace

Product product_32(ggml_type type, int rows) {
    switch (type) {
        case GGML_TYPE_Q4_0: return choose<Q40>(rows);
        case GGML_TYPE_Q4_1: return choose<Q41>(rows);
        case GGML_TYPE_Q5_0: return choose<Q50>(rows);
        case GGML_TYPE_Q5_1: return choose<Q51>(rows);
        case GGML_TYPE_Q8_0: return choose<Q80>(rows);
        default:             return nullptr;
    }
}

}  // namespace cllm
