// Vectors of 32-bit floats for attention: 16 lanes with AVX-512, 8 with AVX2.
#pragma once

#include <immintrin.h>

#include <cmath>
#include <cstdint>

namespace cllm::attention {

using half = uint16_t;

#if defined(__AVX512F__)
using floats            = __m512;
constexpr int LANES     = 16;
constexpr int PANEL_MAX = 4;  // vectors of rows that stay in registers: 4 x 4 sums of 32 registers

inline floats load(const float * from) { return _mm512_loadu_ps(from); }
inline void   store(float * to, floats x) { _mm512_storeu_ps(to, x); }
inline floats all(float x) { return _mm512_set1_ps(x); }
inline floats of_halves(const half * from) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) from)); }
inline floats larger(floats a, floats b) { return _mm512_max_ps(a, b); }
inline floats fma(floats a, floats b, floats c) { return _mm512_fmadd_ps(a, b, c); }
inline __m256 folded(floats x) {
    return _mm256_add_ps(_mm512_castps512_ps256(x), _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1)));
}
inline float  largest(floats x) { return _mm512_reduce_max_ps(x); }
inline bool   differ(floats a, floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ) != 0; }
// Lanes of `x` whose word of `bits` has bit `at`, minus infinity in the others.
inline floats only(floats x, const uint32_t * bits, int at) {
    const __mmask16 seen = _mm512_test_epi32_mask(_mm512_loadu_si512(bits), _mm512_set1_epi32((int) (1u << at)));
    return _mm512_mask_blend_ps(seen, all(-INFINITY), x);
}
// Lanes of `x` whose bit of `bits` is set, minus infinity in the others.
inline floats only_bits(floats x, uint32_t bits) { return _mm512_mask_blend_ps((__mmask16) bits, all(-INFINITY), x); }
// 2 to the power of whole numbers from -126 to 127.
inline floats power_of_two(floats n) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
}
inline floats rounded(floats x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline floats where_at_least(floats x, float limit, floats then) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, all(limit), _CMP_GE_OQ), then);
}
// Steps of `sums_of`: vectors 0, 4, 8 ... of `x` with their lanes added until four of each are left, then two, then one.
inline floats four_lanes(const floats * x) {
    const floats ab = _mm512_shuffle_f32x4(x[0], x[4], 0x44) + _mm512_shuffle_f32x4(x[0], x[4], 0xEE);
    const floats cd = _mm512_shuffle_f32x4(x[8], x[12], 0x44) + _mm512_shuffle_f32x4(x[8], x[12], 0xEE);
    return _mm512_shuffle_f32x4(ab, cd, 0x88) + _mm512_shuffle_f32x4(ab, cd, 0xDD);
}
inline floats two_lanes(floats a, floats b) {
    const __m512d y = _mm512_castps_pd(a), z = _mm512_castps_pd(b);
    return _mm512_castpd_ps(_mm512_unpacklo_pd(y, z)) + _mm512_castpd_ps(_mm512_unpackhi_pd(y, z));
}
inline floats one_lane(floats a, floats b) { return _mm512_shuffle_ps(a, b, 0x88) + _mm512_shuffle_ps(a, b, 0xDD); }
#else
using floats            = __m256;
constexpr int LANES     = 8;
constexpr int PANEL_MAX = 2;  // 4 x 2 sums of 16 registers

inline floats load(const float * from) { return _mm256_loadu_ps(from); }
inline void   store(float * to, floats x) { _mm256_storeu_ps(to, x); }
inline floats all(float x) { return _mm256_set1_ps(x); }
inline floats of_halves(const half * from) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) from)); }
inline floats larger(floats a, floats b) { return _mm256_max_ps(a, b); }
inline floats fma(floats a, floats b, floats c) { return _mm256_fmadd_ps(a, b, c); }
inline __m256 folded(floats x) { return x; }
inline float largest(floats x) {
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    four        = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}
inline bool   differ(floats a, floats b) { return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_NEQ_UQ)) != 0; }
inline floats only(floats x, const uint32_t * bits, int at) {
    const __m256i bit  = _mm256_set1_epi32((int) (1u << at));
    const __m256i seen = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_loadu_si256((const __m256i *) bits), bit), bit);
    return _mm256_blendv_ps(all(-INFINITY), x, _mm256_castsi256_ps(seen));
}
inline floats only_bits(floats x, uint32_t bits) {
    const __m256i own  = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i seen = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int) bits), own), own);
    return _mm256_blendv_ps(all(-INFINITY), x, _mm256_castsi256_ps(seen));
}
inline floats power_of_two(floats n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
inline floats rounded(floats x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline floats where_at_least(floats x, float limit, floats then) {
    return _mm256_and_ps(_mm256_cmp_ps(x, all(limit), _CMP_GE_OQ), then);
}
inline floats four_lanes(const floats * x) {
    return _mm256_permute2f128_ps(x[0], x[4], 0x20) + _mm256_permute2f128_ps(x[0], x[4], 0x31);
}
inline floats two_lanes(floats a, floats b) {
    const __m256d y = _mm256_castps_pd(a), z = _mm256_castps_pd(b);
    return _mm256_castpd_ps(_mm256_unpacklo_pd(y, z)) + _mm256_castpd_ps(_mm256_unpackhi_pd(y, z));
}
inline floats one_lane(floats a, floats b) { return _mm256_shuffle_ps(a, b, 0x88) + _mm256_shuffle_ps(a, b, 0xDD); }
#endif

// Lanes are added by halves: 0 and 8, 1 and 9 ..., then 0 and 4 ..., 0 and 2, 0 and 1.
inline float sum(floats x) {
    const __m256 eight = folded(x);
    __m128       four  = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four               = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}

// The sums of as many vectors as there are lanes, each added as `sum` adds it: at each step two vectors share one addition.
inline floats sums_of(const floats (&x)[LANES]) {
    // Of every fourth vector, four lanes each are left.
    floats quarters[4];
    for (int g = 0; g < 4; g++) {
        quarters[g] = four_lanes(x + g);
    }
    const floats a = two_lanes(quarters[0], quarters[1]), b = two_lanes(quarters[2], quarters[3]);
    return one_lane(a, b);
}

// The lane that is number n when lanes are taken so that each can be added to those before it: 0, 8, 4, 12, 2 ...
constexpr int by_halves(int n) {
    int lane = 0;
    for (int bit = 1; bit < LANES; bit *= 2) {
        lane = lane * 2 + (n & bit ? 1 : 0);
    }
    return lane;
}

// e to the power of x, for x of at most 0; 0 where a normal number can't hold it. The coefficients are Taylor's, whose
// next one adds less than 2e-7 of the value between -ln 2 / 2 and ln 2 / 2.
inline floats exponential(floats x) {
    constexpr float LEAST = -87.0f;
    const floats    y     = larger(x, all(LEAST));
    const floats    n     = rounded(y * all(1.44269504f));
    const floats    r     = fma(n, all(2.12194440e-4f), fma(n, all(-0.693359375f), y));
    floats          p     = all(1.0f / 720);
    for (float next : {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) {
        p = fma(p, r, all(next));
    }
    return where_at_least(x, LEAST, p * power_of_two(n));
}

}  // namespace cllm::attention
