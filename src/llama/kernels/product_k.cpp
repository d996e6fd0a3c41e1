// Products with weights in blocks of 256: Q4_K, Q5_K and Q6_K. A block's weights are multiplied 32 (Q6_K: 16) at a time in
// whole numbers, those sums get their scales, and the block's sum gets the row's scale.

#include "rows.h"
#include "store.h"

namespace cllm {

namespace {

// Weights of 32 values; `pair` counts 64 of them, of which `UPPER` takes the second half.
struct Nibbles {
    static constexpr int BITS = 4, WORDS = 35, SCALES = 32;
    template <bool UPPER> static CLLM_INLINE void weights(const uint8_t * block, int pair, ints (&to)[8]) {
        const ints low = all(0x0F0F0F0F);
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            to[i] = both(moved_right<UPPER ? 4 : 0>(load(block + (pair * 8 + i) * 64)), low);
        }
    }
};

struct FiveBits {
    static constexpr int BITS = 5, WORDS = 43, SCALES = 40;
    template <bool UPPER> static CLLM_INLINE void weights(const uint8_t * block, int pair, ints (&to)[8]) {
        const ints low = all(0x0F0F0F0F), fifth = all(0x10101010);
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            const ints nibbles = both(moved_right<UPPER ? 4 : 0>(load(block + (pair * 8 + i) * 64)), low);
            const ints bits    = right(load(block + (32 + i) * 64), 2 * pair);
            to[i]              = and_or(moved_right<UPPER ? -3 : -4>(bits), fifth, nibbles);
        }
    }
};

// Scales and minima have 6 bits, of which 12 bytes hold eight each as ggml packs them.
struct Packed {
    ints scales[2], minima[2];
    explicit CLLM_INLINE Packed(const uint8_t * from) {
        const ints six = all(0x3F3F3F3F), four = all(0x0F0F0F0F), two = all(0x30303030);
        const ints a = load(from), b = load(from + 64), c = load(from + 128);
        scales[0] = both(a, six);
        minima[0] = both(b, six);
        scales[1] = and_or(moved_right<2>(a), two, both(c, four));
        minima[1] = and_or(moved_right<2>(b), two, both(moved_right<4>(c), four));
    }
};

template <class T, int R> CLLM_INLINE void with_minima(const Task & task) {
    constexpr int QUARTER = (T::WORDS + 1) / 4;  // lines of a block with its scales
    const int64_t blocks = task.k / 256;
    for (int column = 0; column < TILE; column += LANES) {
        floats total[R];
        for (floats & one : total) {
            one = zeros();
        }
        for (int64_t b = 0; b < blocks; b++) {
            const uint8_t * block  = task.tile + (size_t) b * T::WORDS * 64 + column * 4;
            const uint8_t * halves_at = task.tile + (size_t) blocks * T::WORDS * 64 + (size_t) b * 64 + column * 2;
            const Row256 *  rows   = (const Row256 *) task.rows + b * task.count;
            const Packed    packed(block + T::SCALES * 64);
            const floats    d = halves(halves_at), less = times(halves(halves_at + 32), all_floats(-1));

            floats     scales[8], sums[R];
            const ints minima[4] = {byte_pair<0>(packed.minima[0]), byte_pair<1>(packed.minima[0]), byte_pair<0>(packed.minima[1]),
                                    byte_pair<1>(packed.minima[1])};
            scales[0] = times(as_floats(byte<0>(packed.scales[0])), d);
            scales[1] = times(as_floats(byte<1>(packed.scales[0])), d);
            scales[2] = times(as_floats(byte<2>(packed.scales[0])), d);
            scales[3] = times(as_floats(byte<3>(packed.scales[0])), d);
            scales[4] = times(as_floats(byte<0>(packed.scales[1])), d);
            scales[5] = times(as_floats(byte<1>(packed.scales[1])), d);
            scales[6] = times(as_floats(byte<2>(packed.scales[1])), d);
            scales[7] = times(as_floats(byte<3>(packed.scales[1])), d);
#pragma GCC unroll 16
            for (int r = 0; r < R; r++) {
                ints sum = all(0);
#pragma GCC unroll 4
                for (int i = 0; i < 4; i++) {
                    sum = add_pairs(sum, minima[i], all(word(rows[r].sums + 2 * i)));
                }
                sums[r] = times(as_floats(sum), less);
            }
            for (int pair = 0; pair < 4; pair++) {
                fetch_ahead<QUARTER>(task, b * (T::WORDS + 1) * 64 + pair * QUARTER * 64);
                ints weights[8];
                T::template weights<false>(block, pair, weights);
#pragma GCC unroll 16
                for (int r = 0; r < R; r++) {
                    const ints sum = add_products<T::BITS, 8>(all(0), weights, rows[r].values + 64 * pair);
                    sums[r]        = fma(as_floats(sum), scales[2 * pair], sums[r]);
                }
                T::template weights<true>(block, pair, weights);
#pragma GCC unroll 16
                for (int r = 0; r < R; r++) {
                    const ints sum = add_products<T::BITS, 8>(all(0), weights, rows[r].values + 64 * pair + 32);
                    sums[r]        = fma(as_floats(sum), scales[2 * pair + 1], sums[r]);
                }
            }
#pragma GCC unroll 16
            for (int r = 0; r < R; r++) {
                total[r] = fma(sums[r], all_floats(rows[r].scale), total[r]);
            }
        }
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            store_row(task, r, column, total[r]);
        }
    }
}

