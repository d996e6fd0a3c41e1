// Vectors of 32-bit lanes for the matrix kernels: 16 lanes with AVX-512 VNNI, 8 with AVX2. A lane is a column of the result, so
// that both widths compute each number with the same operations in the same order, and give the same bits.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace cllm {

// Columns of a result that lie side by side in the relaid weights.
constexpr int TILE = 16;

#define CLLM_INLINE inline __attribute__((always_inline))

#if defined(__AVX512VNNI__) && defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define CLLM_WIDE 1
constexpr int LANES = 16;
using ints          = __m512i;
using floats        = __m512;

CLLM_INLINE ints   load(const void * from) { return _mm512_loadu_si512(from); }
CLLM_INLINE void   store(float * to, floats x) { _mm512_storeu_ps(to, x); }
CLLM_INLINE ints   all(int32_t x) { return _mm512_set1_epi32(x); }
CLLM_INLINE floats all_floats(float x) { return _mm512_set1_ps(x); }
CLLM_INLINE floats zeros() { return _mm512_setzero_ps(); }
CLLM_INLINE floats as_floats(ints x) { return _mm512_cvtepi32_ps(x); }
CLLM_INLINE floats halves(const void * from) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) from)); }
CLLM_INLINE floats brains(const void * from) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *) from)), 16));
}
CLLM_INLINE floats fma(floats a, floats b, floats c) { return _mm512_fmadd_ps(a, b, c); }
CLLM_INLINE floats times(floats a, floats b) { return _mm512_mul_ps(a, b); }
CLLM_INLINE floats plus(floats a, floats b) { return _mm512_add_ps(a, b); }
CLLM_INLINE ints   both(ints a, ints b) { return _mm512_and_si512(a, b); }
CLLM_INLINE ints   either(ints a, ints b) { return _mm512_or_si512(a, b); }
// (a & b) | c
CLLM_INLINE ints   and_or(ints a, ints b, ints c) { return _mm512_ternarylogic_epi32(a, b, c, 0xEA); }
CLLM_INLINE ints   right(ints x, int by) { return _mm512_srl_epi32(x, _mm_cvtsi32_si128(by)); }
template <int BY> CLLM_INLINE ints moved_right(ints x) {
    if constexpr (BY >= 0) {
        return _mm512_srli_epi32(x, BY);
    } else {
        return _mm512_slli_epi32(x, -BY);
    }
}
// Byte BYTE of each lane, with its sign.
template <int BYTE> CLLM_INLINE ints signed_byte(ints x) { return _mm512_srai_epi32(_mm512_slli_epi32(x, 24 - 8 * BYTE), 24); }
// Bytes 2 PAIR and 2 PAIR + 1 of each lane as 16-bit numbers.
template <int PAIR> CLLM_INLINE ints byte_pair(ints x) {
    constexpr int A = 2 * PAIR, B = A + 1;
    const __m128i order = _mm_setr_epi8(A, -1, B, -1, A + 4, -1, B + 4, -1, A + 8, -1, B + 8, -1, A + 12, -1, B + 12, -1);
    return _mm512_shuffle_epi8(x, _mm512_broadcast_i32x4(order));
}
// Adds to each lane of `to` the products of its two 16-bit numbers.
CLLM_INLINE ints add_pairs(ints to, ints a, ints b) { return _mm512_dpwssd_epi32(to, a, b); }
#else
constexpr int LANES = 8;
using ints          = __m256i;
using floats        = __m256;

CLLM_INLINE ints   load(const void * from) { return _mm256_loadu_si256((const __m256i *) from); }
CLLM_INLINE void   store(float * to, floats x) { _mm256_storeu_ps(to, x); }
CLLM_INLINE ints   all(int32_t x) { return _mm256_set1_epi32(x); }
CLLM_INLINE floats all_floats(float x) { return _mm256_set1_ps(x); }
CLLM_INLINE floats zeros() { return _mm256_setzero_ps(); }
CLLM_INLINE floats as_floats(ints x) { return _mm256_cvtepi32_ps(x); }
CLLM_INLINE floats halves(const void * from) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) from)); }
CLLM_INLINE floats brains(const void * from) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *) from)), 16));
}
CLLM_INLINE floats fma(floats a, floats b, floats c) { return _mm256_fmadd_ps(a, b, c); }
CLLM_INLINE floats times(floats a, floats b) { return _mm256_mul_ps(a, b); }
CLLM_INLINE floats plus(floats a, floats b) { return _mm256_add_ps(a, b); }
CLLM_INLINE ints   both(ints a, ints b) { return _mm256_and_si256(a, b); }
CLLM_INLINE ints   either(ints a, ints b) { return _mm256_or_si256(a, b); }
CLLM_INLINE ints   and_or(ints a, ints b, ints c) { return _mm256_or_si256(_mm256_and_si256(a, b), c); }
CLLM_INLINE ints   right(ints x, int by) { return _mm256_srl_epi32(x, _mm_cvtsi32_si128(by)); }
template <int BY> CLLM_INLINE ints moved_right(ints x) {
    if constexpr (BY >= 0) {
        return _mm256_srli_epi32(x, BY);
    } else {
        return _mm256_slli_epi32(x, -BY);
    }
}
template <int BYTE> CLLM_INLINE ints signed_byte(ints x) { return _mm256_srai_epi32(_mm256_slli_epi32(x, 24 - 8 * BYTE), 24); }
template <int PAIR> CLLM_INLINE ints byte_pair(ints x) {
    constexpr int A = 2 * PAIR, B = A + 1;
    const __m128i order = _mm_setr_epi8(A, -1, B, -1, A + 4, -1, B + 4, -1, A + 8, -1, B + 8, -1, A + 12, -1, B + 12, -1);
    return _mm256_shuffle_epi8(x, _mm256_broadcastsi128_si256(order));
}
CLLM_INLINE ints add_pairs(ints to, ints a, ints b) { return _mm256_add_epi32(to, _mm256_madd_epi16(a, b)); }
#endif

// Byte BYTE of each lane.
template <int BYTE> CLLM_INLINE ints byte(ints x) { return both(moved_right<8 * BYTE>(x), all(0xFF)); }

CLLM_INLINE int32_t word(const void * from) {
    int32_t x;
    memcpy(&x, from, sizeof(x));
    return x;
}

// What a sum of products begins with, where `less` takes back what weights of BITS bits have added.
template <int BITS> CLLM_INLINE ints starts_at(int32_t less) {
#ifndef CLLM_WIDE
    if constexpr (BITS == 8) {
        return all(0);
    }
#endif
    return all(less);
}

// Adds to each lane of `to` what its bytes of weights give with the bytes of a row, for N words of 4 bytes. Weights have BITS
// bits without a sign; rows' numbers lie in -127..=127. 8-bit weights are stored with 128 added.
template <int BITS, int N> CLLM_INLINE ints add_products(ints to, const ints * weights, const int8_t * row) {
#ifdef CLLM_WIDE
#pragma GCC unroll 8
    for (int i = 0; i < N; i++) {
        to = _mm512_dpbusd_epi32(to, weights[i], all(word(row + 4 * i)));
    }
    return to;
#else
    const __m256i ones = _mm256_set1_epi16(1);
    if constexpr (BITS == 8) {
        // |w| x (row with w's sign): at most 128 x 127 x 2 in 16 bits. No excess is left to take back: `starts_at`.
        const __m256i excess = _mm256_set1_epi8((char) 0x80);
#pragma GCC unroll 8
        for (int i = 0; i < N; i++) {
            const __m256i w = _mm256_xor_si256(weights[i], excess);
            const __m256i p = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(all(word(row + 4 * i)), w));
            to              = _mm256_add_epi32(to, _mm256_madd_epi16(p, ones));
        }
        return to;
    } else {
        // As many products as 16 bits hold are added there.
        constexpr int ROOM = BITS == 4 ? 8 : BITS == 5 ? 4 : 2;
#pragma GCC unroll 8
        for (int from = 0; from < N; from += ROOM) {
            __m256i sums = _mm256_maddubs_epi16(weights[from], all(word(row + 4 * from)));
#pragma GCC unroll 8
            for (int i = from + 1; i < (from + ROOM < N ? from + ROOM : N); i++) {
                sums = _mm256_add_epi16(sums, _mm256_maddubs_epi16(weights[i], all(word(row + 4 * i))));
            }
            to = _mm256_add_epi32(to, _mm256_madd_epi16(sums, ones));
        }
        return to;
    }
#endif
}

}  // namespace cllm