// 32 weights of six bits: the QUARTER-th 32 of 128, whose nibbles begin at `nibbles` and whose upper bits at `upper`.
template <int QUARTER> CLLM_INLINE void six_bits(const uint8_t * nibbles, const uint8_t * upper, ints (&to)[8]) {
    const ints low = all(0x0F0F0F0F), two = all(0x30303030);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        const ints four = both(moved_right<QUARTER / 2 * 4>(load(nibbles + (QUARTER % 2 * 8 + i) * 64)), low);
        to[i]           = and_or(moved_right<2 * QUARTER - 4>(load(upper + i * 64)), two, four);
    }
}

template <int R> struct SixBits {
    template <int QUARTER>
    static CLLM_INLINE void quarter(const uint8_t * nibbles, const uint8_t * upper, const floats * scales, const Row256 * rows,
                                    int half, floats (&sums)[R]) {
        ints weights[8];
        six_bits<QUARTER>(nibbles, upper, weights);
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            const int8_t *  values = rows[r].values + half * 128 + QUARTER * 32;
            const int32_t * less   = rows[r].less_32 + half * 8 + QUARTER * 2;
            const ints      first  = add_products<6, 4>(all(less[0]), weights, values);
            const ints      second = add_products<6, 4>(all(less[1]), weights + 4, values + 16);
            sums[r]                = fma(as_floats(first), scales[0], sums[r]);
            sums[r]                = fma(as_floats(second), scales[1], sums[r]);
        }
    }

    static void run(const Task & task) {
        constexpr int WORDS  = 52;
        constexpr int HALF   = 27;  // lines of half a block with its scales
        const int64_t blocks = task.k / 256;
        for (int column = 0; column < TILE; column += LANES) {
            floats total[R];
            for (floats & one : total) {
                one = zeros();
            }
            for (int64_t b = 0; b < blocks; b++) {
                const uint8_t * block = task.tile + (size_t) b * WORDS * 64 + column * 4;
                const floats    d     = halves(task.tile + (size_t) blocks * WORDS * 64 + (size_t) b * 32 + column * 2);
                const Row256 *  rows  = (const Row256 *) task.rows + b * task.count;

                floats scales[16], sums[R];
#pragma GCC unroll 4
                for (int i = 0; i < 4; i++) {
                    const ints four   = load(block + (48 + i) * 64);
                    scales[4 * i]     = times(as_floats(signed_byte<0>(four)), d);
                    scales[4 * i + 1] = times(as_floats(signed_byte<1>(four)), d);
                    scales[4 * i + 2] = times(as_floats(signed_byte<2>(four)), d);
                    scales[4 * i + 3] = times(as_floats(signed_byte<3>(four)), d);
                }
                for (floats & one : sums) {
                    one = zeros();
                }
                for (int half = 0; half < 2; half++) {
                    const uint8_t * nibbles = block + half * 16 * 64;
                    const uint8_t * upper   = block + (32 + half * 8) * 64;
                    const floats *  own     = scales + half * 8;
                    fetch_ahead<HALF>(task, b * (WORDS * 64 + 32) + half * HALF * 64);
                    quarter<0>(nibbles, upper, own, rows, half, sums);
                    quarter<1>(nibbles, upper, own + 2, rows, half, sums);
                    quarter<2>(nibbles, upper, own + 4, rows, half, sums);
                    quarter<3>(nibbles, upper, own + 6, rows, half, sums);
                }
#pragma GCC unroll 16
                for (int r = 0; r < R; r++) {
                    total[r] = fma(sums[r], all_floats(rows[r].scale), total[r]);
                }
            }
#pragma GCC unroll 16
            for (int r = 0; r < R; r++) {
                store_row(task, r, column, total[r]);
            }
        }
    }
};

template <int R> struct Q4 {
    static void run(const Task & task) { with_minima<Nibbles, R>(task); }
};

template <int R> struct Q5 {
    static void run(const Task & task) { with_minima<FiveBits, R>(task); }
};

}  // namespace

Product product_k(ggml_type type, int rows) {
    switch (type) {
        case GGML_TYPE_Q4_K: return choose<Q4>(rows);
        case GGML_TYPE_Q5_K: return choose<Q5>(rows);
        case GGML_TYPE_Q6_K: return choose<SixBits>(rows);
        default:             return nullptr;
    }
}

}  // namespace cllm
